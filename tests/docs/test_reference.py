"""The pages that the site's hook makes: every public name, every command, every link."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import attrs
import pytest

from stockade import errors
from stockade.config import SandboxConfig
from stockade.events import Event, EventKind
from stockade.selection._discovery import PUBLISHED
from stockade.testing.clauses import CLAUSES
from stockade.testing.runner import checks_of
from stockade.values.numbers import Bounded

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs" / "hooks"))
try:
    import reference
    from made import declared
finally:
    sys.path.pop(0)

ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


def test_the_public_modules_are_those_of_the_architecture() -> None:
    said = ARCHITECTURE.partition("## What is public")[2].partition("\n## ")[0]
    listed = set(re.findall(r"`(stockade[\w.]*)`", said))
    for types in re.findall(r"\(((?:`\w+`,? ?)+)\)", " ".join(said.split())):
        listed |= {f"stockade.{name}" for name in re.findall(r"`(\w+)`", types)}
    assert listed == {name for names in reference.PUBLIC.values() for name in names}


@pytest.mark.parametrize("module", reference.modules())
def test_a_module_s_page_has_each_name_that_it_exports(module: str) -> None:
    page = reference.api_pages()[f"reference/api/{module}.md"]
    for name, dotted in reference.exports(module):
        if reference.is_module(dotted):
            assert f"]({dotted}.md)" in page
            assert f"reference/api/{dotted}.md" in reference.api_pages()
        else:
            assert f"\n## {name}\n\n::: {dotted}\n" in page


# -- the pages that are made from declarations -----------------------------------------------

_PAGES = """
import json, sys
sys.path.insert(0, "docs/hooks")
import reference
print(json.dumps({name: page() for name, page in reference.PAGES.items()}))
"""


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """In a process of its own: walls and commands of the checkout are put among those here."""
    done = subprocess.run(
        [sys.executable, "-c", _PAGES], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def rows(page: str, head: str) -> dict[str, list[str]]:
    """The rows of the tables that begin with this head, by their first cells."""
    found = {}
    for table in page.split(f"\n| {head} |")[1:]:
        for line in itertools.takewhile(lambda line: line.startswith("|"), table.splitlines()[2:]):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            found[cells[0].strip("`")] = cells[1:]
    return found


def test_each_command_shows_its_help(pages: dict[str, str]) -> None:
    page = pages["command-line"]
    for name in ("run", "doctor", "session list", "gc", "man", "serve", "serve key add"):
        assert f"\n## stockade {name}\n\n```text\nUsage: stockade {name} " in page
    shown = "".join(re.findall(r"```text\n(.*?)```", page, re.DOTALL))
    assert max(map(len, shown.splitlines())) <= 80 and "--record FILE" in shown
    assert "Examples:\n    stockade doctor\n" in page


def test_each_field_has_default_bounds_and_meaning(pages: dict[str, str]) -> None:
    found = rows(pages["configuration"], "field")
    assert list(found) == [field.name for field in attrs.fields(SandboxConfig)]
    for name, (default, allowed, _, meaning) in found.items():
        assert default and allowed and meaning, name
    for field in attrs.fields(SandboxConfig):
        if isinstance(field.validator, Bounded):
            assert field.metadata["unit"], f"{field.name}: say what its number counts"
    assert found["memory_mb"][:3] == [
        "`512` MiB",
        "1 to 4,194,304, or `none`",
        "`memory`, unless `none`",
    ]
    assert found["output_policy"][1] == "`drain`, `end`"


def test_each_option_of_each_wall_has_a_meaning(pages: dict[str, str]) -> None:
    page = pages["configuration"]
    assert set(re.findall(r"^### ([a-z0-9]+)$", page, re.MULTILINE)) == set(PUBLISHED)
    for wall in page.split("\n### ")[2:]:
        for name, (default, _, meaning) in rows(wall, "option").items():
            assert default and len(meaning) > 3, f"{wall.splitlines()[0]}: {name}"
    docker = page.partition("\n### docker\n")[2].partition("\n### ")[0]
    assert rows(docker, "option")["pull_seconds"][0] == "`600`"


def test_each_error_says_what_to_do(pages: dict[str, str]) -> None:
    page = pages["errors"]
    found = rows(page, "error")
    assert {re.findall(r"\w+", name)[0] for name in found} == set(errors.__all__)
    for name in errors.__all__:
        said = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert re.search(r"\n\*\*What to do:\*\* \w+", said), f"{name}: say what to do"
        assert not re.search(r"\w- \w", said), f"{name}: a line ends within a word"
    assert found["[CapacityError](#capacityerror)"][0] == "yes"
    assert found["[SandboxStartError](#sandboxstarterror)"][0] == "each says"


def test_each_kind_and_field_of_an_event_has_a_meaning(pages: dict[str, str]) -> None:
    kinds, fields = rows(pages["events"], "kind"), rows(pages["events"], "field")
    assert list(kinds) == [kind.value for kind in EventKind]
    assert list(fields) == [field.name for field in attrs.fields(Event)]
    for name, (meaning,) in {**kinds, **fields}.items():
        assert meaning, name


def test_each_clause_has_its_text_and_its_checks(pages: dict[str, str]) -> None:
    page = pages["clauses"]
    text = (ROOT / "docs" / "contract.md").read_text()
    assert set(re.findall(r"^- ([A-G]\d+) ", text, re.MULTILINE)) == set(CLAUSES)
    for number, clause in CLAUSES.items():
        said = page.partition(f"\n### {number}: {clause.title}\n")[2].partition("\n### ")[0]
        assert len(said.strip().splitlines()[0]) > 20, f"{number}: no text"
        assert len(re.findall(r"^- ", said, re.MULTILINE)) == len(checks_of([number])), number
    assert "No check of its own" not in page


def test_what_a_declaration_does_not_say_is_empty() -> None:
    class Sample:
        #: Above,
        #: in two lines.
        one = 1
        two: int = 2  #: beside
        three = 3

    said = declared.comments(Sample)
    assert said == {"one": "Above, in two lines.", "two": "beside", "three": ""}


def test_what_is_brought_is_there_and_links_lead_to_it() -> None:
    assert [name for name in reference.BROUGHT if not reference.exists(name)] == []
    text = "[a](../supervisor/PROTOCOL.md) [b](../core/src) [c](using.md#x) ![d](server-ui.png)"
    page = SimpleNamespace(file=SimpleNamespace(src_uri="server.md"))
    assert reference.on_page_markdown(text, page=page) == (
        "[a](project/supervisor/PROTOCOL.md) b [c](using.md#x) ![d](server-ui.png)"
    )
    page.file.src_uri = "project/CHANGELOG.md"
    assert reference.on_page_markdown("[e](docs/using.md)", page=page) == "[e](../using.md)"


def test_roles_of_docstrings_do_not_show() -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="reference/api/stockade.md"))
    text = "<p>a :class:<code>Chunk</code>, :no: :class: <code>b</code></p>"
    assert reference.on_page_content(text, page=page) == (
        "<p>a <code>Chunk</code>, :no: :class: <code>b</code></p>"
    )
    page.file.src_uri = "using.md"
    assert reference.on_page_content(text, page=page) == text
