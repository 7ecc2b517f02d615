"""The runtime: everything one process shares, and the life of its sessions."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

from stockade.capabilities import Feature, refuse
from stockade.config import OutputPolicy, SandboxConfig
from stockade.detaching import detach
from stockade.discovery import WallLoader
from stockade.errors import (
    DestroyError,
    LedgerError,
    PolicyRefusedError,
    SandboxStartError,
    SessionNotFoundError,
    SessionStateError,
    StockadeError,
    WallError,
)
from stockade.events import Event, EventKind
from stockade.execution import Execution
from stockade.hooks import Hooks
from stockade.ids import agent_hash, check_agent_id, new_session_id
from stockade.journal import begun, ended
from stockade.ledger import SqliteLedger, default_ledger
from stockade.lifetimes import arm
from stockade.output import BoundedOutput
from stockade.owner import Owner
from stockade.proposals import ExecutionProposal, SessionProposal
from stockade.registry import Ledger, SessionRecord, SessionRegistry
from stockade.results import SessionStatus, Verdict
from stockade.spec import recipe
from stockade.wall import ExecRequest, OpenRequest, Sandbox, Wall
from stockade.workers import Clock, Workers, bounded

__all__ = ["CLOSE_SECONDS", "Runtime", "default_runtime"]

_log = logging.getLogger(__name__)

#: How long a wall may take to end a sandbox before that counts as failed (C6).
CLOSE_SECONDS = 30.0


class Runtime:
    """Registry, hooks, loaded walls, threads. Most programs use the default one.

    Without a ``ledger`` sessions are remembered by this process alone. With a
    :class:`stockade.ledger.SqliteLedger` they can be durable, and what dead processes
    left is collected in the background when the first session opens.
    """

    def __init__(self, *, discover_plugins: bool = True, ledger: Ledger | None = None) -> None:
        self.pid = os.getpid()
        self.owner = str(Owner.current())
        self.registry = SessionRegistry(ledger)
        self._first = threading.Lock()  # taken, for good, with the first session
        self.hooks = Hooks(discover=discover_plugins)
        self.walls = WallLoader()
        self.workers = Workers()
        self.clock = Clock()
        #: When a wall last answered its probe with yes (monotonic); see providers.
        self.seen_available: dict[object, float] = {}
        #: Providers of which it was logged that they isolate nothing; see providers.
        self.told_lowered: set[str] = set()

    @property
    def ledger(self) -> SqliteLedger | None:
        """The ledger on disk, where there is one."""
        found = self.registry.ledger
        return found if isinstance(found, SqliteLedger) else None

    # -- sessions ------------------------------------------------------------

    def create(
        self, name: str, wall: Wall, agent_id: str, config: SandboxConfig, *, pooled: bool = False
    ) -> SessionRecord:
        """Start a sandbox and register its session; nothing is left when it fails (C5).

        ``pooled``: it is a pool's, nobody's yet; policies judge when it is handed out.
        """
        self.hooks.load()
        if not pooled:
            check_agent_id(agent_id)
            config = self._judged(name, wall, agent_id, config)
        refuse(name, config, wall.capabilities)
        record = SessionRecord(
            new_session_id(), agent_id, name, wall.target, config, recipe(name, wall, config)
        )
        if config.lifetime_seconds is not None:
            record.expires_at = record.created_at + config.lifetime_seconds
        if config.durable and self.ledger is None:
            raise LedgerError(
                "a durable session needs a ledger, and this runtime has none: leave "
                "STOCKADE_LEDGER=off out, or make it with Runtime(ledger=SqliteLedger())."
            )
        self.registry.add(record)
        self._collect(wall)
        self.tell(EventKind.SESSION_CREATING, name, agent_id, record)
        began = time.monotonic()
        try:
            record.sandbox = self._open(wall, record, pooled)
            self.limit_life(record)
            record.move(SessionStatus.READY)
        except BaseException as error:
            self._undo(record, error)
            raise
        self.tell(
            EventKind.SESSION_READY, name, agent_id, record,
            duration_seconds=time.monotonic() - began,
        )  # fmt: skip
        return record

    def _judged(self, name: str, wall: Wall, agent_id: str, config: SandboxConfig) -> SandboxConfig:
        """The configuration as the policies leave it, or PolicyRefusedError."""
        proposal = SessionProposal(
            agent_id=agent_id, provider=name, target=wall.target, config=config
        )
        try:
            return self.hooks.judge_session(proposal)
        except StockadeError as error:
            kind = EventKind.SESSION_REFUSED
            self.tell(kind, name, agent_id, None, reason=type(error).__name__)
            raise

    def _collect(self, wall: Wall) -> None:
        """With the first session: remove what dead processes left, in nobody's waiting time."""
        if self.ledger is not None and self._first.acquire(blocking=False):
            from stockade.gc import collect_quietly

            self.workers.run(lambda: collect_quietly(self, wall))

    def _open(self, wall: Wall, record: SessionRecord, pooled: bool) -> Sandbox:
        request = OpenRequest(
            session_id=record.session_id,
            agent_hash=agent_hash(record.agent_id),
            target=wall.target,
            config=record.config,
            options=wall.chosen,
            expires_at=None if pooled else record.expires_at,
            owner=self.owner,
        )
        seconds = record.config.startup_timeout_seconds
        try:
            sandbox = bounded(
                self.workers, lambda: wall.open(request), seconds, late=_close_quietly
            )
        except StockadeError:
            raise
        except TimeoutError as error:
            raise SandboxStartError(
                f"{record.provider} did not start a sandbox within {seconds:g} s; "
                "raise startup_timeout_seconds, or see `stockade doctor`."
            ) from error
        except Exception as error:
            raise SandboxStartError(
                f"{record.provider} failed to start a sandbox: {type(error).__name__}: {error}; "
                f"see `stockade doctor {record.provider}`."
            ) from error
        if not isinstance(sandbox, Sandbox):
            raise WallError(
                f"open() of {record.provider} returned {sandbox!r}, not a Sandbox; "
                "report it to its author."
            )
        return sandbox

    def _undo(self, record: SessionRecord, error: BaseException) -> None:
        for timer in record.timers:
            timer.cancel()
        if record.sandbox is not None:
            self.workers.run(lambda: _close_quietly(record.sandbox))
        record.fail(type(error).__name__)
        self.registry.remove(record)
        self.tell(
            EventKind.SESSION_FAILED, record.provider, record.agent_id, record,
            reason=type(error).__name__,
        )  # fmt: skip

    def limit_life(self, record: SessionRecord) -> None:
        """Arm the clock for the session's lifetimes (C11)."""
        arm(self, record)

    def expire(self, record: SessionRecord, why: str) -> None:
        """Destroy a session for a reason of core's own; never raises StockadeError."""
        record.reason = why
        try:
            self.destroy(record)
        except (SessionNotFoundError, SessionStateError):
            return  # somebody else destroyed it in the same moment
        except StockadeError:
            _log.exception("destroying session %s failed: %s", record.session_id, why)

    def destroy(self, record: SessionRecord) -> None:
        """End a session: its executions first, then the sandbox (C6, C7).

        While another thread destroys it, this waits for that. Raises
        SessionNotFoundError when it is gone already, and DestroyError when the
        wall fails, after which it can be tried again.
        """
        executions = self._begin_destroying(record)
        self.tell(EventKind.SESSION_DESTROYING, record.provider, record.agent_id, record)
        for execution in executions:
            execution.stop(Verdict.CANCELLED)
        self._close(record)
        for execution in executions:
            execution.conclude()
        for timer in record.timers:
            timer.cancel()
        record.move(SessionStatus.DESTROYED)
        record.sandbox = None
        self.registry.remove(record)
        self.tell(
            EventKind.SESSION_DESTROYED, record.provider, record.agent_id, record,
            duration_seconds=time.time() - record.created_at,
            reason=record.reason or None,
        )  # fmt: skip

    def _begin_destroying(self, record: SessionRecord) -> list[Execution]:
        """Take the right to destroy it; waits while somebody else has it."""
        while True:
            with record.lock:
                if record.status is SessionStatus.DESTROYED:
                    raise SessionNotFoundError(record.session_id)
                if record.status is not SessionStatus.DESTROYING:
                    record.move(SessionStatus.DESTROYING)
                    return list(record.executions.values())
            if not record.settled.wait(2 * CLOSE_SECONDS):
                raise DestroyError(
                    f"session {record.session_id} is still being ended by another thread; "
                    "destroy it again later."
                )

    def _close(self, record: SessionRecord) -> None:
        sandbox = record.sandbox
        try:
            if sandbox is not None:
                bounded(self.workers, sandbox.close, CLOSE_SECONDS)
        except (Exception, SystemExit) as error:
            record.reason = f"ending it failed: {type(error).__name__}: {error}"
            record.move(SessionStatus.FAILED)
            for execution in list(record.executions.values()):
                execution.conclude()
            self.tell(
                EventKind.SESSION_FAILED, record.provider, record.agent_id, record,
                reason=type(error).__name__,
            )  # fmt: skip
            raise DestroyError(
                f"session {record.session_id} could not be ended: {type(error).__name__}: "
                f"{error}. It is marked failed; destroy it again."
            ) from error

    def close_all(self, seconds: float = CLOSE_SECONDS) -> None:
        """End every session at the same time, waiting ``seconds`` at most for all.

        Durable ones are let go of and live on. In a process that inherited the runtime
        through ``fork`` it does nothing: the sessions are the parent's.
        """
        if os.getpid() != self.pid:
            return
        ends = [
            self.workers.submit(functools.partial(self._let_go, record))
            for record in self.registry.records()
        ]
        futures.wait(ends, seconds)
        if self.ledger is not None:
            self.ledger.flush()

    def _let_go(self, record: SessionRecord) -> None:
        """What becomes of a session when its process ends."""
        if not record.config.durable or record.status is SessionStatus.FAILED:
            self.expire(record, "shutdown")
            return
        try:
            detach(self, record)
        except StockadeError as error:
            _log.warning("session %s was not let go of in order: %s", record.session_id, error)

    # -- pausing -------------------------------------------------------------

    def pause(self, wall: Wall, record: SessionRecord) -> None:
        """Freeze a session's sandbox (G2)."""
        wall.capabilities.require(Feature.PAUSE, record.provider, "end the session instead.")
        with record.pausing:
            if record.paused:
                return
            self._freeze(record, lambda sandbox: sandbox.pause())
            record.set_paused(True)

    def resume(self, record: SessionRecord) -> None:
        """Thaw it; nothing happens where it is not paused."""
        with record.pausing:
            if record.paused:
                self._freeze(record, lambda sandbox: sandbox.resume())
                record.set_paused(False)

    def _freeze(self, record: SessionRecord, act: Callable[[Sandbox], None]) -> None:
        sandbox = record.sandbox
        if sandbox is None:
            raise SessionNotFoundError(record.session_id)
        bounded(self.workers, lambda: act(sandbox), CLOSE_SECONDS)

    # -- executions ----------------------------------------------------------

    def execute(
        self,
        record: SessionRecord,
        request: ExecRequest,
        *,
        output_limit: int,
        output_policy: OutputPolicy,
        live: bool = False,
    ) -> Execution:
        """Ask the policies, then start the request; returns at once."""
        if record.paused:
            raise SessionStateError(
                f"session {record.session_id} is paused; resume it before it executes."
            )
        proposal = ExecutionProposal(
            agent_id=record.agent_id,
            provider=record.provider,
            session_id=record.session_id,
            request=request,
            output_limit_bytes=output_limit,
        )
        try:
            proposal = self.hooks.judge_execution(proposal)
        except StockadeError as error:
            self.tell(
                EventKind.EXECUTION_REFUSED, record.provider, record.agent_id, record,
                execution_id=request.execution_id, reason=_reason(error),
            )  # fmt: skip
            raise
        execution: Execution

        def excess() -> None:
            execution.stop(Verdict.OUTPUT_LIMIT)

        end = output_policy is OutputPolicy.END
        output = BoundedOutput(
            proposal.output_limit_bytes, live=live, on_excess=excess if end else None
        )
        execution = Execution(
            record, proposal.request, output,
            clock=self.clock, workers=self.workers, on_end=ended(self, record, request),
        )  # fmt: skip
        record.add(execution)
        begun(self, record, request)
        execution.begin()
        return execution

    def tell(
        self, kind: EventKind, provider: str, agent_id: str, record: SessionRecord | None,
        **more: Any,
    ) -> None:  # fmt: skip
        """Tell observers of an event."""
        session_id = None if record is None else record.session_id
        self.hooks.tell(
            Event(kind=kind, provider=provider, agent_id=agent_id, session_id=session_id, **more)
        )


def _reason(error: StockadeError) -> str:
    """A policy's own words; of other errors the type, since a message may hold anything."""
    return str(error) if isinstance(error, PolicyRefusedError) else type(error).__name__


def _close_quietly(sandbox: Any) -> None:
    """Remove a sandbox that nobody will use."""
    try:
        sandbox.close()
    except Exception:
        _log.exception("removing an unused sandbox failed")


_default: Runtime | None = None
_default_lock = threading.Lock()


def default_runtime() -> Runtime:
    """The runtime of this process, made when first asked for; ended at exit."""
    global _default
    with _default_lock:
        if _default is None or _default.pid != os.getpid():
            _default = Runtime(ledger=default_ledger())
            atexit.register(_default.close_all)
        return _default
