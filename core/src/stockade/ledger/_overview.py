"""All sessions that the ledger and the walls know of, for people and programs."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Sequence
from concurrent import futures
from typing import Any

import attrs

from stockade._leftover import Leftover, Usage
from stockade._place import Place
from stockade.errors import SessionNotFoundError, StockadeError
from stockade.ledger._looking import WallAt
from stockade.ledger._sqlite import LedgerRecord, SqliteLedger
from stockade.system.owner import Life, Owner, life_of
from stockade.system.threads import Narrow, Workers, bounded
from stockade.wall import Wall

__all__ = ["Overview", "find_session", "overview", "usages"]

_log = logging.getLogger(__name__)

#: Seconds that a wall may take to list its sandboxes, or to report what one uses.
_ASK_SECONDS = 10.0
#: Sessions that are asked about at the same time.
_AT_ONCE = 16


@attrs.frozen(kw_only=True)
class Overview:
    """One session as another process may know it."""

    session_id: str
    provider: str
    string: str
    state: str  #: a SessionStatus word, or "paused"
    durable: bool
    #: "pid 1234" of a process that lives here, "dead", "elsewhere" (another machine or
    #: container, so nothing is known), or "-" for a durable one that nobody holds.
    owner: str
    users: int  #: processes that hold it and may live
    created_at: float
    last_used: float
    expires_at: float | None
    idle_seconds: float | None
    reason: str
    place: Place | None = None  #: where its sandbox was made; None if that was not kept

    def plain(self) -> dict[str, Any]:
        """For JSON: times as Unix seconds, the place as its wall's own word."""
        word = "" if self.place is None else self.place.word
        return {**attrs.asdict(self, recurse=False), "place": word}


def overview(ledger: SqliteLedger | None) -> list[Overview]:
    """Every session in a ledger, oldest first; none without one. Raises LedgerError."""
    if ledger is None:
        return []
    ledger.flush()
    return [_of(ledger, record) for record in ledger.sessions()]


def _of(ledger: SqliteLedger, record: LedgerRecord) -> Overview:
    users = ledger.users(record.session_id)
    state = record.state
    if state in ("ready", "executing"):
        state = "executing" if any(busy for _, busy in users) else "ready"
        state = "paused" if record.paused else state
    return Overview(
        session_id=record.session_id,
        provider=record.provider,
        string=record.string,
        state=state,
        durable=record.durable,
        owner=_owner(record, len(users)),
        users=len(users),
        created_at=record.created_at,
        last_used=record.last_used,
        expires_at=record.expires_at,
        idle_seconds=record.idle_seconds,
        reason=record.reason,
        place=record.place,
    )


def _owner(record: LedgerRecord, users: int) -> str:
    life = life_of(record.owner)
    known = Owner.parse(record.owner)
    if record.durable and not users:
        return "-"
    if life is Life.ALIVE and known is not None:
        return f"pid {known.pid}"
    return "dead" if life is Life.DEAD else "elsewhere"


def find_session(ledger: SqliteLedger | None, word: str) -> LedgerRecord:
    """The record of an id, or of the beginning of one that is enough to know it.

    Raises SessionNotFoundError, LedgerError, and StockadeError where several begin so.
    """
    records = ledger.sessions() if ledger is not None else []
    exact = [record for record in records if record.session_id == word]
    begin = [r for r in records if word and r.session_id.startswith((word, f"ses-{word}"))]
    found = exact or begin
    if len(found) > 1:
        raise StockadeError(f"{len(found)} sessions begin with {word!r}; give more of the id.")
    if not found:
        raise SessionNotFoundError(word)
    return found[0]


def usages(workers: Workers, wall_at: WallAt, sessions: Sequence[Overview]) -> dict[str, Usage]:
    """What each session uses, as far as its wall reports it; all walls are asked at once."""
    walls = _walls(wall_at, sessions)
    wanted = {session.session_id for session in sessions}
    listed = {
        key: workers.submit(lambda wall=wall: list(wall.leftovers()))  # type: ignore[misc]
        for key, wall in walls.items()
    }
    futures.wait(listed.values(), _ASK_SECONDS)
    narrow = Narrow(workers, _AT_ONCE)
    asked: dict[str, futures.Future[Usage | None]] = {}
    for key, answer in listed.items():
        for leftover in _listed(answer):
            if leftover.session_id in wanted and leftover.session_id not in asked:
                asked[leftover.session_id] = narrow.submit(
                    functools.partial(_ask, workers, walls[key], leftover)
                )
    futures.wait(asked.values(), _ASK_SECONDS)
    return {
        session_id: usage
        for session_id, answer in asked.items()
        if answer.done() and not answer.exception() and (usage := answer.result()) is not None
    }


def _walls(wall_at: WallAt, sessions: Sequence[Overview]) -> dict[tuple[str, Place | None], Wall]:
    """One for each place where some of them live (C9)."""
    walls: dict[tuple[str, Place | None], Wall] = {}
    for session in sessions:
        key = (session.provider, session.place)
        if key in walls:
            continue
        try:
            walls[key] = wall_at(session.string, session.place)
        except StockadeError as error:
            _log.debug("%s is not asked: %s", session.provider, error)
    return walls


def _listed(answer: futures.Future[list[Leftover]]) -> list[Leftover]:
    return answer.result() if answer.done() and not answer.exception() else []


def _ask(workers: Workers, wall: Wall, leftover: Leftover) -> Usage | None:
    return bounded(workers, lambda: wall.usage(leftover), _ASK_SECONDS)


def age(seconds: float) -> str:
    """A span for a person: 12s, 5m, 3h, 2d."""
    for size, letter in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{letter}"
    return f"{max(0, int(seconds))}s"


def left(session: Overview) -> str:
    """How long a session has, for a person."""
    if session.expires_at is None:
        return "-"
    seconds = session.expires_at - time.time()
    return "over" if seconds <= 0 else age(seconds)
