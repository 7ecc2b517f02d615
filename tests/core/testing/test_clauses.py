"""The clauses that the contract's page names are those that the suite knows."""

from __future__ import annotations

import re
from pathlib import Path

from stockade.testing.clauses import CLAUSES, GROUPS

PAGE = (Path(__file__).parents[3] / "docs" / "contract.md").read_text()
#: Named by the page, and not built yet.
NOT_YET = set[str]()


def test_every_clause_of_the_page_is_known_or_said_to_be_missing() -> None:
    stated = re.findall(r"^- ([A-Z]\d+) ", PAGE, re.MULTILINE)
    assert len(stated) == len(set(stated))
    assert set(stated) == {*CLAUSES, *NOT_YET} and not NOT_YET & set(CLAUSES)
    assert set(re.findall(r"\b[A-G]\d+\b", PAGE)) == set(stated)  # cited by others, too
    known = [number for number in stated if number not in NOT_YET]
    assert known == list(CLAUSES), "in the contract's order"


def test_the_page_says_exactly_of_these_that_they_are_not_there_yet() -> None:
    mark = "*Not there yet*"
    said = {line.split()[1] for line in PAGE.splitlines() if line.startswith("- ") and mark in line}
    assert said == NOT_YET


def test_the_groups_are_the_pages() -> None:
    assert dict(re.findall(r"^## ([A-Z])\. (.+)$", PAGE, re.MULTILINE)) == GROUPS
