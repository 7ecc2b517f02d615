"""Every clause of the contract with the features that decide it and the checks that hold it."""

from __future__ import annotations

import re

from made.declared import ROOT, code, paragraphs, sentence
from stockade.testing import ProviderConformance
from stockade.testing.clauses import CLAUSES, GROUPS, Clause
from stockade.testing.runner import checks_of

_HEAD = """\
# The clauses and their checks

The text of each clause is that of [the contract](../contract.md). Its checks are those that
`stockade conformance -p WALL --clause NUMBER` runs. A clause that names features binds the walls
that claim one of them; any other binds every wall. [Walls by clauses](../matrix.md) shows where
each holds.
"""


def page() -> str:
    """The whole page."""
    lines, texts = [_HEAD], contract()
    for number, clause in CLAUSES.items():
        if number[1:] == "1":
            lines += [f"## {number[0]}. {GROUPS[number[0]]}", ""]
        lines += [f"### {number}: {clause.title}", "", texts.get(number, ""), ""]
        lines += [*_features(clause), *_checks(number), ""]
    return "\n".join(lines)


def contract() -> dict[str, str]:
    """The text of each clause, from the contract's page."""
    page = (ROOT / "docs" / "contract.md").read_text()
    found = re.findall(r"^- ([A-G]\d+) (.+(?:\n  .+)*)", page, re.MULTILINE)
    return {number: " ".join(text.split()) for number, text in found}


def _features(clause: Clause) -> list[str]:
    if not clause.features:
        return []
    return [f"Features: {', '.join(code(str(feature)) for feature in clause.features)}.", ""]


def _checks(number: str) -> list[str]:
    lines = []
    for name in checks_of([number]):
        says = paragraphs(getattr(ProviderConformance, name))[0]
        words = name.removeprefix(f"test_{number}_").replace("_", " ")
        lines.append(f"- {sentence(words)} {says}".rstrip().replace("``", "`"))
    return lines or ["No check of its own."]
