"""Total and idle lifetimes of the sessions of this process (C11)."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from stockade.errors import LedgerError
from stockade.sessions._registry import SessionRecord

if TYPE_CHECKING:
    from stockade.sessions._runtime import Runtime

__all__ = ["arm"]

_log = logging.getLogger(__name__)

#: The timers of a record.
_LIFE, _IDLE = "lifetime", "idle"


def arm(runtime: Runtime, record: SessionRecord) -> None:
    """Have the session destroyed when its lifetime is over, or it was idle for too long.

    Counted by a clock that nobody sets. ``gc`` and, where the wall can, the sandbox
    itself keep the same ends when this process is dead.
    """

    def expire() -> None:
        runtime.workers.run(lambda: runtime.expire(record, "its lifetime is over"))

    def idle() -> None:
        left = _idle_left(runtime, record)
        if left > 0:
            record.set_timer(_IDLE, runtime.clock.after(left, look))
        else:
            runtime.expire(record, "it was idle for too long")

    def look() -> None:
        runtime.workers.run(idle)

    if record.expires_at is not None:
        left = record.expires_at - time.time() if record.attached else _lifetime(record)
        record.set_timer(_LIFE, runtime.clock.after(max(0.0, left), expire))
    if record.config.idle_seconds is not None:
        record.set_timer(_IDLE, runtime.clock.after(record.config.idle_seconds, look))


def _lifetime(record: SessionRecord) -> float:
    return record.config.lifetime_seconds or 0.0


def _idle_left(runtime: Runtime, record: SessionRecord) -> float:
    """Seconds until it counts as idle for too long; use by other processes counts too."""
    limit = record.config.idle_seconds
    assert limit is not None
    with record.lock:
        if record.executions or record.calls:
            return limit
        left = limit - (time.monotonic() - record.last_used)
    if left > 0 or not record.config.durable or runtime.ledger is None:
        return left
    try:
        busy, left = runtime.ledger.idleness(record.session_id)
    except LedgerError as error:
        _log.warning("session %s is kept, though idle here: %s", record.session_id, error)
        return limit
    return limit if busy else left
