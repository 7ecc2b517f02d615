"""``stockade conformance``: hold a wall to the contract, clause by clause, and report."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stockade.cli.choosing import (
    WallCommand,
    provider_option,
    report_taken,
    verbose_option,
    wanted,
)
from stockade.cli.console import (
    clear_status,
    failed,
    say,
    say_parts,
    status,
    table,
    traceback_option,
    traced,
)
from stockade.errors import StockadeError
from stockade.system.installing import install

if TYPE_CHECKING:
    from stockade.testing.report.data import CheckResult, Report

__all__ = ["conformance"]

_COLOURS = {
    "held": "green",
    "native": "green",
    "emulated": "green",
    "unsupported": "cyan",
    "not checked": "yellow",
    "deviating": "yellow",
    "failing": "red",
}


@click.command(cls=WallCommand)
@provider_option
@verbose_option
@click.option(
    "--clause",
    "clauses",
    multiple=True,
    metavar="D6",
    help="Check this clause alone, or this group (D); may be given again.",
)
@click.option(
    "--deviation",
    "deviations",
    multiple=True,
    metavar="CHECK=REASON",
    help="Declare that this check does not hold, and why; may be given again.",
)
@click.option("--json", "json_file", metavar="FILE", help="Write the report as JSON; - prints it.")
@click.option("--html", "html_file", metavar="FILE", help="Write a page to publish.")
@click.option(
    "--time-factor",
    type=float,
    metavar="N",
    help="Widen every time bound, for an emulated machine; default STOCKADE_TIME_FACTOR, else 1.",
)
@traceback_option
def conformance(
    provider: tuple[str, ...],
    verbose: bool,
    clauses: tuple[str, ...],
    deviations: tuple[str, ...],
    json_file: str | None,
    html_file: str | None,
    time_factor: float | None,
) -> None:
    """Hold a wall to the contract, and say what holds.

    A clause that binds every wall is held. Any other is native, emulated, or unsupported and
    refused. A clause may also be not checked, deviating or failing. The exit code is 1 if a
    clause fails, and 2 if the wall cannot be checked at all. All clauses take some minutes.
    """
    try:
        from stockade.testing.runner import checks_of
        from stockade.testing.runner import conformance as run
    except ModuleNotFoundError as error:
        if error.name != "pytest":
            raise
        _stop(f"the conformance suite needs pytest; run: {install('stockade', 'testing')}")
    if not checks_of(clauses):
        _stop(f"no clause is named {' or '.join(clauses)}; write one as D6, or a group as D.")
    progress = _Progress(len(checks_of(clauses)))
    try:
        report = run(
            _string(provider, verbose),
            clauses=clauses,
            deviations=_declared(deviations),
            time_factor=time_factor,
            on_start=progress.start,
            on_result=progress.result,
        )
    except StockadeError as error:
        failed(error)
        sys.exit(2)
    progress.clear()
    text = json.dumps(report.to_json(), indent=1)
    if json_file == "-":
        say(text)
    else:
        _print(report)
    if json_file not in (None, "-"):
        Path(str(json_file)).write_text(text + "\n", encoding="utf-8")
    if html_file is not None:
        from stockade.testing.report.page import page

        Path(html_file).write_text(page(report), encoding="utf-8")
    sys.exit(_code(report))


def _string(given: tuple[str, ...], verbose: bool) -> str:
    """The one wall to check: of several, the one that would be taken."""
    from stockade.selection._alternatives import LOCAL
    from stockade.sessions._providers import provider

    preference = wanted(given)
    (first, *others) = preference.alternatives
    if not others and first.name != LOCAL and not preference.restricted:
        return str(first)
    taken = provider(preference, check_available=True)
    report_taken(taken, preference, verbose)
    return str(taken.spec)


def _declared(deviations: tuple[str, ...]) -> dict[str, str]:
    """Checks and reasons; each check must exist and each reason say something."""
    from stockade.testing.runner import checks_of

    known = {name.removeprefix("test_") for name in checks_of()}
    declared = {}
    for text in deviations:
        name, _, reason = text.partition("=")
        name = name.removeprefix("test_")
        if name not in known or not reason.strip():
            _stop(f"--deviation {text!r} is not CHECK=REASON with a check's name, as in a report.")
        declared[name] = reason.strip()
    return declared


def _stop(message: str) -> Any:
    say(f"stockade: {message}", err=True)
    sys.exit(2)


def _code(report: Report) -> int:
    if report.failed:
        return 1
    ran = any(check.outcome in ("passed", "deviated", "refused") for check in report.checks)
    return 0 if ran else 2


class _Progress:
    """Which check runs, on standard error: one line that changes on a terminal, none in a pipe."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._done = 0
        self._live = sys.stderr.isatty()

    def start(self, name: str) -> None:
        if self._live:
            words = name.removeprefix("test_").replace("_", " ")
            status(f"{self._done + 1}/{self._count} {words:.70} …")

    def result(self, result: CheckResult) -> None:
        self._done += 1
        if result.outcome == "failed":
            self.clear()
            say(f"failed: {result.name}", fg="red", err=True)
            say(f"  {result.message}", err=True)
            if result.traceback and traced():
                say(result.traceback.rstrip(), err=True)
            elif result.traceback:
                say("  --traceback shows where it came from", err=True)

    def clear(self) -> None:
        if self._live:
            clear_status()


def _print(report: Report) -> None:
    from stockade.testing.clauses import CLAUSES

    wall, host = report.wall, report.host
    say(f"{report.provider}", bold=True)
    if wall["distribution"]:
        say(f"  {wall['distribution']} {wall['version']}, stockade {report.stockade}")
    say(f"  {wall['summary']} (isolation: {wall['isolation']})")
    say(f"  {host['system']} {host['kernel']} {host['machine']}, Python {host['python']}")
    say()
    states = report.states()
    rows = [
        (number, CLAUSES[number].title, state.state, str(state.checks), _short(state.note))
        for number, state in states.items()
    ]
    table(("clause", "what", "state", "checks", "note"), rows)
    say()
    for title, data in report.sections.items():
        say(title, bold=True)
        say(f"  {json.dumps(data, ensure_ascii=False)}")
    counts = report.to_json()["summary"]
    parts: list[tuple[str, dict[str, Any]]] = [
        (f"{counts[state]} {state}", {"fg": colour})
        for state, colour in _COLOURS.items()
        if state in counts
    ]
    head = f"{len(states)} clauses, {len(report.checks)} checks in {report.seconds:.0f} s: "
    commas = [part for one in parts for part in (one, (", ", {}))][:-1]
    say_parts((head, {}), *commas)


def _short(note: str) -> str:
    line = " ".join(note.split())
    return line if len(line) <= 160 else f"{line[:159]}…"
