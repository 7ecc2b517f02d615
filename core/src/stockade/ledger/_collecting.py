"""Finding and removing what dead processes left (``stockade gc``, C5, C9, C11).

Two sources: the ledger, and what the walls themselves list in their engines or in
the system, so that it also works when the ledger was lost. What is left over is
judged in :mod:`stockade.ledger._judging`; nothing of a process that lives, or that may
live somewhere out of sight, is touched before its lifetime is over.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from stockade.errors import LedgerError
from stockade.events import Event, EventKind
from stockade.ledger._judging import Look, why_forget, why_remove
from stockade.ledger._looking import Found, Sites, WallAt
from stockade.ledger._sqlite import LedgerRecord
from stockade.selection._discovery import installed
from stockade.system.owner import Life, life_of
from stockade.system.threads import Narrow, Workers, bounded
from stockade.wall import Wall

if TYPE_CHECKING:
    from stockade.ledger._sqlite import SqliteLedger

__all__ = ["Collected", "Collector"]

_log = logging.getLogger(__name__)

#: How long a wall may take to remove one.
_REMOVE_SECONDS = 60.0
#: A removal that failed is tried again after these many seconds.
_PAUSES = (0.2, 1.0)
#: Removals at one time.
_AT_ONCE = 8
#: Processes that start in a row do not all collect.
_TURN_SECONDS = 60.0


@attrs.define
class Collected:
    """What one pass found and did."""

    removed: list[tuple[str, str, str]] = attrs.field(factory=list)  #: session, what, why
    forgotten: list[tuple[str, str]] = attrs.field(factory=list)  #: records of nothing: why
    failed: list[tuple[str, str]] = attrs.field(factory=list)  #: session, error; tried next time
    #: Walls that could not be looked at, and why; or the ledger.
    skipped: list[tuple[str, str]] = attrs.field(factory=list)
    kept: int = 0  #: sessions that are somebody's

    @property
    def clean(self) -> bool:
        """Whether nothing that should be gone is still there, as far as could be seen."""
        return not self.failed and not self.skipped


class Collector:
    """Finds and removes what dead processes left, for one runtime."""

    def __init__(
        self,
        ledger: SqliteLedger | None,
        workers: Workers,
        wall_at: WallAt,
        sink: Callable[[Event], None],
    ) -> None:
        """``sink`` hands events to observers."""
        self._ledger = ledger
        self._workers = workers
        self._wall_at = wall_at
        self._sink = sink

    def collect(
        self, strings: Iterable[str] = (), force: Sequence[str] = (), *, dry_run: bool = False
    ) -> Collected:
        """See :func:`stockade.collect`."""
        names = [found.name for found in installed()]
        return self._pass(force, dry_run).over(names=names, strings=strings)

    def collect_quietly(self, name: str, wall: Wall) -> None:
        """The pass that a process's first session starts, in the background.

        Cheap: one process a minute, the records of dead owners and one wall, the one in use.
        """
        if self._ledger is None or os.environ.get("STOCKADE_GC") == "off":
            return
        try:
            if not self._ledger.take_turn(_TURN_SECONDS):
                return
            done = self._pass((), False).over(known={name: wall})
        except LedgerError as error:
            _log.debug("nothing was collected: %s", error)
            return
        except Exception:
            _log.exception("collecting what dead processes left failed")
            return
        for session_id, what, why in done.removed:
            _log.info("collected %s of session %s: %s", what, session_id, why)
        for session_id, why in done.failed:
            _log.warning("session %s is left over and could not be removed: %s", session_id, why)

    def _pass(self, force: Sequence[str], dry_run: bool) -> _Pass:
        done = Collected()
        sites = Sites(
            self._workers, self._wall_at, lambda name, why: done.skipped.append((name, why))
        )
        return _Pass(
            self._ledger, self._workers, sites, self._sink, done, frozenset(force), dry_run
        )


class _Pass:
    """One look at everything."""

    def __init__(
        self,
        ledger: SqliteLedger | None,
        workers: Workers,
        sites: Sites,
        sink: Callable[[Event], None],
        done: Collected,
        force: frozenset[str],
        dry_run: bool,
    ) -> None:
        self._ledger = ledger
        self._workers = workers
        self._sites = sites
        self._sink = sink
        self._done = done
        self._force = force
        self._dry = dry_run
        self._counting = threading.Lock()
        self._records: dict[str, LedgerRecord] = {}

    def over(
        self,
        *,
        names: Iterable[str] = (),
        strings: Iterable[str] = (),
        known: Mapping[str, Wall] | None = None,
    ) -> Collected:
        """The whole pass: records, installed providers, strings that somebody asked for. With
        ``known`` walls only what looks left over is looked for."""
        self._read_ledger()
        for record in self._records.values():
            if known is None or life_of(record.owner) is not Life.ALIVE:
                self._sites.add_record(record)
        for name, wall in (known or {}).items():
            self._sites.add(name, wall, wanted=True)
        for name in names:
            self._sites.add_string(name, wanted=False)
        for string in strings:
            self._sites.add_named(string)
        found = self._sites.look()
        seen = {one.leftover.session_id for one in found}
        self._judge_all(found)
        for record in self._records.values():
            if record.session_id not in seen:
                self._judge_record(record, self._sites.look_of(record))
        return self._done

    # -- looking -----------------------------------------------------------------

    def _read_ledger(self) -> None:
        if self._ledger is None:
            return
        try:
            self._ledger.flush()
            self._records = {record.session_id: record for record in self._ledger.sessions()}
        except LedgerError as error:
            self._done.skipped.append(("ledger", str(error)))
            self._ledger = None

    # -- deciding ------------------------------------------------------------------

    def _judge_all(self, found: Sequence[Found]) -> None:
        """Several at a time: one that hangs must not keep the others there."""
        narrow = Narrow(self._workers, _AT_ONCE)
        for judged in [narrow.submit(functools.partial(self._judge, one)) for one in found]:
            judged.result()

    def _judge(self, one: Found) -> None:
        leftover = one.leftover
        record = self._records.get(leftover.session_id)
        why = "it was asked for" if leftover.session_id in self._force else None
        try:
            why = why or why_remove(leftover, record, self._ledger)
        except LedgerError as error:
            self._done.skipped.append(("ledger", str(error)))
        if why is None:
            self._keep()
            return
        what = leftover.words or leftover.handle
        if self._dry:
            self._done.removed.append((leftover.session_id, what, why))
            return
        self._remove(one, record, what, why)

    def _keep(self) -> None:
        with self._counting:
            self._done.kept += 1

    def _judge_record(self, record: LedgerRecord, look: Look) -> None:
        """A record of which no wall lists anything."""
        forced = record.session_id in self._force
        try:
            why = "it was asked for" if forced else why_forget(record, look, self._ledger)
        except LedgerError as error:  # damaged in part: in doubt it is somebody's
            self._done.skipped.append(("ledger", str(error)))
            why = None
        if why is None:
            self._done.kept += look is not Look.AWAY
            return
        try:
            if not self._dry and self._ledger is not None:
                if not self._ledger.claim(record):
                    self._keep()  # what was looked for was not there yet when we looked
                    return
                self._ledger.drop(record.session_id)
        except LedgerError as error:
            self._done.failed.append((record.session_id, str(error)))
            return
        self._done.forgotten.append((record.session_id, why))

    # -- doing ---------------------------------------------------------------------

    def _remove(self, one: Found, record: LedgerRecord | None, what: str, why: str) -> None:
        session_id = one.leftover.session_id
        try:
            if record is not None and self._ledger is not None and not self._ledger.claim(record):
                self._keep()  # somebody attached to it, or removes it, since we looked
                return
            self._end(one)
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
            self._done.failed.append((session_id, words))
            self._note_failure(record, words)
            return
        try:
            if record is not None and self._ledger is not None:
                self._ledger.drop(session_id)
        except LedgerError as error:
            self._done.failed.append((session_id, str(error)))
        self._done.removed.append((session_id, what, why))
        self._sink(
            Event(
                kind=EventKind.SESSION_COLLECTED,
                provider=one.name,
                agent_id="",
                session_id=session_id,
                reason=why,
            )
        )

    def _end(self, one: Found) -> None:
        for pause in (*_PAUSES, None):
            try:
                bounded(self._workers, lambda: one.wall.remove(one.leftover), _REMOVE_SECONDS)
                return
            except Exception:
                if pause is None:
                    raise
            time.sleep(pause)

    def _note_failure(self, record: LedgerRecord | None, words: str) -> None:
        if record is None or self._ledger is None:
            return
        try:
            self._ledger.fail(record, f"removing it failed: {words}")
        except LedgerError as error:
            _log.warning("the ledger does not take that removing failed: %s", error)
