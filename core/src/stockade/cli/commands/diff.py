"""``stockade diff``: the same request behind two walls, and what differs."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import click

from stockade.cli.choosing import (
    ProgramCommand,
    provider_option,
    report_taken,
    verbose_option,
    wanted,
)
from stockade.cli.commands import compare
from stockade.cli.commands.run import (
    Terminated,
    isolation_reported_here,
    streams_as_json,
    terminable,
)
from stockade.cli.console import failed, say, table
from stockade.cli.work import environment
from stockade.errors import StockadeError

if TYPE_CHECKING:
    from stockade.selection._spec import Preference
    from stockade.session import Session

__all__ = ["diff"]

#: Kept of each stream; what is beyond is counted, not compared.
_OUTPUT_BYTES = 16 << 20
#: Lines of a diff that are shown to a person.
_SHOWN_LINES = 200
_ALIKE, _DIFFERENT, _FAILED = 0, 1, 2


class _Diff(ProgramCommand):
    def right(self, words: Sequence[str]) -> str:
        """Two providers may stand there, the second one to compare with."""
        line = super().right(words).partition(" -- ")
        program = words[words.index("--") + 1 :] if "--" in words else ()
        return f"{line[0]} --against STRING -- {shlex.join(program) or 'COMMAND'}"


@click.command(cls=_Diff)
@provider_option
@verbose_option
@click.option(
    "--against",
    multiple=True,
    metavar="STRING",
    help="The wall to compare with, as -p is written.",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--agent", default="default", show_default=True, help="Who runs it, for policies.")
@click.option("--shell", metavar="LINE", help="Run a shell line instead of a command.")
@click.option("--code", metavar="TEXT", help="Run this code instead of a command.")
@click.option("--language", default="python", show_default=True, help="The code's language.")
@click.option("--stdin", "stdin_file", type=click.File("rb"), help="Standard input; - is ours.")
@click.option(
    "--put",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False),
    help="Copy this folder's content into the working folder first.",
)
@click.option("--env", multiple=True, metavar="NAME[=VALUE]", help="Set, or pass on, a variable.")
@click.option("--timeout", type=float, metavar="SECONDS", help="The deadline behind each wall.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def diff(command: tuple[str, ...], **options: Any) -> None:
    """Run a command behind two walls, and show what differs.

    It compares how the command ended, both output streams, and the files left in the working
    folder. It shows the time that each wall took, which is never a difference. The exit code is
    0 if all is alike, 1 if something differs, and 2 if a wall failed.
    """
    if not options["against"]:
        raise click.UsageError("name the wall to compare with: --against STRING.")
    given = [bool(command), options["shell"] is not None, options["code"] is not None]
    if sum(given) != 1:
        raise click.UsageError("give one of -- COMMAND, --shell and --code.")
    request = _request(command, options)
    with terminable():
        try:
            code = _diff(_preferences(options), request, options)
        except KeyboardInterrupt:
            say("stockade: interrupted", err=True)
            code = 130
        except Terminated:
            code = 143
        except StockadeError as error:  # what was written; a wall that fails is an outcome
            failed(error)
            code = _FAILED
    sys.exit(code)


def _preferences(options: dict[str, Any]) -> tuple[Preference, Preference]:
    from stockade.selection._spec import Preference

    return wanted(options["provider"]), Preference.parse(options["against"], source="--against")


def _request(command: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    request: dict[str, Any] = {
        "env": environment(options["env"]),
        "stdin": options["stdin_file"].read() if options["stdin_file"] else b"",
        "output_limit_bytes": _OUTPUT_BYTES,
    }
    if options["timeout"] is not None:
        request["timeout"] = options["timeout"]
    if command:
        return {**request, "argv": list(command)}
    if options["shell"] is not None:
        return {**request, "shell": options["shell"]}
    return {**request, "code": options["code"], "language": options["language"]}


def _diff(
    walls: tuple[Preference, Preference], request: dict[str, Any], options: dict[str, Any]
) -> int:
    outcomes = [compare.Outcome(label) for label in _labels(walls)]
    files: list[compare.Difference] = []
    with contextlib.ExitStack() as stack:
        # One after the other, so that neither takes the other's time; the first is kept
        # open, since which contents must be read is known when both have run.
        sessions = [
            _run(stack, wall, outcome, request, options)
            for wall, outcome in zip(walls, outcomes, strict=True)
        ]
        one, other = sessions
        if one and other and not any(outcome.error for outcome in outcomes):
            files = _files((one, other), outcomes)
    report = _report(outcomes, files)
    if options["as_json"]:
        say(json.dumps(report, indent=2))
    else:
        _print(outcomes, files, report)
    if any(outcome.error for outcome in outcomes):
        return _FAILED
    return _DIFFERENT if report["differences"] else _ALIKE


def _labels(walls: tuple[Preference, Preference]) -> list[str]:
    """Wall and target; not the options, since a value among them may be a secret (B4)."""
    heads = [wall.label for wall in walls]
    if heads[0] != heads[1]:
        return heads
    return [f"{head} ({place})" for head, place in zip(heads, ("first", "second"), strict=True)]


def _run(
    stack: contextlib.ExitStack,
    wall: Preference,
    outcome: compare.Outcome,
    request: dict[str, Any],
    options: dict[str, Any],
) -> Session | None:
    import stockade

    try:
        chosen = stockade.provider(wall, check_available=True)
        began = time.monotonic()
        try:
            with isolation_reported_here():
                session = stockade.Session(chosen, chosen.open_record(options["agent"]))
        finally:
            outcome.provider, outcome.isolation = chosen.name, str(chosen.wall.isolation)
            report_taken(chosen, wall, options["verbose"])
        outcome.start_seconds = time.monotonic() - began
        stack.push(_closing(session, outcome))
        if options["put"]:
            session.files.put_tree(options["put"], ".")
        outcome.result = session.start(**request).result()
    except (StockadeError, OSError) as error:
        outcome.error = error
        return None
    return session


def _closing(session: Session, outcome: compare.Outcome) -> Any:
    def close(*_: object) -> None:
        try:
            session.close()
        except StockadeError as error:
            outcome.error = outcome.error or error

    return close


def _files(
    sessions: tuple[Session, Session], outcomes: list[compare.Outcome]
) -> list[compare.Difference]:
    for session, outcome in zip(sessions, outcomes, strict=True):
        compare.files_left(session, outcome)
    ours, theirs = (outcome.files for outcome in outcomes)
    if ours is None or theirs is None:
        return []
    try:
        return compare.changed_files((sessions[0], ours), (sessions[1], theirs))
    except (StockadeError, OSError) as error:
        for outcome in outcomes:
            outcome.files = None
        outcomes[0].files_note = f"comparing the files failed: {error}"
        return []


# -- reporting -----------------------------------------------------------------------


def _report(outcomes: list[compare.Outcome], files: list[compare.Difference]) -> dict[str, Any]:
    """Everything, for ``--json``; ``differences`` decides the exit code."""
    one, other = outcomes
    report: dict[str, Any] = {
        "alike": False,
        "differences": [],
        "walls": [_wall(outcome) for outcome in outcomes],
        "files": [attrs.asdict(found) for found in files],
        "files_compared": one.files is not None and other.files is not None,
    }
    if one.result is None or other.result is None:
        return report
    differences = [] if one.ending == other.ending else ["exit"]
    for name in ("stdout", "stderr"):
        ours, theirs = compare.streams(one, name), compare.streams(other, name)
        if ours != theirs:
            differences.append(name)
            labels = (f"{name} of {one.label}", f"{name} of {other.label}")
            report[f"{name}_diff"] = compare.unified(ours[0], theirs[0], labels)
    if files:
        differences.append("files")
    report["differences"] = differences
    report["alike"] = not differences and not (one.error or other.error)
    report["time_ratio"] = round(
        other.result.duration_seconds / max(one.result.duration_seconds, 1e-9), 3
    )
    return report


def _wall(outcome: compare.Outcome) -> dict[str, Any]:
    report: dict[str, Any] = {
        "label": outcome.label,
        "provider": outcome.provider,
        "isolation": outcome.isolation,
        "start_seconds": round(outcome.start_seconds, 6),
        "error": None if outcome.error is None else str(outcome.error),
        "error_type": None if outcome.error is None else type(outcome.error).__name__,
        "files_note": outcome.files_note,
        "files_count": None if outcome.files is None else len(outcome.files),
    }
    result = outcome.result
    if result is None:
        return report
    return report | {
        "verdict": str(result.verdict),
        "exit_code": result.exit_code,
        "signal": result.signal_name,
        "duration_seconds": round(result.duration_seconds, 6),
        **streams_as_json(result),
    }


def _print(
    outcomes: list[compare.Outcome], files: list[compare.Difference], report: dict[str, Any]
) -> None:
    one, other = outcomes
    differences: list[str] = report["differences"]
    rows = [
        (name, *cells, "differs" if name in differences else note)
        for name, cells, note in _rows(one, other, report)
    ]
    table(("", one.label, other.label, ""), rows)
    for outcome in outcomes:
        if outcome.error is not None:
            kind = type(outcome.error).__name__
            say(f"\n{outcome.label} failed: {kind}: {outcome.error}")
        if outcome.files_note:
            say(f"\nfiles of {outcome.label}: {outcome.files_note}")
        if outcome.result is not None and outcome.result.truncated:
            say(f"\n{outcome.label} printed more than is compared: {_OUTPUT_BYTES} bytes")
    for name in ("stdout", "stderr"):
        _print_lines(report.get(f"{name}_diff", []))
    _print_files(files, one.label, other.label)
    if report["alike"]:
        say("\nalike" + ("" if report["files_compared"] else ", the files not compared"))


def _rows(
    one: compare.Outcome, other: compare.Outcome, report: dict[str, Any]
) -> list[tuple[str, tuple[str, str], str]]:
    def row(name: str, text_of: Callable[[compare.Outcome], str], note: str = "") -> None:
        cells = tuple(
            text_of(outcome) if outcome.result is not None else "failed" if outcome.error else "-"
            for outcome in (one, other)
        )
        rows.append((name, (cells[0], cells[1]), note))

    rows: list[tuple[str, tuple[str, str], str]] = []
    row("isolation", lambda outcome: outcome.isolation)
    row("exit", lambda outcome: outcome.ending)
    row("stdout", lambda outcome: f"{compare.streams(outcome, 'stdout')[1]} bytes")
    row("stderr", lambda outcome: f"{compare.streams(outcome, 'stderr')[1]} bytes")
    row("files", lambda o: "not looked at" if o.files is None else str(len(o.files)))
    row("start", lambda outcome: f"{outcome.start_seconds:.3f} s")
    ratio = f"{report['time_ratio']:.2g} times" if "time_ratio" in report else ""
    row("time", lambda o: f"{o.result.duration_seconds:.3f} s" if o.result else "", ratio)
    return rows


def _print_lines(lines: list[str]) -> None:
    if not lines:
        return
    say()
    for line in lines[:_SHOWN_LINES]:
        color = {"-": "red", "+": "green", "@": "cyan"}.get(line[:1])
        say(line, fg=color, bold=line[:3] in ("---", "+++"))
    if len(lines) > _SHOWN_LINES:
        say(f"... {len(lines) - _SHOWN_LINES} more lines; --json has them all")


def _print_files(files: list[compare.Difference], one: str, other: str) -> None:
    if files:
        say("\nfiles left that differ:")
    for found in files[:_SHOWN_LINES]:
        say(f"  {found.path!a}")
        for label, entry in ((one, found.first), (other, found.second)):
            say(f"    {label}: {entry or 'not there'}")
    if len(files) > _SHOWN_LINES:
        say(f"  ... {len(files) - _SHOWN_LINES} more; --json has them all")
