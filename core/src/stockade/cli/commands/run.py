"""``stockade run``: one command behind a wall, its streams passed through."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from stockade.cli.choosing import (
    ProgramCommand,
    passed_over,
    provider_option,
    report_taken,
    verbose_option,
    wanted,
)
from stockade.cli.console import clear_status, failed, say, status, traceback_option
from stockade.cli.displays import as_json as displays_as_json
from stockade.cli.displays import show
from stockade.cli.feed import Feed, feed
from stockade.cli.keys import Trace
from stockade.cli.work import Work, work_options
from stockade.errors import StockadeError

if TYPE_CHECKING:
    from stockade.results import SandboxResult
    from stockade.selection._spec import Preference

__all__ = [
    "Terminated",
    "isolation_reported_here",
    "report_isolation",
    "run",
    "starting",
    "streams_as_json",
    "terminable",
    "whole",
]

#: What docker uses too for "the sandbox failed, not the command".
_FAILED = 125
_MISSING = 127  # the exit code of a program that is not there
_LIVE_WINDOW = 1 << 20
#: Of pictures and other displays.
_SHOWN_BYTES = 32 << 20


@click.command(cls=ProgramCommand)
@provider_option
@verbose_option
@click.option("--agent", default="default", show_default=True, help="Who runs it, for policies.")
@click.option("--code", metavar="TEXT", help="Run this code instead of a command; - reads it.")
@click.option("--code-file", type=click.File("r"), help="Run the code of a file.")
@click.option("--language", default="python", show_default=True, help="The code's language.")
@click.option(
    "--state", metavar="NAME", help="Run the code as a notebook does, and show its value."
)
@click.option(
    "--pictures", metavar="DIR", help="The folder for pictures that the code draws; else a new one."
)
@click.option("--shell", metavar="LINE", help="Run a shell line instead of a command.")
@click.option("--stdin", "stdin_file", type=click.File("rb"), help="Standard input; - is ours.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.option(
    "--timeout", type=float, metavar="SECONDS", help="The command's deadline.  [default: 60]"
)
@click.option("--output-limit", type=int, metavar="BYTES", help="End it if a stream is longer.")
@work_options
@click.option("--trace-egress", is_flag=True, help="Show each request to a host, as it is made.")
@click.option("--audit", type=click.Path(dir_okay=False), help="Append events to an audit log.")
@traceback_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def run(command: tuple[str, ...], **options: Any) -> None:
    """Run a command, a shell line or code in a sandbox of its own.

    Output appears as it comes, and the exit code is the command's. If the command did not
    exit of its own accord (a signal, the deadline, a limit), a line on standard error says so. If
    standard input is a pipe or a file, it is read to its end first. The exit code is 125 if
    the sandbox failed, and 130 after Ctrl-C.
    """
    given = [
        bool(command),
        options["code"] is not None,
        options["code_file"] is not None,
        options["shell"] is not None,
    ]
    if sum(given) != 1:
        raise click.UsageError("give one of COMMAND, --code, --code-file and --shell.")
    if not (given[1] or given[2]) and (options["state"] or options["pictures"]):
        raise click.UsageError("--state and --pictures are for --code and --code-file.")
    if options["pictures"] and not options["state"]:
        raise click.UsageError("--pictures needs --state NAME.")
    with terminable():
        try:
            code = _run(command, options)
        except KeyboardInterrupt:
            say("stockade: interrupted", err=True)
            code = 130
        except Terminated:
            code = 143
        except StockadeError as error:
            failed(error)
            code = _FAILED
        except OSError as error:
            failed(error)
            code = _FAILED
    _flush()
    sys.exit(code)


class Terminated(BaseException):
    """SIGTERM came: clean up, then exit with 143."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Terminated

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _run(command: tuple[str, ...], options: dict[str, Any]) -> int:
    import stockade

    work = Work.of(options)
    form: dict[str, Any] = {"argv": list(command)} if command else {}
    if options["shell"] is not None:
        form = {"shell": options["shell"]}
    if options["code"] is not None or options["code_file"] is not None:
        text = options["code"]
        if text == "-":
            text = sys.stdin.read()
        form = {
            "code": options["code_file"].read() if text is None else text,
            "language": options["language"],
        }
    given = feed(options["stdin_file"], taken=options["code"] == "-")
    if options["audit"]:
        stockade.default_runtime().hooks.add(stockade.AuditLog(options["audit"]))
    if options["trace_egress"]:
        stockade.default_runtime().hooks.add(Trace())
    preference = wanted(options["provider"])
    needs = [next(iter(form))]  # the feature is named as the form
    if options["state"]:
        needs += ["stateful", "notebook"]
    fields = work.fields()
    if options["timeout"] is not None:
        fields["timeout_seconds"] = options["timeout"]
    with starting(preference), isolation_reported_here():
        session = stockade.open(preference, agent_id=options["agent"], needs=needs, **fields)
    with session:
        report_taken(session.provider, preference, options["verbose"])
        report_isolation(session.provider)
        work.bring(session)
        more: dict[str, Any] = {**work.start(), "stdin": whole(given)}
        if options["output_limit"]:
            more |= {"output_limit_bytes": options["output_limit"], "output_policy": "end"}
        if options["state"]:
            more["state"] = options["state"]
        result = _execute(session, form, more, as_json=options["as_json"])
        code = result if isinstance(result, int) else _report(result)
        if code == _MISSING and command:
            _report_not_shown(command[0], work.not_shown(command[0]))
        if not isinstance(result, int) and options["state"]:
            show(result, options["pictures"])
        try:
            work.fetch(session)
        except (StockadeError, OSError) as error:
            failed(error)
            return code or _FAILED
        return code


