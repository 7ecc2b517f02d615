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

from stockade.capabilities import Feature, refusals
from stockade.config import OutputPolicy, SandboxConfig
from stockade.discovery import WallLoader
from stockade.errors import (
    DestroyError,
    PolicyRefusedError,
    SandboxStartError,
    SessionNotFoundError,
    SessionStateError,
    StockadeError,
    UnsupportedError,
    WallError,
)
from stockade.events import Event, EventKind
from stockade.execution import Execution
from stockade.hooks import Hooks
from stockade.ids import agent_hash, check_agent_id, new_session_id
from stockade.output import BoundedOutput
from stockade.proposals import ExecutionProposal, SessionProposal
from stockade.registry import Ledger, SessionRecord, SessionRegistry
from stockade.results import SandboxResult, SessionStatus, Verdict
from stockade.wall import ExecRequest, OpenRequest, Sandbox, Wall
from stockade.workers import Clock, Workers, bounded

__all__ = ["CLOSE_SECONDS", "Runtime", "default_runtime"]

_log = logging.getLogger(__name__)

#: How long a wall may take to end a sandbox before that counts as failed (C6).
CLOSE_SECONDS = 30.0


class Runtime:
    """Registry, hooks, loaded walls, threads. Most programs use the default one."""

    def __init__(self, *, discover_plugins: bool = True, ledger: Ledger | None = None) -> None:
        self.pid = os.getpid()
        self.registry = SessionRegistry(ledger)
        self.hooks = Hooks(discover=discover_plugins)
        self.walls = WallLoader()
        self.workers = Workers()
        self.clock = Clock()
        #: When a wall last answered its probe with yes (monotonic); see providers.
        self.seen_available: dict[object, float] = {}

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
        _refuse(name, wall, config)
        record = SessionRecord(new_session_id(), agent_id, name, wall.target, config)
        if config.lifetime_seconds is not None:
            record.expires_at = record.created_at + config.lifetime_seconds
        self.registry.add(record)
        self._tell(EventKind.SESSION_CREATING, name, agent_id, record)
        began = time.monotonic()
        try:
            record.sandbox = self._open(wall, record)
            self.limit_life(record)
            record.move(SessionStatus.READY)
        except BaseException as error:
            self._undo(record, error)
            raise
        self._tell(
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
            self._tell(kind, name, agent_id, None, reason=type(error).__name__)
            raise

    def _open(self, wall: Wall, record: SessionRecord) -> Sandbox:
        request = OpenRequest(
            session_id=record.session_id,
            agent_hash=agent_hash(record.agent_id),
            target=wall.target,
            config=record.config,
            options=wall.chosen,
            expires_at=record.expires_at,
        )
        seconds = record.config.startup_timeout_seconds
        try:
            if type(wall).prepare is not Wall.prepare:
                self.workers.submit(lambda: wall.prepare(request)).result()
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
        self._tell(
            EventKind.SESSION_FAILED, record.provider, record.agent_id, record,
            reason=type(error).__name__,
        )  # fmt: skip

    def limit_life(self, record: SessionRecord) -> None:
        """Arm the clock for the session's lifetimes (C11)."""

        def expire() -> None:
            self.workers.run(lambda: self._expire(record, "its lifetime is over"))

        def idle() -> None:
            limit = record.config.idle_seconds
            assert limit is not None
            with record.lock:
                busy = bool(record.executions)
                left = limit - (time.monotonic() - record.last_used)
            if busy or left > 0:
                record.timers.append(self.clock.after(limit if busy else left, idle))
                del record.timers[:-2]
                return
            self.workers.run(lambda: self._expire(record, "it was idle for too long"))

        if record.config.lifetime_seconds is not None:
            record.timers.append(self.clock.after(record.config.lifetime_seconds, expire))
        if record.config.idle_seconds is not None:
            record.timers.append(self.clock.after(record.config.idle_seconds, idle))

    def _expire(self, record: SessionRecord, why: str) -> None:
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
        self._tell(EventKind.SESSION_DESTROYING, record.provider, record.agent_id, record)
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
        self._tell(
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
            self._tell(
                EventKind.SESSION_FAILED, record.provider, record.agent_id, record,
                reason=type(error).__name__,
            )  # fmt: skip
            raise DestroyError(
                f"session {record.session_id} could not be ended: {type(error).__name__}: "
                f"{error}. It is marked failed; destroy it again."
            ) from error

    def close_all(self, seconds: float = CLOSE_SECONDS) -> None:
        """End every session at the same time, waiting ``seconds`` at most for all.

        In a process that inherited the runtime through ``fork`` it does nothing:
        the sessions are the parent's.
        """
        if os.getpid() != self.pid:
            return
        ends = [
            self.workers.submit(functools.partial(self._expire, record, "shutdown"))
            for record in self.registry.records()
        ]
        futures.wait(ends, seconds)

    # -- pausing -------------------------------------------------------------

    def pause(self, wall: Wall, record: SessionRecord) -> None:
        """Freeze a session's sandbox (G2)."""
        wall.capabilities.require(Feature.PAUSE, record.provider, "end the session instead.")
        with record.pausing:
            if record.paused:
                return
            self._freeze(record, lambda sandbox: sandbox.pause())
            record.paused = True

    def resume(self, record: SessionRecord) -> None:
        """Thaw it; nothing happens where it is not paused."""
        with record.pausing:
            if record.paused:
                self._freeze(record, lambda sandbox: sandbox.resume())
                record.paused = False

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
            self._tell(
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
            clock=self.clock, workers=self.workers, on_end=self._ended(record, request),
        )  # fmt: skip
        record.add(execution)
        self._tell(
            EventKind.EXECUTION_STARTED, record.provider, record.agent_id, record,
            execution_id=request.execution_id, form=str(request.form),
        )  # fmt: skip
        execution.begin()
        return execution

    def _ended(
        self, record: SessionRecord, request: ExecRequest
    ) -> Callable[[SandboxResult | StockadeError], None]:
        """What tells observers of the end of an execution."""

        def tell(end: SandboxResult | StockadeError) -> None:
            about: dict[str, Any] = {
                "execution_id": request.execution_id,
                "form": str(request.form),
            }
            kind = EventKind.EXECUTION_FINISHED
            if isinstance(end, StockadeError):
                kind = EventKind.EXECUTION_FAILED
                about["reason"] = type(end).__name__
            else:
                about.update(
                    verdict=end.verdict,
                    exit_code=end.exit_code,
                    duration_seconds=end.duration_seconds,
                    stdout_bytes=end.stdout_total_bytes,
                    stderr_bytes=end.stderr_total_bytes,
                )
            self._tell(kind, record.provider, record.agent_id, record, **about)

        return tell

    def _tell(
        self, kind: EventKind, provider: str, agent_id: str, record: SessionRecord | None,
        **more: Any,
    ) -> None:  # fmt: skip
        session_id = None if record is None else record.session_id
        self.hooks.tell(
            Event(kind=kind, provider=provider, agent_id=agent_id, session_id=session_id, **more)
        )


def _reason(error: StockadeError) -> str:
    """A policy's own words; of other errors the type, since a message may hold anything."""
    return str(error) if isinstance(error, PolicyRefusedError) else type(error).__name__


def _refuse(name: str, wall: Wall, config: SandboxConfig) -> None:
    """Refuse what the wall cannot hold, before anything starts."""
    missing = refusals(config, wall.capabilities)
    if missing:
        asked = "; ".join(
            f"{field} needs {feature}"
            + (f" ({note})" if (note := wall.capabilities[feature].note) else "")
            + f", else set {remedy}"
            for feature, field, remedy in missing
        )
        raise UnsupportedError(f"{name} cannot hold what was asked: {asked}.")


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
            _default = Runtime()
            atexit.register(_default.close_all)
        return _default
