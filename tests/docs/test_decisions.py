"""Each decision has a page of its own, of one shape, and the list has them all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "adr"
PAGES = sorted(FOLDER.glob("[0-9]*.md"))
STATUS = r"(In force\.|Replaced by \[\d+\]\(\d{4}-[\w-]+\.md\)\.)"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_decision_has_its_parts(page: Path) -> None:
    text = page.read_text()
    number = int(page.name[:4])
    assert re.match(rf"# (Decisions )?{number}\b.*\n\n{STATUS}\n\n## Context\n", text)
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert all(part.strip() for part in re.split(r"^## .*$", text, flags=re.MULTILINE))


def test_the_list_has_each_once_and_in_order() -> None:
    text = (FOLDER / "README.md").read_text()
    listed = re.findall(r"^- .*?\]\((\d{4}-[\w-]+\.md)\)", text, re.MULTILINE)
    assert listed == [page.name for page in PAGES]
    assert len({name[:4] for name in listed}) == len(listed)
