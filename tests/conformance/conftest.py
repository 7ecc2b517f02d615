"""The figures of the suite, printed after a run that held the mutants to it."""

from __future__ import annotations

from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    caught = sum(
        "test_the_mutant_is_caught" in report.nodeid
        for report in terminalreporter.stats.get("passed", ())
    )
    if caught:
        from stockade.testing.clauses import CLAUSES
        from stockade.testing.runner import checks_of

        terminalreporter.write_line(
            f"conformance suite: {len(CLAUSES)} clauses, {len(checks_of())} checks, "
            f"{caught} mutants caught"
        )
