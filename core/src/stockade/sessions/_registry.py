"""The session registry: records, their states, and who may reach them (C1 to C8).

Records live in memory; a :class:`Ledger` records every change before the change
takes effect, so that a durable one can find what a dead process left.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING

import attrs

from stockade._place import Place
from stockade.config import SandboxConfig
from stockade.errors import (
    CancelledError,
    ForkedSessionError,
    SandboxLostError,
    SessionNotFoundError,
    SessionStateError,
    StockadeError,
)
from stockade.ledger._interface import Ledger, MemoryLedger
from stockade.results import SessionStatus
from stockade.system.interrupts import is_interrupt
from stockade.system.moments import moment

if TYPE_CHECKING:
    from stockade.executions._home import Counted
    from stockade.file_backend import FileCall
    from stockade.sessions._capacity import Permit
    from stockade.system.threads import Timer
    from stockade.wall import Sandbox

__all__ = ["MOVES", "SessionRecord", "SessionRegistry"]

_log = logging.getLogger(__name__)

_S = SessionStatus

#: The moves that make sense (C4). READY and EXECUTING follow from the count of
#: executions; a failed session can only be destroyed.
MOVES: dict[SessionStatus, frozenset[SessionStatus]] = {
    _S.PROVISIONING: frozenset({_S.READY, _S.FAILED, _S.DESTROYING}),
    _S.READY: frozenset({_S.EXECUTING, _S.DESTROYING, _S.FAILED}),
    _S.EXECUTING: frozenset({_S.READY, _S.DESTROYING, _S.FAILED}),
    _S.DESTROYING: frozenset({_S.DESTROYED, _S.FAILED}),
    _S.FAILED: frozenset({_S.DESTROYING}),
    _S.DESTROYED: frozenset(),
}


def _note_end(record: SessionRecord, _: object, when: float | None) -> float | None:
    record.ends = None if when is None else moment(when)
    return when


@attrs.define(eq=False)
class SessionRecord:
    """One session as the registry holds it; its lock guards all that changes."""

    session_id: str
    agent_id: str
    provider: str  #: the entry-point name
    target: str | None
    config: SandboxConfig
    string: str = ""  #: the provider string that opens one like it, without secrets
    place: Place | None = None  #: where its sandbox is made, as its wall says (C9)
    created_at: float = attrs.field(factory=time.time)
    #: Unix time, by the clock as it stood when this was set.
    expires_at: float | None = attrs.field(default=None, on_setattr=_note_end)
    #: The same, for other processes and whatever the clock is set to later (C11).
    ends: str | None = attrs.field(init=False, default=None)
    sandbox: Sandbox | None = None
    status: SessionStatus = SessionStatus.PROVISIONING
    executions: dict[str, Counted] = attrs.field(factory=dict)
    calls: set[FileCall] = attrs.field(factory=set)  #: on its files, running now
    reason: str = ""  #: why it failed
    pid: int = attrs.field(factory=os.getpid)  #: the process that opened it, or attached to it
    undone: bool = False  #: its opening failed, and it is forgotten
    paused: bool = False
    attached: bool = False  #: another process made it (C10)
    noted: bool | None = None  #: the ledger's own mark: ``paused``, as it was written last
    pausing: threading.Lock = attrs.field(factory=threading.Lock, repr=False)
    #: Under way, or done: the only call of Sandbox.close, until it raised (C6).
    closing: Future[None] | None = None
    timers: dict[str, Timer] = attrs.field(factory=dict)  #: by what they are for
    last_used: float = attrs.field(factory=time.monotonic)
    languages: tuple[str, ...] | None = None  #: interpreters found, once looked for
    interpreters: dict[str, str] = attrs.field(factory=dict)
    lock: threading.RLock = attrs.field(factory=threading.RLock, repr=False)
    permit: Permit | None = None  #: of the runtime's capacity; given back when nothing is left
    settled: threading.Event = attrs.field(factory=threading.Event, repr=False)
    on_move: Callable[[SessionRecord], None] | None = attrs.field(default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        self.expires_at = self.expires_at  # noted by on_setattr, which the making does not call

    def here(self) -> None:
        """Raise ForkedSessionError in any process but the one that opened it (C12). Waits for
        no lock: one that another thread held at the fork stays held in the child."""
        if self.pid != os.getpid():
            raise ForkedSessionError(
                f"session {self.session_id} was opened by process {self.pid}, from which this one "
                "was forked, and is that one's; open a session of this process's own."
            )

    def present_status(self) -> SessionStatus:
        """The state as it is now. Raises ForkedSessionError."""
        self.here()
        return self.status

    def move(self, to: SessionStatus) -> None:
        """Go to another state, or raise SessionStateError if none leads there (C4)."""
        with self.lock:
            if to not in MOVES[self.status]:
                raise SessionStateError(
                    f"session {self.session_id} is {self.status} and cannot become {to}; "
                    "open a new session."
                )
            made = self.status is _S.PROVISIONING and to is _S.READY
            self.status = to
            if to is _S.DESTROYING:
                self.settled.clear()
            elif to in (_S.DESTROYED, _S.FAILED):
                self.settled.set()  # callers that wait for the destruction go on
            if to is _S.DESTROYING:
                self._end_calls(CancelledError("the session was ended during a file call."))
            elif to is _S.FAILED:
                self._end_calls(SandboxLostError(f"{self.reason}; open a new session."))
            self._report(made)

    def _end_calls(self, error: StockadeError) -> None:
        """Calls that wait for a file end at once (C7, D14)."""
        for call in list(self.calls):
            call.cancel(error)

    def enter(self, call: FileCall) -> None:
        """Count a call on the files; raises SessionStateError unless it can be served now."""
        self.here()
        with self.lock:
            self._can_do("serves no files")
            if self.paused:
                raise SessionStateError(
                    f"session {self.session_id} is paused; resume it before you use its files."
                )
            self.calls.add(call)

    def leave(self, call: FileCall) -> None:
        """Count it no more."""
        with self.lock:
            self.calls.discard(call)
            self.last_used = time.monotonic()

    def _can_do(self, nothing: str) -> None:
        if self.status in (_S.READY, _S.EXECUTING):
            return
        why = f" ({self.reason})" if self.reason else ""
        raise SessionStateError(
            f"session {self.session_id} is {self.status}{why} and {nothing}; open a new session."
        )

    def add(self, execution: Counted) -> None:
        """Count one more execution; raises SessionStateError unless ready or executing."""
        with self.lock:
            self._can_do("executes nothing")
            if self.status is _S.READY:
                self.move(_S.EXECUTING)
            self.executions[execution.execution_id] = execution

    def counted(self) -> list[Counted]:
        """The executions that run now, in the order in which they were added."""
        with self.lock:
            return list(self.executions.values())

    def discard(self, execution: Counted) -> None:
        """Count one less."""
        with self.lock:
            self.executions.pop(execution.execution_id, None)
            self.last_used = time.monotonic()
            if not self.executions and self.status is _S.EXECUTING:
                self.move(_S.READY)

    def set_timer(self, name: str, timer: Timer) -> None:
        """Keep a timer until the session ends, in place of the one of that name: a clock
        keeps what its calls hold until they are made or cancelled."""
        with self.lock:
            old = self.timers.pop(name, None)
            if self.undone or self.status is _S.DESTROYED:
                timer.cancel()
            else:
                self.timers[name] = timer
        if old is not None:
            old.cancel()

    def cancel_timers(self) -> None:
        """Cancel all that were set."""
        with self.lock:
            timers, self.timers = list(self.timers.values()), {}
        for timer in timers:
            timer.cancel()

    def set_paused(self, paused: bool) -> None:
        """Mark it paused or not."""
        with self.lock:
            self.paused = paused
            self.save()

    def save(self) -> None:
        """Have the ledger record what changed beside the state."""
        with self.lock:
            self._report()

    def _report(self, made: bool = False) -> None:
        """Have the ledger record this. What it raises fails a creation (C5), and stops nothing
        else: the change has happened, and a session half ended would stay for ever."""
        try:
            if self.on_move is not None:
                self.on_move(self)
        except BaseException as error:
            if made or is_interrupt(error):
                raise
            _log.exception("the ledger failed at a change of session %s", self.session_id)

    def fail(self, reason: str) -> None:
        """Mark it failed if its state allows; what is being destroyed stays so."""
        with self.lock:
            if _S.FAILED in MOVES[self.status] and self.status is not _S.DESTROYING:
                self.reason = reason
                self.move(_S.FAILED)

    def undo(self, reason: str) -> bool:
        """Mark it failed, since its opening did; False when somebody is ending it by now, who
        forgets it, too. Who would end it later finds it gone."""
        with self.lock:
            self.undone = self.status not in (_S.DESTROYING, _S.DESTROYED)
            self.fail(reason)
            return self.undone


class SessionRegistry:
    """All sessions of this process. Its lock is held for look-ups only (C8)."""

    def __init__(
        self, ledger: Ledger | None = None, parents: Mapping[str, SessionRecord] | None = None
    ) -> None:
        """``parents``: those of the process from which this one was forked (C12)."""
        self.ledger: Ledger = ledger or MemoryLedger()
        self._parents = dict(parents or {})
        self._lock = threading.Lock()
        self._records: dict[str, SessionRecord] = {}

    def in_child(self) -> SessionRegistry:
        """A forked child's: it knows the parent's sessions, to refuse them."""
        return SessionRegistry(self.ledger, {**self._parents, **self._records})

    def add(self, record: SessionRecord) -> None:
        """Write the intent, then hold the record; what the ledger raises prevents both."""
        record.on_move = self.ledger.change
        self.ledger.intend(record)
        with self._lock:
            self._records[record.session_id] = record

    def adopt(self, record: SessionRecord) -> None:
        """Hold a record that the ledger has already, of a session made elsewhere (C10)."""
        record.on_move = self.ledger.change
        with self._lock:
            self._records[record.session_id] = record

    def release(self, record: SessionRecord) -> None:
        """Hold a record no more; its sandbox lives on and the ledger keeps it."""
        with self._lock:
            self._records.pop(record.session_id, None)

    def get(self, agent_id: str, session_id: str) -> SessionRecord:
        """The record, for its own agent alone; else SessionNotFoundError (C3). Raises
        ForkedSessionError if it is the parent's (C12)."""
        with self._lock:
            record = self._records.get(session_id) or self._parents.get(session_id)
        if record is None or record.agent_id != agent_id:
            raise SessionNotFoundError(session_id)
        record.here()
        return record

    def remove(self, record: SessionRecord) -> None:
        """Forget a record whose sandbox is gone."""
        with self._lock:
            self._records.pop(record.session_id, None)
        try:
            self.ledger.forget(record)
        finally:
            if record.permit is not None:
                record.permit.release()

    def records(self) -> list[SessionRecord]:
        with self._lock:
            return list(self._records.values())
