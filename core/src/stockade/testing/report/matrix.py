"""The documentation's table of walls by clauses, made from reports.

python -m stockade.testing.report.matrix docs/reports/*.json > docs/matrix.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from stockade.testing.clauses import CLAUSES, GROUPS
from stockade.testing.report.data import Report

__all__ = ["main", "matrix"]

_MARKS = {
    "held": "held",
    "native": "native",
    "emulated": "emulated",
    "unsupported": "–",
    "not checked": "?",
    "deviating": "deviates",
    "failing": "**fails**",
}

_HEAD = """\
# Walls by clauses

Made from the conformance reports in [reports](reports/) by `python -m stockade.testing.report.matrix`,
never by hand. The clauses are those of [the contract](contract.md); how a wall is checked stands
in [conformance](conformance.md).

*held*: binds every wall, and holds. *native*: the kernel, engine or hypervisor does it. *emulated*:
stockade or the wall does it on top. *–*: not claimed, and refused where it is asked for. *?*: could
not be checked there. *deviates*: declared, with its reason below. ***fails***: it does not hold.
"""


def matrix(reports: Sequence[Report]) -> str:
    """The page in Markdown: which report is which, a table, and every deviation's reason."""
    reports = sorted(reports, key=lambda report: report.title)
    heads = " | ".join(report.title for report in reports)
    lines = [_HEAD, f"| clause | | {heads} |", "| --- | --- |" + " --- |" * len(reports)]
    states = [report.states() for report in reports]
    for number, clause in CLAUSES.items():
        if number[1:] == "1":
            empty = " |" * len(reports)
            lines.append(f"| **{number[0]}** | **{GROUPS[number[0]]}** |{empty}")
        cells = [_MARKS[found[number].state] if number in found else "?" for found in states]
        lines.append(f"| {number} | {clause.title} | {' | '.join(cells)} |")
    lines += ["", "## What deviates, and why", ""]
    lines += [
        f"- {report.title}, {number}: {' '.join(state.note.split())}"
        for report, found in zip(reports, states, strict=True)
        for number, state in found.items()
        if state.state in ("deviating", "failing")
    ] or ["Nothing."]
    lines += ["", "## Where and when", ""]
    lines += [_where(report) for report in reports]
    return "\n".join(lines) + "\n"


def _where(report: Report) -> str:
    host = report.host
    package = f"{report.wall['distribution']} {report.wall['version']}".strip()
    return (
        f"- {report.title}: `{report.provider}`, {package}, {len(report.checks)} checks on "
        f"{report.started[:10]} on {host['system']} {host['kernel']} {host['machine']}"
    )


def main(paths: Sequence[str]) -> None:
    """Print the page made from these files."""
    reports = [Report.from_json(json.loads(Path(path).read_text("utf-8"))) for path in paths]
    sys.stdout.write(matrix(reports))


if __name__ == "__main__":
    main(sys.argv[1:])