def _execute(
    session: Any, form: dict[str, Any], more: dict[str, Any], *, as_json: bool
) -> int | SandboxResult:
    """The exit code where all is said, else the result."""
    if as_json:
        return _as_json(session, session.start(**form, **more).result())
    more.setdefault("output_limit_bytes", _SHOWN_BYTES if "state" in more else _LIVE_WINDOW)
    with session.stream(**form, **more) as execution:
        passed_on = _pass_on(execution)
        if not passed_on:
            return 128 + signal.SIGPIPE
        result: SandboxResult = execution.result()
        return result


def whole(given: Feed) -> bytes:
    """All of the input, once it has ended; what the user must know is said."""
    data, note = given.wait()
    if note:
        say(f"stockade: {note}", err=True)
    return data


@contextlib.contextmanager
def isolation_reported_here() -> Iterator[None]:
    """Keep core's log lines about what a wall does not hold: the command says it itself."""
    logger = logging.getLogger("stockade.isolation")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def report_isolation(provider: Any) -> None:
    """Say on standard error that there is no wall, where there is none, and what the wall
    warns of."""
    from stockade.capabilities import Isolation

    if provider.wall.isolation is Isolation.NONE:
        say(f"stockade: {provider.name} isolates nothing ({provider.wall.summary})", err=True)
    words = provider.wall.warning(provider.config)
    if words:
        say(f"stockade: {provider.name}: {words}.", err=True)


@contextlib.contextmanager
def starting(preference: Preference) -> Iterator[None]:
    """Show on a terminal that something takes its time."""
    if not sys.stderr.isatty():
        yield
        return
    from threading import Timer

    timer = Timer(1.0, status, (f"starting {preference.label} …",))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if timer.finished.is_set():
            clear_status()


def _pass_on(execution: Any) -> bool:
    """Write live output; False when our reader went away, which ends the execution."""
    streams = {"stdout": sys.stdout.buffer, "stderr": sys.stderr.buffer}
    try:
        for chunk in execution:
            target = streams[chunk.stream.value]
            target.write(chunk.data)
            target.flush()
    except BrokenPipeError:
        # What is left in the buffer cannot be written either, also not at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def _report(result: Any) -> int:
    from stockade.results import Verdict

    if result.verdict is not Verdict.EXITED:
        after = f" after {result.duration_seconds:.1f} s"
        name = f" ({result.signal_name})" if result.verdict is Verdict.SIGNALLED else ""
        say(f"stockade: {result.verdict}{name}{after}", err=True)
    return int(result.exit_code)


def _report_not_shown(program: str, end: str) -> None:
    """Say why a program that is here was not found inside, and what shows it."""
    if end:
        folder = os.path.dirname(end)
        folder = os.path.dirname(folder) if os.path.basename(folder) == "bin" else folder
        say(
            f"stockade: {program} leads to {end}, which does not show inside. "
            f"Show that folder, too: --mount {shlex.quote(folder)}",
            err=True,
        )


def _as_json(session: Any, result: Any) -> int:
    out: dict[str, Any] = {
        "provider": session.provider.name,
        "isolation": str(session.provider.wall.isolation),
        "passed_over": passed_over(session.provider),
        "session_id": session.session_id,
        "success": result.success,
        "exit_code": result.exit_code,
        "verdict": str(result.verdict),
        "signal": result.signal_name,
        "killed": result.killed,
        "kill_reason": result.kill_reason,
        "duration_seconds": round(result.duration_seconds, 6),
        **streams_as_json(result),
        **displays_as_json(result),
    }
    say(json.dumps(out))
    return int(result.exit_code)


def streams_as_json(result: Any) -> dict[str, Any]:
    """Both streams as text, how much there was, and in base64 where text loses something."""
    out: dict[str, Any] = {}
    for name in ("stdout", "stderr"):
        data: bytes = getattr(result, f"{name}_bytes")
        out[name] = data.decode("utf-8", "replace")
        out[f"{name}_total_bytes"] = getattr(result, f"{name}_total_bytes")
        out[f"{name}_truncated"] = getattr(result, f"{name}_truncated")
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            out[f"{name}_base64"] = base64.b64encode(data).decode()
    return out


def _flush() -> None:
    with contextlib.suppress(OSError):
        sys.stdout.flush()
