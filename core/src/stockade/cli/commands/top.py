"""``stockade top``: the live sessions, refreshed."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from typing import Any

import click

from stockade._leftover import Usage
from stockade.cli.console import cell, counted, failed, say, table
from stockade.errors import StockadeError
from stockade.ledger._overview import Overview, age, left, overview, usages

__all__ = ["top"]

#: Between the two looks that a share of the cpu needs.
_BETWEEN_SECONDS = 0.5


@click.command()
@click.option(
    "--interval",
    type=float,
    default=2,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks.",
)
@click.option("--once", is_flag=True, help="Print it once and end.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs; with --once.")
def top(interval: float, once: bool, as_json: bool) -> None:
    """Show this user's sessions, live: state, age, cpu, memory.

    It goes on until Ctrl-C. If the output is a pipe or a file, it prints once.
    """
    if not 0.1 <= interval <= 3600:
        raise click.UsageError("--interval is from 0.1 to 3600 seconds.")
    if as_json and not once:
        raise click.UsageError("--json needs --once.")
    try:
        look = _Looker()
        if once or not sys.stdout.isatty():
            look.rows()
            time.sleep(_BETWEEN_SECONDS)
            rows = look.rows()
            say(json.dumps(rows, indent=2)) if as_json else _show_once(rows)
        else:
            _refresh(look, interval)
    except StockadeError as error:
        failed(error)
        sys.exit(1)


class _Looker:
    """Looks again and again; what a cpu was used for is the difference of two looks."""

    def __init__(self) -> None:
        from stockade.sessions._runtime import default_runtime

        self._runtime = default_runtime()
        self._before: dict[str, tuple[float, float]] = {}

    def rows(self) -> list[dict[str, Any]]:
        sessions = overview(self._runtime.ledger)
        used = usages(self._runtime.workers, self._runtime.selector.wall_at, sessions)
        now = time.monotonic()
        rows = [self._row(session, used.get(session.session_id), now) for session in sessions]
        self._before = {
            session_id: (now, usage.cpu_seconds)
            for session_id, usage in used.items()
            if usage.cpu_seconds is not None
        }
        return rows

    def _row(self, session: Overview, usage: Usage | None, now: float) -> dict[str, Any]:
        percent = None
        before = self._before.get(session.session_id)
        if usage is not None and usage.cpu_seconds is not None and before is not None:
            passed = max(1e-3, now - before[0])
            percent = round(max(0.0, usage.cpu_seconds - before[1]) / passed * 100, 1)
        return {
            **session.plain(),
            "age_seconds": round(time.time() - session.created_at, 1),
            "left": left(session),
            "cpu_percent": percent,
            "cpu_seconds": None if usage is None else usage.cpu_seconds,
            "memory_bytes": None if usage is None else usage.memory_bytes,
            "processes": None if usage is None else usage.processes,
        }


_HEADS = ("session", "wall", "state", "owner", "age", "left", "cpu %", "memory", "procs")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    memory = row["memory_bytes"]
    return (
        row["session_id"][:16],
        row["string"],
        row["state"],
        row["owner"],
        age(row["age_seconds"]),
        row["left"],
        "-" if row["cpu_percent"] is None else f"{row['cpu_percent']:.1f}",
        "-" if memory is None else f"{memory / (1 << 20):.1f} MiB",
        "-" if row["processes"] is None else str(row["processes"]),
    )


def _show_once(rows: list[dict[str, Any]]) -> None:

    if not rows:
        say("no session")
        return
    table(_HEADS, [_cells(row) for row in rows])


def _refresh(look: _Looker, interval: float) -> None:
    """Until Ctrl-C or SIGTERM."""
    from rich.console import Console
    from rich.live import Live

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    console = Console(highlight=False)
    with Live(
        _drawn(look.rows()), console=console, auto_refresh=False, screen=console.is_terminal
    ) as live:
        live.refresh()
        while not stop.wait(interval):
            live.update(_drawn(look.rows()), refresh=True)


def _drawn(rows: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    executing = sum(row["state"] == "executing" for row in rows)
    memory = sum(row["memory_bytes"] or 0 for row in rows)
    title = (
        f"stockade: {counted(len(rows), 'session')}, {executing} executing, "
        f"{memory / (1 << 20):,.0f} MiB, "
        f"{time.strftime('%H:%M:%S')}"
    )
    drawn = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    for head in _HEADS:
        if head == "wall":
            drawn.add_column(head, overflow="fold")
        else:
            number = head in ("cpu %", "memory", "procs")
            drawn.add_column(head, justify="right" if number else "left", no_wrap=True)
    for row in sorted(rows, key=lambda row: -(row["cpu_percent"] or 0)):
        drawn.add_row(*map(cell, _cells(row)))
    return drawn
