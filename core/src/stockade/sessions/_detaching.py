"""Letting go of a durable session: it lives on, and other processes attach to it (C10)."""

from __future__ import annotations

import contextlib
import logging
from concurrent import futures
from typing import TYPE_CHECKING, Protocol

from stockade.errors import LedgerError, SessionNotFoundError, SessionStateError
from stockade.events import EventKind
from stockade.results import SessionStatus, Verdict
from stockade.sessions._registry import SessionRecord, SessionRegistry
from stockade.sessions._reporter import Reporter
from stockade.system.threads import Workers, bounded

if TYPE_CHECKING:
    from stockade.executions._home import Counted

__all__ = ["Detaching"]

_log = logging.getLogger(__name__)

#: How long executions may take to end, and the wall to let go.
_SECONDS = 15.0


class Detachable(Protocol):
    """The ledger of durable sessions, as far as letting go of one needs it."""

    def detach(self, session_id: str) -> None: ...


class Detaching:
    """Lets go of the durable sessions of one runtime."""

    def __init__(
        self,
        workers: Workers,
        registry: SessionRegistry,
        ledger: Detachable | None,
        reporter: Reporter,
    ) -> None:
        self._workers = workers
        self._registry = registry
        self._ledger = ledger
        self._reporter = reporter

    def detach(self, record: SessionRecord) -> None:
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
        self._registry.release(record)
        if sandbox is not None:
            try:
                bounded(self._workers, sandbox.detach, _SECONDS)
            except Exception:
                _log.exception("letting go of session %s failed", record.session_id)
        for execution in executions:
            execution.conclude()
        with contextlib.suppress(SessionStateError):
            record.move(SessionStatus.DESTROYED)
        self._note(record)
        self._reporter.report(EventKind.SESSION_DETACHED, record.provider, record.agent_id, record)

    def _note(self, record: SessionRecord) -> None:
        if self._ledger is None:
            return
        try:
            self._ledger.detach(record.session_id)
        except LedgerError as error:
            # Nothing is lost: a process that is dead counts as having let go.
            _log.warning("letting go of session %s was not written: %s", record.session_id, error)


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
