"""The runtime: everything one process shares, and the life of its sessions."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import time
from typing import TYPE_CHECKING

from stockade._proposals import SessionProposal
from stockade.capabilities import refuse
from stockade.config import SandboxConfig
from stockade.errors import (
    CapacityError,
    LedgerError,
    SessionNotFoundError,
    SessionStateError,
    StockadeError,
)
from stockade.events import EventKind
from stockade.executions._executor import Executor
from stockade.ledger._interface import Ledger
from stockade.ledger._sqlite import SqliteLedger, default_ledger
from stockade.policies._hooks import Hooks, default_hooks
from stockade.results import SessionStatus
from stockade.selection._discovery import WallLoader
from stockade.selection._selector import Selector
from stockade.selection._spec import recipe
from stockade.sessions._capacity import Capacity, Permit
from stockade.sessions._closing import Closing
from stockade.sessions._detaching import Detaching
from stockade.sessions._ending import Ending
from stockade.sessions._lifetimes import Lifetimes
from stockade.sessions._opening import Openings
from stockade.sessions._registry import SessionRecord, SessionRegistry
from stockade.sessions._reporter import Reporter
from stockade.sessions._requests import Requests
from stockade.sessions._settings import Settings
from stockade.system.forks import FreshLock, in_child
from stockade.system.owner import Owner
from stockade.system.threads import Clock, Narrow, Workers
from stockade.values.ids import agent_hash, check_agent_id, new_session_id
from stockade.wall import OpenRequest, Wall

if TYPE_CHECKING:
    from stockade.ledger._collecting import Collector

__all__ = ["Runtime", "default_runtime"]

_log = logging.getLogger(__name__)


class Runtime:
    """Registry, hooks, loaded walls, threads. Most programs use the default one.

    Without a ``ledger`` sessions are remembered by this process alone. With a
    :class:`stockade.SqliteLedger` they can be durable, and what dead processes
    left is collected in the background when the first session opens.
    """

    def __init__(
        self,
        *,
        discover_plugins: bool = True,
        ledger: Ledger | None = None,
        settings: Settings | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        #: Limits, queue, retries; may be replaced at any time.
        self.settings = settings or Settings()
        self.registry = SessionRegistry(ledger)
        #: Every plug-in of this runtime, but walls until they are selected.
        self.hooks = hooks or Hooks(discover=discover_plugins)
        self.walls = WallLoader(self.hooks.wall, self.hooks.is_blocked)
        #: Those of which it was logged that they isolate nothing.
        self.reported_lowered: set[str] = set()
        self._begin()
        in_child(self._renew)

    def _renew(self) -> None:
        """In a forked child: sessions and threads are the parent's, and locks may be held."""
        self.registry = self.registry.in_child()
        self.hooks.renew()
        self._begin()

    def _begin(self) -> None:
        """All that belongs to one process."""
        self.pid = os.getpid()
        self.owner = str(Owner.current())
        self._first = threading.Lock()  # taken, for good, with the first session
        self.workers = Workers()
        self.preparing = Narrow(self.workers, 32)  #: awaiting callers, before they wait in line
        self.clock = Clock()
        self.capacity = Capacity(lambda: self.settings)
        self.openings = Openings(self.workers, lambda: self.settings)
        self.selector = Selector(self.walls, self.workers, lambda: self.settings.start_retries)
        self.reporter = Reporter(self.hooks.notify)
        self.executor = Executor(self.workers, self.clock, self.hooks, self.ledger)
        self._lifetimes = Lifetimes(self.workers, self.clock, self.ledger, self.expire)
        self._ending = Ending(self.workers, self.registry, self.reporter)
        self._detaching = Detaching(self.workers, self.registry, self.ledger, self.reporter)
        self._closing = Closing(self.workers, self.registry, self.openings, self._let_go)
        self.closing = 0  #: how many calls end all sessions; none is opened meanwhile

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

        Waits for its turn where a limit is reached and the settings say so; else that
        is a CapacityError. ``pooled``: it is a pool's, nobody's yet; policies judge
        when it is handed out, and it never waits in line.
        """
        config = self.prepare(name, wall, agent_id, config, pooled=pooled)
        try:
            permit = self.capacity.take(None if pooled else agent_id, wait=not pooled)
        except CapacityError as error:
            self.reporter.refused(name, agent_id, error)
            raise
        return self.start(name, wall, agent_id, config, permit, pooled=pooled)

    def prepare(
        self, name: str, wall: Wall, agent_id: str, config: SandboxConfig, *, pooled: bool = False
    ) -> SandboxConfig:
        """Refuse what can be refused before there is a permit; the configuration to start with."""
        self.hooks.load()
        if not pooled:
            check_agent_id(agent_id)
            config = self._judged(name, wall, agent_id, config)
        refuse(name, config, wall.capabilities)
        if config.durable and self.ledger is None:
            raise LedgerError(
                "a durable session needs a ledger, and this runtime has none: leave "
                "STOCKADE_LEDGER=off out, or make it with Runtime(ledger=SqliteLedger())."
            )
        return config

    def start(
        self,
        name: str,
        wall: Wall,
        agent_id: str,
        config: SandboxConfig,
        permit: Permit,
        *,
        pooled: bool = False,
    ) -> SessionRecord:
        """Start what ``prepare`` let pass; the permit is the session's, or given back."""
        try:
            with self.openings.underway():
                return self._start(name, wall, agent_id, config, permit, pooled)
        except BaseException:
            permit.release()
            raise

    def _start(
        self,
        name: str,
        wall: Wall,
        agent_id: str,
        config: SandboxConfig,
        permit: Permit,
        pooled: bool,
    ) -> SessionRecord:
        if self.closing:
            raise SessionStateError("the sessions of this process are being ended; open no more.")
        record = SessionRecord(
            new_session_id(),
            agent_id,
            name,
            wall.target,
            config,
            recipe(name, wall, config),
            permit=permit,
        )
        if config.lifetime_seconds is not None:
            record.expires_at = record.created_at + config.lifetime_seconds
        # Before there is anything to undo: a ledger that is held costs its time once.
        record.place = self.openings.place(wall, record)
        self.registry.add(record)
        try:
            self._collect(name, wall)
            self.reporter.report(EventKind.SESSION_CREATING, name, agent_id, record)
            began = time.monotonic()
            self._open(wall, record, pooled)
            self.limit_life(record)
            record.move(SessionStatus.READY)
            self.reporter.report(
                EventKind.SESSION_READY,
                name,
                agent_id,
                record,
                duration_seconds=time.monotonic() - began,
            )
        except BaseException as error:
            self._undo(record, error)
            raise
        return record

    def _judged(self, name: str, wall: Wall, agent_id: str, config: SandboxConfig) -> SandboxConfig:
        """The configuration as the policies leave it, or PolicyRefusedError."""
        proposal = SessionProposal(
            agent_id=agent_id, provider=name, target=wall.target, config=config
        )
        try:
            return self.hooks.judge_session(proposal)
        except StockadeError as error:
            self.reporter.refused(name, agent_id, error)
            raise

    def _collect(self, name: str, wall: Wall) -> None:
        """With the first session: remove what dead processes left, in nobody's waiting time."""
        if self.ledger is not None and self._first.acquire(blocking=False):
            self.workers.run(lambda: self.collector().collect_quietly(name, wall))

    def collector(self) -> Collector:
        """What finds and removes what dead processes left, by this runtime's ledger and walls."""
        from stockade.ledger._collecting import Collector

        return Collector(self.ledger, self.workers, self.selector.wall_at, self.hooks.notify)

    def _open(self, wall: Wall, record: SessionRecord, pooled: bool) -> None:
        request = OpenRequest(
            session_id=record.session_id,
            agent_hash=agent_hash(record.agent_id),
            target=wall.target,
            config=record.config,
            options=wall.chosen,
            expires_at=None if pooled else record.expires_at,
            owner=self.owner,
            watch=Requests(record, self.hooks, self.reporter),
        )
        self.openings.start(wall, record, request)

    def _undo(self, record: SessionRecord, error: BaseException) -> None:
        with contextlib.ExitStack() as steps:  # from the last to the first, whatever one raises
            steps.callback(
                self.reporter.report,
                EventKind.SESSION_FAILED,
                record.provider,
                record.agent_id,
                record,
                reason=type(error).__name__,
            )
            steps.callback(self._forget_undone, record, type(error).__name__)
            steps.callback(self._discard, record)
        record.cancel_timers()

    def _forget_undone(self, record: SessionRecord, reason: str) -> None:
        if record.undo(reason):
            self.registry.remove(record)

    def _discard(self, record: SessionRecord) -> None:
        """Remove what there is of it, unless another call ends it already (C6)."""
        with record.lock:
            if record.sandbox is not None and record.closing is None:
                record.closing = self.openings.discard(record.sandbox)

    def limit_life(self, record: SessionRecord) -> None:
        """Arm the clock for the session's lifetimes (C11)."""
        self._lifetimes.arm(record)

    def expire(self, record: SessionRecord, why: str) -> None:
        """``destroy`` for a reason, unless somebody else did; what goes wrong is logged."""
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
        wall fails, after which it can be tried again; ForkedSessionError in a forked child.
        """
        record.here()
        self._ending.end(record)

    def detach(self, record: SessionRecord) -> None:
        """Leave a durable session to other processes (C10).

        Raises SessionStateError if it is not durable or is being ended, and
        SessionNotFoundError if it is gone.
        """
        self._detaching.detach(record)

    def _let_go(self, record: SessionRecord) -> None:
        """What becomes of a session when its process ends."""
        if not record.config.durable or record.status is SessionStatus.FAILED:
            self.expire(record, "shutdown")
            return
        try:
            self.detach(record)
        except StockadeError as error:
            _log.warning("session %s was not let go of in order: %s", record.session_id, error)

    def close_all(self, seconds: float | None = None) -> None:
        """End every session at the same time, waiting ``seconds`` at most for all.

        By default the setting shutdown_seconds. Durable ones are let go of and live on.
        Who waits for a session gets CapacityError, who opens one meanwhile
        SessionStateError. In a forked child the parent's sessions are none of its own (C12).
        """
        self.closing += 1
        self.capacity.refuse_waiting(
            CapacityError("the sessions of this process are being ended; none is opened.")
        )
        try:
            self._closing.close_all(self.settings.shutdown_seconds if seconds is None else seconds)
        finally:
            self.closing -= 1
        if self.ledger is not None:
            self.ledger.flush()

    def shutdown(self, seconds: float | None = None) -> None:
        """``close_all``, for good: nothing is opened any more. Called at the interpreter's exit."""
        self.closing += 1
        self.openings.stop_repeating()
        self.close_all(seconds)


_default: Runtime | None = None
_default_lock = FreshLock()


def default_runtime() -> Runtime:
    """The runtime of this process, made when first asked for; ended at exit."""
    global _default
    with _default_lock:
        if _default is None:
            _default = Runtime(
                ledger=default_ledger(),
                settings=Settings.from_environment(),
                hooks=default_hooks(),
            )
            atexit.register(_default.shutdown)
        return _default
