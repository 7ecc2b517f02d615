"""Letting go of a durable session: it lives on, and other processes attach to it (C10)."""

from __future__ import annotations

import contextlib
import logging
from concurrent import futures
from typing import TYPE_CHECKING

from stockade.errors import LedgerError, SessionNotFoundError, SessionStateError
from stockade.events import Event, EventKind
from stockade.results import SessionStatus, Verdict
from stockade.sessions._registry import Counted, SessionRecord
from stockade.system.threads import bounded

if TYPE_CHECKING:
    from stockade.sessions._runtime import Runtime

__all__ = ["detach"]

_log = logging.getLogger(__name__)

#: How long executions may take to end, and the wall to let go.
_SECONDS = 15.0


def detach(runtime: Runtime, record: SessionRecord) -> None:
    """End what this process runs in a session, and leave the session to others.

    Raises SessionStateError for one that is not durable or is being ended, and
    SessionNotFoundError for one that is gone.
    """
    executions = list(_leave(record).values())
    for execution in executions:
        execution.stop(Verdict.CANCELLED)
    futures.wait([execution.future for execution in executions], _SECONDS)
    record.cancel_timers()
    sandbox, record.sandbox = record.sandbox, None
    runtime.registry.release(record)
    if sandbox is not None:
        try:
            bounded(runtime.workers, sandbox.detach, _SECONDS)
        except Exception:
            _log.exception("letting go of session %s failed", record.session_id)
    for execution in executions:
        execution.conclude()
    with contextlib.suppress(SessionStateError):
        record.move(SessionStatus.DESTROYED)
    _tell_ledger(runtime, record)
    runtime.hooks.tell(
        Event(
            kind=EventKind.SESSION_DETACHED, provider=record.provider,
            agent_id=record.agent_id, session_id=record.session_id,
        )
    )  # fmt: skip


def _leave(record: SessionRecord) -> dict[str, Counted]:
    """Close the record to new executions, in this process alone; what runs in it."""
    with record.lock:
        if record.status is SessionStatus.DESTROYED:
            raise SessionNotFoundError(record.session_id)
        if not record.config.durable:
            raise SessionStateError(
                f"session {record.session_id} is not durable and ends with this process; "
                "open it with durable=True to leave it to others."
            )
        if record.status not in (SessionStatus.READY, SessionStatus.EXECUTING):
            raise SessionStateError(
                f"session {record.session_id} is {record.status} and cannot be left to others; "
                "close it."
            )
        record.on_move = None  # for everybody else it stays as it is
        record.move(SessionStatus.DESTROYING)
        return dict(record.executions)


def _tell_ledger(runtime: Runtime, record: SessionRecord) -> None:
    if runtime.ledger is None:
        return
    try:
        runtime.ledger.detach(record.session_id)
    except LedgerError as error:
        # Nothing is lost: a process that is dead counts as having let go.
        _log.warning("letting go of session %s was not written: %s", record.session_id, error)
