"""Ending one session: its executions first, then the sandbox, then everybody knows (C6, C7)."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import time
from concurrent import futures
from concurrent.futures import Future
from typing import TYPE_CHECKING, NoReturn

from stockade.errors import DestroyError, SessionNotFoundError
from stockade.events import EventKind
from stockade.results import SessionStatus, Verdict
from stockade.sessions._registry import SessionRecord, SessionRegistry
from stockade.sessions._reporter import Reporter
from stockade.system.threads import Workers
from stockade.values.shown import named

if TYPE_CHECKING:
    from stockade.executions._home import Counted

__all__ = ["CLOSE_SECONDS", "Ending"]

#: How long a wall may take to end a sandbox before that counts as failed (C6).
CLOSE_SECONDS = 30.0


class Ending:
    """Ends the sessions of one runtime."""

    def __init__(self, workers: Workers, registry: SessionRegistry, reporter: Reporter) -> None:
        self._workers = workers
        self._registry = registry
        self._reporter = reporter

    def end(self, record: SessionRecord) -> None:
        """What ``Runtime.destroy`` says.

        It is done in a thread of core's: an interrupt of the calling one, wherever it comes,
        only ends the waiting, and leaves no session that is half ended and nobody's.
        """
        context = contextvars.copy_context()
        work = functools.partial(context.run, self._end, record)
        self._workers.submit(work, anyhow=True).result()

    def _end(self, record: SessionRecord) -> None:
        executions = _take(record)
        self._reporter.report(
            EventKind.SESSION_DESTROYING, record.provider, record.agent_id, record
        )
        for execution in executions:
            execution.stop(Verdict.CANCELLED)
        closing = self._close(record)
        futures.wait([closing], CLOSE_SECONDS)
        error: BaseException | None = TimeoutError(f"no answer within {CLOSE_SECONDS:g} s")
        if closing.done():
            error = closing.exception()
        if error is not None:
            self._failed(record, error)
        self._ended(record, executions)

    def _close(self, record: SessionRecord) -> Future[None]:
        """Have the wall end it: once, or again after it raised. While an earlier call still runs,
        or where that ended too late to be waited for, its end is this one's."""
        with record.lock:
            if record.sandbox is None:
                return self._workers.submit(_nothing, anyhow=True)
            closing = record.closing
            if closing is None or (closing.done() and closing.exception() is not None):
                closing = self._workers.submit(record.sandbox.close, anyhow=True)
                record.closing = closing
            return closing

    def _ended(self, record: SessionRecord, executions: list[Counted]) -> None:
        """Nothing of it is left: have everybody know."""
        with contextlib.ExitStack() as steps:  # from the last to the first, whatever one raises
            steps.callback(
                self._reporter.report,
                EventKind.SESSION_DESTROYED,
                record.provider,
                record.agent_id,
                record,
                duration_seconds=time.time() - record.created_at,
                reason=record.reason or None,
            )
            steps.callback(self._registry.remove, record)
            steps.callback(record.cancel_timers)
            steps.callback(setattr, record, "sandbox", None)
            steps.callback(record.move, SessionStatus.DESTROYED)
            for execution in reversed(executions):
                steps.callback(execution.conclude)

    def _failed(self, record: SessionRecord, error: BaseException) -> NoReturn:
        """The wall did not end it: it stays, marked failed, to be tried again."""
        record.reason = f"ending it failed: {named(error)}"
        with contextlib.ExitStack() as steps:
            steps.callback(
                self._reporter.report,
                EventKind.SESSION_FAILED,
                record.provider,
                record.agent_id,
                record,
                reason=type(error).__name__,
            )
            for execution in list(record.executions.values()):
                steps.callback(execution.conclude)
            steps.callback(record.move, SessionStatus.FAILED)
        raise DestroyError(
            f"session {record.session_id} could not be ended: {named(error)}. It is marked failed; "
            "destroy it again."
        ) from error


def _take(record: SessionRecord) -> list[Counted]:
    """Take the right to end it; waits while somebody else has it. What runs in it."""
    while True:
        with record.lock:
            if record.status is SessionStatus.DESTROYED or record.undone:
                raise SessionNotFoundError(record.session_id)
            if record.status is not SessionStatus.DESTROYING:
                record.move(SessionStatus.DESTROYING)
                return list(record.executions.values())
        if not record.settled.wait(2 * CLOSE_SECONDS):
            raise DestroyError(
                f"session {record.session_id} is still being ended by another thread; "
                "destroy it again later."
            )


def _nothing() -> None:
    return None
