"""``stockade shell``: a terminal in a sandbox of its own, for a person."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from stockade.cli.choosing import (
    ProgramCommand,
    provider_option,
    report_taken,
    verbose_option,
    wanted,
)
from stockade.cli.commands.run import isolation_reported_here, report_isolation
from stockade.cli.console import failed
from stockade.cli.work import Work, work_options
from stockade.errors import ExecutionEndedError, InputClosedError, StockadeError

if TYPE_CHECKING:
    from stockade.executions._terminals import TerminalExecution
    from stockade.session import Session

__all__ = ["on_terminal", "require_terminal", "shell"]

_FAILED = 125
#: Of a terminal that says none, as one without a screen does.
_ROWS, _COLUMNS = 24, 80


@click.command(cls=ProgramCommand)
@provider_option
@verbose_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--agent", default="default", show_default=True, help="Who runs it, for policies.")
@work_options
def shell(command: tuple[str, ...], **options: Any) -> None:
    """Open a terminal behind a wall.

    It runs COMMAND, or the sandbox's own shell, and exits with its code. The sandbox's files are
    gone when you leave. There is no deadline and no output limit. Every other limit of the
    sandbox holds, its lifetime too: an hour, unless --lifetime says otherwise.
    """
    require_terminal("stockade run")
    try:
        work = Work.of(options)
        code = _run(command, work, options)
    except (StockadeError, OSError) as error:
        failed(error)
        code = _FAILED
    sys.exit(code)


def _run(command: tuple[str, ...], work: Work, options: dict[str, Any]) -> int:
    """The program's exit code."""
    import stockade

    preference = wanted(options["provider"])
    with isolation_reported_here():
        session = stockade.open(
            preference, agent_id=options["agent"], needs=["terminal"], **work.fields()
        )
    with session:
        report_taken(session.provider, preference, options["verbose"])
        report_isolation(session.provider)
        work.bring(session)
        code = on_terminal(session, command, **work.start())
        work.fetch(session)
    return code


def require_terminal(instead: str) -> None:
    """Raise UsageError where a person has no terminal; ``instead`` is the command for programs."""
    if not sys.stdin.isatty():
        raise click.UsageError(f"standard input is no terminal; use `{instead}` for programs.")


def on_terminal(session: Session, command: Sequence[str], **start: Any) -> int:
    """Give a person a program of the session's, by default its shell; the program's exit code."""
    rows, columns = _size()
    with session.terminal(command, rows=rows, columns=columns, **start) as terminal:
        with _raw():
            _relay(terminal)
        return terminal.exit_code()


def _size() -> tuple[int, int]:
    """Rows and columns of this terminal, whatever the environment says: that is no longer so
    once it was resized."""
    found = os.get_terminal_size(0)
    return found.lines or _ROWS, found.columns or _COLUMNS


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """Every key goes to the sandbox; the terminal is as it was afterwards, whatever happens."""
    import termios
    import tty

    before: list[Any] = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def _relay(terminal: TerminalExecution) -> None:
    """Pass bytes both ways until the program ends; window sizes too."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)

    def resized(*_: object) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(wake, b"w")

    previous = signal.signal(signal.SIGWINCH, resized)
    sources = [woken, terminal.fileno()]
    try:
        with _typing(terminal):
            while True:
                ready, _, _ = select.select(sources, [], [])
                if woken in ready:
                    os.read(woken, 64)
                    with contextlib.suppress(ExecutionEndedError):
                        terminal.resize(*_size())
                if terminal.fileno() in ready:
                    shown = terminal.read()
                    if not shown:
                        return
                    _show(shown)
    finally:
        signal.signal(signal.SIGWINCH, previous)
        os.close(woken)
        os.close(wake)


@contextlib.contextmanager
def _typing(terminal: TerminalExecution) -> Iterator[None]:
    """Pass on what is typed, in a thread: a program that reads nothing for now may still print,
    and what it prints has to be read before it reads on."""
    over, end = os.pipe()

    def run() -> None:
        with contextlib.suppress(ExecutionEndedError, InputClosedError, OSError):
            while over not in (ready := select.select([0, over], [], [])[0]):
                typed = os.read(0, 4096) if ready else b""
                if not typed:
                    return
                terminal.write(typed)

    thread = threading.Thread(target=run, name="stockade-typing", daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.close(end)
        terminal.close()  # a write that waits for the program ends with that
        thread.join()
        os.close(over)


def _show(data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(1, left) :]
