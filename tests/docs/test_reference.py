"""The pages that the site's hook makes: every public name, every command, every link."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs" / "hooks"))
try:
    import reference
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


def test_each_command_shows_its_help() -> None:
    page = reference.command_page()
    for name in ("stockade run", "stockade doctor", "stockade session list", "stockade gc"):
        assert f"\n## {name}\n\n```text\nUsage: {name} " in page
    assert max(map(len, page.splitlines())) <= 80


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
