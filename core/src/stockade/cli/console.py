"""Everything that the commands print, but a program's own output and a terminal's bytes.

Names, reasons and labels may be untrusted: of a plug-in, a program behind a wall, a file.
What is printed here shows their escape sequences escaped, so that none reaches the terminal
of the person who reads it.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import click

from stockade.values.shown import shown

__all__ = [
    "cell",
    "clear_status",
    "counted",
    "failed",
    "say",
    "say_parts",
    "status",
    "table",
    "traceback_option",
    "traced",
]

_ERASE = "\r\x1b[K"
_TRACED = "stockade.traceback"
#: Columns of a table whose lines go to a program: nothing folds in a pipe.
_WIDE = 240


def say(text: str = "", *, err: bool = False, **style: Any) -> None:
    """One line; ``style`` is click's (``fg``, ``bold``)."""
    click.echo(click.style(shown(text), **style) if style else shown(text), err=err)


def say_parts(*parts: tuple[str, dict[str, Any]]) -> None:
    """One line of parts, each in a style of its own."""
    click.echo("".join(click.style(shown(text), **style) for text, style in parts))


def failed(error: BaseException) -> None:
    """One line for an error; with ``--traceback`` all of where it came from before it."""
    if traced():
        say("".join(traceback.format_exception(error)).rstrip(), err=True)
    say(f"stockade: {error}", err=True)


def traced() -> bool:
    """Whether ``--traceback`` was given, to the command or to all."""
    return bool(click.get_current_context().find_root().meta.get(_TRACED))


def traceback_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--traceback``: errors show where they came from, and so does what core logs."""

    def given(context: click.Context, _: click.Parameter, value: bool) -> None:
        meta = context.find_root().meta
        if not value or meta.get(_TRACED):
            return
        meta[_TRACED] = True
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Shown("stockade: %(message)s"))
        handler.setLevel(logging.INFO)
        logger = logging.getLogger("stockade")
        before = logger.level
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        context.call_on_close(lambda: logger.removeHandler(handler))
        context.call_on_close(lambda: logger.setLevel(before))

    option = click.option(
        "--traceback",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=given,
        help="Show tracebacks of errors, for authors of plug-ins.",
    )
    return option(command)


class _Shown(logging.Formatter):
    """What is logged may hold untrusted text, too."""

    def format(self, record: logging.LogRecord) -> str:
        return shown(super().format(record))


def counted(number: int, what: str) -> str:
    """A number with what it counts, as people write it: ``1 line``, ``12,000 lines``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def status(text: str) -> None:
    """A line on standard error that the next one replaces; call it where that is a terminal."""
    sys.stderr.write(f"{_ERASE}{shown(text)}")
    sys.stderr.flush()


def clear_status() -> None:
    """Erase what ``status`` wrote."""
    sys.stderr.write(_ERASE)
    sys.stderr.flush()


def cell(text: str) -> Any:
    """A table's cell: no mark-up, no escape sequence."""
    from rich.text import Text

    return Text(shown(text))


def table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """A table for a person: wide columns fold on a terminal, lines stay whole in a pipe."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)
    drawn: Any = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        whole = head in ("name", "version")
        drawn.add_column(cell(head), overflow="fold", no_wrap=whole)
    for row in rows:
        drawn.add_row(*(cell(text) for text in row))
    console.print(drawn)
