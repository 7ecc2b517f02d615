"""Total and idle lifetimes of the sessions of this process (C11)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from stockade.errors import LedgerError
from stockade.sessions._registry import SessionRecord
from stockade.system.threads import Clock, Workers

__all__ = ["Lifetimes", "UseElsewhere"]

_log = logging.getLogger(__name__)

#: The timers of a record.
_LIFE, _IDLE = "lifetime", "idle"


class UseElsewhere(Protocol):
    """What knows how other processes use a durable session; a ledger does."""

    def idleness(self, session_id: str) -> tuple[bool, float]: ...


class Lifetimes:
    """Holds the sessions of one runtime to their lifetimes."""

    def __init__(
        self,
        workers: Workers,
        clock: Clock,
        elsewhere: UseElsewhere | None,
        expire: Callable[[SessionRecord, str], None],
    ) -> None:
        """``expire`` ends a session, and is given why."""
        self._workers = workers
        self._clock = clock
        self._elsewhere = elsewhere
        self._expire = expire

    def arm(self, record: SessionRecord) -> None:
        """Have the session destroyed when its lifetime is over, or it was idle for too long.

        Counted by a clock that nobody sets. ``gc`` and, where the wall can, the sandbox
        itself keep the same ends when this process is dead.
        """

        def expire() -> None:
            self._workers.run(lambda: self._expire(record, "its lifetime is over"))

        def idle() -> None:
            left = self._idle_left(record)
            if left > 0:
                record.set_timer(_IDLE, self._clock.after(left, look))
            else:
                self._expire(record, "it was idle for too long")

        def look() -> None:
            self._workers.run(idle)

        if record.expires_at is not None:
            left = record.expires_at - time.time() if record.attached else _lifetime(record)
            record.set_timer(_LIFE, self._clock.after(max(0.0, left), expire))
        if record.config.idle_seconds is not None:
            record.set_timer(_IDLE, self._clock.after(record.config.idle_seconds, look))

    def _idle_left(self, record: SessionRecord) -> float:
        """Seconds until it counts as idle for too long; use by other processes counts too."""
        limit = record.config.idle_seconds
        assert limit is not None
        with record.lock:
            if record.executions or record.calls:
                return limit
            left = limit - (time.monotonic() - record.last_used)
        if left > 0 or not record.config.durable or self._elsewhere is None:
            return left
        try:
            busy, left = self._elsewhere.idleness(record.session_id)
        except LedgerError as error:
            _log.warning("session %s is kept, though idle here: %s", record.session_id, error)
            return limit
        return limit if busy else left


def _lifetime(record: SessionRecord) -> float:
    return record.config.lifetime_seconds or 0.0
