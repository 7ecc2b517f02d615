"""``stockade gc``: remove what dead processes left."""

from __future__ import annotations

import json
import signal
import sys
import threading

import attrs
import click

from stockade.cli.choosing import WallCommand
from stockade.cli.console import say

__all__ = ["gc"]


@click.command(cls=WallCommand)
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@click.option(
    "--watch", type=float, metavar="SECONDS", help="Do it again after each pause, until stopped."
)
@click.option(
    "--force", multiple=True, metavar="ID", help="Remove this session, even if its owner lives."
)
@click.option(
    "-p",
    "--provider",
    "strings",
    multiple=True,
    metavar="STRING",
    help="Look behind this wall too, such as docker?engine=ssh://host; of several, behind each.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each pass.")
def gc(
    dry_run: bool,
    watch: float | None,
    force: tuple[str, ...],
    strings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Remove sessions without a living owner or past their lifetime.

    It looks into the ledger and behind every installed wall. A session stays if its owner lives,
    or may live on another machine or in another container, until its lifetime is over. The exit
    code is 1 if something could not be looked at or removed: the next time tries that again.
    """
    from stockade.sessions._collecting import collect

    if watch is not None and not watch > 0:
        raise click.UsageError("--watch needs seconds above 0.")
    stop = threading.Event()
    if watch is not None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
    clean = True
    while True:
        done = collect(strings=strings, force=force, dry_run=dry_run)
        clean = done.clean
        seen = {entry[0] for entry in (*done.removed, *done.forgotten, *done.failed)}
        if as_json:
            say(json.dumps(attrs.asdict(done)))
        else:
            _print(done, dry_run, quiet=watch is not None)
        for session_id in force:
            if session_id not in seen:
                say(f"stockade: no session {session_id}: see `stockade session list`", err=True)
                clean = False
        sys.stdout.flush()
        if watch is None or stop.wait(watch):
            break
    sys.exit(0 if clean or watch is not None else 1)


def _print(done: object, dry_run: bool, *, quiet: bool) -> None:
    from stockade.ledger._collecting import Collected

    assert isinstance(done, Collected)
    for session_id, what, why in done.removed:
        say(f"{'would remove' if dry_run else 'removed'} {session_id}: {what}: {why}")
    for session_id, why in done.forgotten:
        say(f"{'would forget' if dry_run else 'forgot'} {session_id}: {why}")
    for session_id, why in done.failed:
        say(f"stockade: {session_id} could not be removed: {why}", err=True)
    for name, why in done.skipped:
        say(f"stockade: {name} was not looked at: {why}", err=True)
    if not quiet:
        verb = "to remove" if dry_run else "removed"
        say(
            f"{len(done.removed)} {verb}, {len(done.forgotten)} forgotten, "
            f"{len(done.failed)} failed, {done.kept} kept"
        )
