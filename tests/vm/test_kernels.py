"""The kernels' lane, without a guest: what it would run, and as whom."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import kernels
from guest import lanes, machine, outcome, recipe

from stockade.testing.runner import checks_of


def _options(script: str) -> list[str]:
    (line,) = [line for line in script.splitlines() if line.startswith("export ")]
    (words,) = [word for word in shlex.split(line) if word.startswith("PYTEST_ADDOPTS=")]
    return shlex.split(words.partition("=")[2])


def test_the_short_form_is_debian_12_as_each_kind_of_user(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def run(lane: lanes.Lane, parts: list[kernels.Part]) -> int:
        assert lane.guest.packages[0].startswith("linux-image")
        ran.extend(f"{lane.guest.release} {part.who}" for part in parts)
        return 0

    monkeypatch.setattr(lanes.Lane, "run", run)
    monkeypatch.delenv("STOCKADE_KERNELS", raising=False)
    assert kernels.main([]) == 0
    assert ran == ["bookworm root", "bookworm user", "bookworm login"]
    ran.clear()
    monkeypatch.setenv("STOCKADE_KERNELS", "long")
    assert kernels.main([]) == 0
    assert ran[3:] == ["trixie root", "trixie user", "trixie login"]
    ran.clear()
    assert kernels.main(["trixie-user"]) == 0
    assert ran == ["trixie user"]
    assert kernels.main(["sarge-user"]) == 2


def test_a_part_that_fails_fails_the_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = iter((1, 0))
    monkeypatch.setattr(lanes.Lane, "run", lambda *_: next(codes))
    monkeypatch.setenv("STOCKADE_KERNELS", "long")
    assert kernels.main([]) == 1


def test_every_check_of_the_chosen_clauses_is_selected_and_no_other() -> None:
    words = _options(kernels.Part(kernels.BOOKWORM, "user", ("a.py",)).script())
    assert words[-1] == "a.py"
    wanted = words[words.index("-k") + 1].partition(")")[0].removeprefix("(").split(" or ")
    every = {
        name.removeprefix("test_"): name.removeprefix("test_").partition("_")[0]
        for name in checks_of()
    }
    chosen = {name for name in every if any(f"test_{name}".startswith(word) for word in wanted)}
    clauses = {every[name] for name in chosen}
    assert {"C5", "C9", "D2", "D6", "A1", "E1", "E9"} <= clauses
    assert {clause[0] for clause in clauses - {"C5", "C9", "D2", "D6"}} == {"A", "E"}
    assert {name for name, clause in every.items() if clause in clauses} == chosen


def test_a_second_chance_runs_what_failed_alone() -> None:
    failed = ("tests/a.py::TestA::test_E1_x[y z]",)
    words = _options(kernels.Part(kernels.BOOKWORM, "user", ("b.py",)).script(failed))
    assert words[-1:] == list(failed)
    assert "-k" not in words


def test_a_busy_machine_may_widen_the_bounds_further(monkeypatch: pytest.MonkeyPatch) -> None:
    part = kernels.Part(kernels.BOOKWORM, "user", ("a.py",))
    monkeypatch.delenv("STOCKADE_TIME_FACTOR", raising=False)
    assert f"STOCKADE_TIME_FACTOR={kernels.TIME_FACTOR} " in part.script()
    monkeypatch.setenv("STOCKADE_TIME_FACTOR", "20")
    assert "STOCKADE_TIME_FACTOR=20 " in part.script()


def test_the_guest_finds_the_readmes_two_commands_as_printed() -> None:
    """The script's own search, on the README that is here."""
    script = (recipe.HERE / "debian").read_text()
    lines = [line for line in script.splitlines() if line.startswith(("main=", "tests="))]
    assert len(lines) == 2
    found = subprocess.run(
        ["sh", "-euc", "\n".join([*lines, 'printf "%s\\n" "$main" "$tests"'])],
        cwd=lanes.ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.splitlines()
    readme = (lanes.ROOT / "README.md").read_text()
    assert len(found) == 2
    for command in found:
        assert f"```sh\n{command}\n```" in readme
    assert "stockade run" in found[0]
    assert found[1].endswith("pytest")


def test_nobody_else_is_known(tmp_path: Path) -> None:
    ran = subprocess.run(
        ["sh", str(recipe.HERE / "debian"), "somebody"], stderr=subprocess.PIPE, check=False
    )
    assert ran.returncode == 2
    assert b"nobody is called somebody" in ran.stderr


def test_a_guest_is_another_where_anything_in_it_is() -> None:
    keys = {debian.guest.key() for debian in (kernels.BOOKWORM, kernels.TRIXIE)}
    keys |= {recipe.MICROVMS.key(), recipe.Recipe(name="a", packages=("x",)).key()}
    assert len(keys) == 4


def test_reports_of_a_run_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a guest leaves comes back, and what an earlier run left does not stay."""
    monkeypatch.setattr(lanes, "ROOT", tmp_path / "project")
    lane = kernels._lane(kernels.BOOKWORM)
    old = lane.reports / "bookworm-user"
    old.mkdir(parents=True)
    (old / "old.json").touch()
    (tmp_path / "common").mkdir()

    def boot(guest: Path, job: Path, seconds: float, emulated: object) -> int:
        assert (job / "reports").stat().st_mode & 0o777 == 0o777  # whoever runs it may report
        assert "debian user" in (job / "job").read_text()
        (job / "reports" / "junit.xml").write_text(
            '<testsuites><testsuite time="2"><testcase classname="a.TestA" name="test_b"/>'
            "</testsuite></testsuites>"
        )
        (job / "log").write_text("said")
        return 0

    monkeypatch.setattr(machine, "run", boot)
    part = kernels.Part(kernels.BOOKWORM, "user", ("a.py",))
    found = lane._run(tmp_path, tmp_path / "common", part, "all", ())
    assert found == outcome.Outcome(log="said", passed=1, seconds=2.0)
    assert sorted(os.listdir(old)) == ["junit.xml", "log"]
