"""Plug-ins outside the workspace, really installed: found, refused, named (A3 to A8)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

DATA = Path(__file__).parent / "data"

Run = Callable[..., str]


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every distribution of the test data, built once."""
    folder = tmp_path_factory.mktemp("wheels")
    sources = sorted(str(path) for path in DATA.iterdir() if path.is_dir())
    _pip("wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), *sources)
    return folder


def _pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "-q", *arguments], check=True)


@pytest.fixture(scope="session")
def run(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run code with some of the distributions installed beside stockade."""
    places: dict[tuple[str, ...], Path] = {}

    def run(code: str, *names: str, disabled: str = "") -> str:
        if names not in places:
            target = places[names] = tmp_path_factory.mktemp("site")
            found = [next(wheels.glob(f"stockade_test_{name}-*.whl")) for name in names]
            _pip("install", "--no-deps", "--no-index", "--target", str(target), *map(str, found))
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            env={
                **os.environ,
                "PYTHONPATH": str(places[names]),
                "STOCKADE_DISABLED_PLUGINS": disabled,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout + done.stderr

    return run


OPEN = """
import stockade
try:
    stockade.provider("{name}")
    print("loaded")
except stockade.StockadeError as error:
    print(type(error).__name__, "|", error, "|", type(error.__cause__).__name__)
"""


def test_A1_found_by_its_name(run: Run) -> None:
    code = "import stockade; print(type(stockade.provider('good').wall).__name__)"
    assert run(code, "good") == "GoodWall\n"


def test_A3_listing_imports_none_and_selecting_one_imports_it_alone(run: Run) -> None:
    code = """
import sys, stockade
def loaded(): return sorted(name for name in sys.modules if name.startswith("stockade_"))
print([(p.name, p.distribution, p.version) for p in stockade.installed_providers()
       if p.distribution.startswith("stockade-test")], loaded())
stockade.provider("good")
print(loaded())
"""
    listed, selected = run(code, "good", "broken_import", "away").splitlines()
    assert "('broken', 'stockade-test-broken-import', '1.2.3')" in listed
    assert listed.endswith(" []")
    assert selected == "['stockade_test_good']"


def test_A4_unknown_names(run: Run) -> None:
    said = run(OPEN.format(name="kubernetes"), "good")
    assert "pip install ./supervisor ./plugins/kubernetes" in said and "good" in said
    said = run(OPEN.format(name="goood"), "good")
    assert "did you mean 'good'" in said and said.startswith("ProviderNotFoundError")


def test_A5_two_distributions_of_one_name(run: Run) -> None:
    said = run(OPEN.format(name="twice"), "duplicate_a", "duplicate_b")
    assert said.startswith("DuplicateProviderError")
    assert "stockade-test-duplicate-a" in said and "stockade-test-duplicate-b" in said
    assert run(OPEN.format(name="good"), "duplicate_a", "duplicate_b", "good") == "loaded\n"


@pytest.mark.parametrize(
    ("data", "name", "says", "cause"),
    [
        ("broken_import", "broken", "a_module_that_is_not_there", "ModuleNotFoundError"),
        ("misspelled_hook", "misspelled", "stockade_wal", "PluginValidationError"),
        ("too_new", "toonew", "API version 99", "NoneType"),
        ("no_version", "noversion", "STOCKADE_API_VERSION", "NoneType"),
        ("not_a_wall", "notawall", "not a subclass", "NoneType"),
        ("raising", "raising", "hook broke", "RuntimeError"),
    ],
)
def test_A6_broken_ones_name_distribution_entry_point_and_cause(
    run: Run, data: str, name: str, says: str, cause: str
) -> None:
    said = run(OPEN.format(name=name), data, "good")
    assert said.startswith("PluginError") and said.rstrip().endswith(cause), said
    assert f"stockade-test-{data.replace('_', '-')}" in said and repr(name) in said and says in said
    assert run(OPEN.format(name="good"), data, "good") == "loaded\n"


def test_A6_the_listing_shows_the_broken_as_broken(run: Run) -> None:
    code = """
import stockade
for info in stockade.inspect_providers():
    if info.distribution.startswith("stockade-test"):
        print(info.name, info.available, info.broken, info.reason)
"""
    lines = run(code, "good", "away", "broken_import", "duplicate_a", "duplicate_b").splitlines()
    reported = {line.split(" ", 1)[0]: line for line in lines}
    assert reported["good"] == "good True False "
    assert reported["away"].startswith(
        "away False False engine: the test's engine (mend it: start it)"
    )
    assert "True distribution stockade-test-broken-import 1.2.3" in reported["broken"]
    assert "True provider 'twice' is claimed by" in reported["twice"]


def test_A7_an_order_of_preference(run: Run) -> None:
    code = """
import stockade
p = stockade.provider("broken:a?memory_mb=1 | away | good | inhouse:target?memory_mb=64")
print(p.name, p.wall.target, p.config.memory_mb)
for one in p.passed_over:
    print(one.provider, one.reason)
try:
    stockade.provider(["away", "nowhere"])
except stockade.ProviderUnavailableError as error:
    print(error)
"""
    said = run(code, "good", "away", "broken_import", "inhouse")
    taken, broken, away, good, none = said.splitlines()
    assert taken == "inhouse target 64"
    assert broken.startswith("broken:a ") and "a_module_that_is_not_there" in broken
    assert away.startswith("away ") and "start it" in away
    assert good.startswith("good good cannot hold what was asked: memory_mb=512 needs memory")
    assert (
        none.startswith("nothing of 'away | nowhere' can be used: [away] ") and "[nowhere]" in none
    )


LOCAL = """
import sys, stockade
from stockade.sessions._runtime import Runtime
from stockade.selection._discovery import embedded
from stockade.wall import Availability, Check, Wall
class Away(Wall):
    def probe(self):
        return Availability((Check("kernel", False, "too old", "update it"),))
    def open(self, request):
        raise NotImplementedError
print(embedded())
ours = Runtime(discover_plugins=False)
for name in {away}:
    ours.walls.add(name, Away)
p = stockade.provider("local", runtime=ours)
print(p.name, [one.provider for one in p.passed_over])
print(sorted(name for name in sys.modules if name.startswith("stockade_test")))
"""


def test_A7_local_stands_for_embedded_walls_of_other_plug_ins_last(run: Run) -> None:
    """And nothing else is imported; a name that another distribution has counts for nothing."""
    said = run(LOCAL.format(away=["bubblewrap", "landlock"]), "inhouse", "away")
    found, taken, imported = said.splitlines()
    assert found == "(['bubblewrap', 'landlock'], ['inhouse'])"
    assert taken == "inhouse ['bubblewrap', 'landlock']"
    assert imported == "['stockade_test_inhouse']"


def test_A3_local_imports_only_what_it_tries(run: Run) -> None:
    code = """
import sys, stockade
from stockade.sessions._runtime import Runtime
from stockade.wall import Availability, Wall
from stockade_test_inhouse import InhouseWall
ours = Runtime(discover_plugins=False)
ours.walls.add("bubblewrap", InhouseWall)
print(stockade.provider("local", runtime=ours).name)
print(sorted({name.partition(".")[0] for name in sys.modules if name.startswith("stockade_")}))
"""
    assert run(code, "inhouse") == "bubblewrap\n['stockade_test_inhouse']\n"


def test_local_is_no_name_for_a_plug_in(run: Run) -> None:
    code = """
import stockade
(found,) = [found for found in stockade.inspect_providers() if found.name == "local"]
print(found.broken, found.reason)
"""
    said = run(code, "local")
    assert said.startswith("True distribution stockade-test-local") and "stockade's own" in said


def test_A8_one_that_is_away_says_why(run: Run) -> None:
    code = "import stockade\ntry: stockade.open('away')\nexcept Exception as e: print(type(e), e)"
    said = run(code, "away")
    assert "ProviderUnavailableError" in said and "start it" in said


OPENING = """
import stockade
for agent in ("alice", "mallory"):
    try:
        stockade.open("good", agent_id=agent, memory_mb=None)
    except stockade.StockadeError as error:
        print(agent, type(error).__name__, error)
"""


def test_installed_policies_and_observers_are_heard(run: Run) -> None:
    said = run(OPENING, "good", "policy")
    assert "mallory PolicyRefusedError" in said and "mallory runs nothing here" in said
    assert "alice UnsupportedError" in said and "event session.refused" in said


def test_a_broken_policy_refuses_every_session(run: Run) -> None:
    said = run(OPENING, "good", "broken_policy")
    assert said.count("PluginError") == 2 and "stockade-test-broken-policy" in said


def test_the_refusal_says_how_to_block_a_broken_policy_and_blocking_it_helps(run: Run) -> None:
    said = run(OPENING, "good", "broken_policy")
    (name,) = set(re.findall(r"STOCKADE_DISABLED_PLUGINS=([a-z-]+)", said))
    said = run(OPENING, "good", "broken_policy", disabled=name)
    assert said.count("UnsupportedError") == 2, said


@pytest.mark.parametrize(
    "disabled", ["policy", " stockade-test-policy ,x", "x,stockade-test-policy:policy"]
)
def test_plug_ins_are_blocked_by_either_name_or_both(run: Run, disabled: str) -> None:
    code = f"import logging\nlogging.basicConfig()\n{OPENING}"
    said = run(code, "good", "policy", disabled=disabled)
    assert said.count("UnsupportedError") == 2 and "mallory runs nothing here" not in said
    assert said.count("stockade-test-policy:policy is not loaded") == 1  # said once


def test_a_blocked_provider_is_not_imported(run: Run) -> None:
    code = OPEN.format(name="good") + "import sys\nprint('stockade_test_good' in sys.modules)"
    said = run(code, "good", disabled="good")
    assert said.startswith("PluginError") and "STOCKADE_DISABLED_PLUGINS" in said
    assert said.endswith("False\n")


def test_A5_blocking_one_of_two_leaves_the_other(run: Run) -> None:
    said = run(OPEN.format(name="twice"), "duplicate_a", "duplicate_b")
    assert "STOCKADE_DISABLED_PLUGINS=stockade-test-duplicate-a" in said
    names = ("duplicate_a", "duplicate_b")
    blocked = "stockade-test-duplicate-a"
    code = "import stockade; print(type(stockade.provider('twice').wall).__module__)"
    assert run(code, *names, disabled=blocked) == "stockade_test_duplicate_b\n"


def test_the_selected_providers_other_hooks_are_heard_from_then_on(run: Run) -> None:
    code = """
import stockade
try:
    stockade.open("good", memory_mb=None, agent_id="")
except ValueError:
    pass
print(stockade.default_runtime().hooks.implementers("stockade_wall"))
stockade.provider("good"); stockade.provider("away")
print(stockade.default_runtime().hooks.implementers("stockade_wall"))
print(type(stockade.provider("good").wall).__name__)
"""
    first, second, wall = run(code, "good", "away").splitlines()
    assert first == "['stockade-test-good:good (provider)']"
    assert second == "['stockade-test-away:away (provider)', 'stockade-test-good:good (provider)']"
    assert wall == "GoodWall"  # the hook of the one that was named, of all that are registered


def test_the_listing_of_all_plug_ins(run: Run) -> None:
    code = """
import stockade
for info in stockade.inspect_plugins():
    if info.distribution.startswith("stockade-test"):
        print(info.group, info.distribution, info.hooks, info.broken, info.blocked, info.reason)
print(stockade.default_runtime().hooks.implementers("stockade_event"))
"""
    said = run(
        code,
        "good",
        "policy",
        "broken_policy",
        "raising",
        "duplicate_a",
        "duplicate_b",
        disabled="raising",
    )
    lines = dict(line.split(" ", 2)[1:] for line in said.splitlines()[:-1])
    assert lines["stockade-test-good"] == "('stockade_wall',) False False "
    policy = "('stockade_event', 'stockade_session_policy') False False "
    assert lines["stockade-test-policy"] == policy
    assert lines["stockade-test-broken-policy"].startswith("() True False distribution")
    assert lines["stockade-test-raising"].startswith("() False True STOCKADE_DISABLED_PLUGINS")
    assert "() " not in lines["stockade-test-duplicate-a"]
    assert "uninstall all but one" in lines["stockade-test-duplicate-b"]
    assert said.splitlines()[-1] == "[]"  # looking registered none of them


def test_the_command_lines_hooks(run: Run) -> None:
    code = "import sys; sys.argv = ['stockade', *{words}]; from stockade.cli import main; main()"

    def cli(*words: str, disabled: str = "") -> str:
        return run(code.format(words=words), "good", "extras", "broken_policy", disabled=disabled)

    assert cli("hello") == "hello from a plug-in\n"
    assert cli("run", "--note", "--help").startswith("Usage")
    assert "--note" in cli("run", "--help")
    assert "No such command 'hello'" in cli("hello", disabled="extras")
    said = cli("doctor")
    assert "missing  a server of its own: it is away" in said and "mend it: start it" in said
    (name,) = re.findall(r"missing  plug-in (\w+): distribution stockade-test-broken", said)
    assert f"STOCKADE_DISABLED_PLUGINS={name}" in said
    assert "a server of its own" not in cli("doctor", "-p", "good")
    listed = cli("plugins")
    assert "stockade_languages" in listed and "broken: distribution" in listed


def test_sections_of_a_conformance_report(run: Run, landlock: str) -> None:
    code = """
import json, sys
from stockade.cli import main
sys.argv = ["stockade", "conformance", "-p", "landlock", "--clause", "A4", "--json", "-"]
main()
"""
    report = json.loads(run(code, "good", "extras"))
    assert report["sections"] == {"extras": {"of": "landlock"}}
