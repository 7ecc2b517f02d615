"""The sessions of a warm pool: started, and ready to be handed out."""

from __future__ import annotations

import functools
import logging
import math
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from stockade._proposals import SessionProposal
from stockade.errors import (
    CapacityError,
    ConfigError,
    ForkedSessionError,
    SessionStateError,
    StockadeError,
)
from stockade.events import Event, EventKind
from stockade.results import SessionStatus
from stockade.selection._alternatives import PASSED_OVER
from stockade.selection._spec import recipe
from stockade.sessions._providers import WallProvider
from stockade.system.threads import Narrow, all_at_once
from stockade.values.ids import check_agent_id

if TYPE_CHECKING:
    from stockade.sessions._registry import SessionRecord
    from stockade.sessions._runtime import Runtime

__all__ = ["MAX_AGE_SECONDS", "WarmPool", "check_size"]

_log = logging.getLogger(__name__)

#: Whose a session is until it is handed out; no caller can ask for it by this name,
#: since it is no agent's id that passes the check.
_NOBODY = "\x00pool"
#: How long a session may wait before it is replaced by a fresh one.
MAX_AGE_SECONDS = 600.0
_MAX_SIZE = 1000
#: Sessions that are started, and that are ended, at the same time.
_AT_ONCE = 64
#: After a start that failed, the next is tried this much later, and twice as late each time.
_FIRST_PAUSE, _LAST_PAUSE = 0.5, 30.0


def check_size(size: object, max_age_seconds: float) -> None:
    """Raise ConfigError if a pool cannot be of that size, or keep sessions so long."""
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= _MAX_SIZE:
        raise ConfigError(f"size={size!r} is not allowed: a whole number from 1 to {_MAX_SIZE}.")
    if not max_age_seconds > 0:
        raise ConfigError(f"max_age_seconds={max_age_seconds!r} is not allowed: seconds.")


class WarmPool:
    """The sessions of a pool, as records: started ahead, each handed out once, replaced.

    Safe from any thread.
    """

    def __init__(self, provider: WallProvider, size: int, max_age_seconds: float) -> None:
        """Raises ConfigError, and where alternatives are left what starting a session raises."""
        self._provider = provider
        if self._provider.config.durable:
            raise ConfigError(
                "durable=True is not allowed in a pool: its sessions end with this process; open "
                "durable ones without a pool."
            )
        self._runtime = self._provider.runtime
        self._size = size
        self._max_age = max_age_seconds
        self._pid = os.getpid()
        self._narrow = Narrow(self._runtime.workers, _AT_ONCE)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._ready: deque[SessionRecord] = deque()
        self._starting = 0
        self._closed = False
        self._pause = _FIRST_PAUSE
        #: Sessions that were handed out ready, and those that had to be started cold.
        self.hits = 0
        self.misses = 0
        self._settle()
        self._provider.report_lowered()
        self._fill()

    @property
    def runtime(self) -> Runtime:
        """The runtime whose sessions these are."""
        return self._runtime

    @property
    def provider(self) -> WallProvider:
        """The provider that a session is opened with when none is ready."""
        return self._provider

    @property
    def ready(self) -> int:
        """How many sessions wait to be handed out."""
        return len(self._ready)

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Wait until the pool is full; False when ``timeout`` seconds pass first."""
        self._here()
        with self._changed:
            return self._changed.wait_for(lambda: len(self._ready) >= self._size, timeout)

    def offer(self, agent_id: str) -> SessionRecord | None:
        """A session that could be handed out, or None: start one cold.

        The first step of ``open``, for who does not want to block; the second is a turn
        of the runtime's capacity, the third ``hand_over`` or ``take_back``.
        """
        self._here()
        check_agent_id(agent_id)
        config = self._provider.config
        proposal = SessionProposal(
            agent_id=agent_id,
            provider=self._provider.name,
            target=self._provider.wall.target,
            config=config,
        )
        self._runtime.hooks.load()
        # A policy's refusal must arrive as one: the cold start notifies observers of it, too.
        try:
            as_asked = self._runtime.hooks.judge_session(proposal) == config
        except StockadeError:
            as_asked = False
        record = self._take() if as_asked else None
        if record is None:
            self.misses += 1
            self._notify(EventKind.POOL_MISS, agent_id, None)
        return record

    def take_back(self, record: SessionRecord, agent_id: str, error: BaseException) -> None:
        """The agent may not have it: the next one gets it."""
        if isinstance(error, CapacityError):
            self._runtime.reporter.refused(record.provider, agent_id, error)
        with self._changed:
            if not self._closed:
                self._ready.appendleft(record)
                self._changed.notify_all()
                return
        self._end(record)

    def close(self) -> None:
        """End every session that still waits, and those being started; may be called again.

        Sessions that were handed out stay their callers'. Raises ForkedSessionError.
        """
        self._here()
        with self._lock:
            self._closed = True
            waiting = list(self._ready)
            self._ready.clear()
            self._changed.notify_all()
        ends = [functools.partial(self._end, record) for record in waiting]
        all_at_once(self._runtime.workers, ends, math.inf, width=_AT_ONCE)
        with self._changed:
            self._changed.wait_for(lambda: self._starting == 0, timeout=60.0)

    def _here(self) -> None:
        """Raise ForkedSessionError in a forked child: its sessions are the parent's (C12)."""
        if self._pid != os.getpid():
            raise ForkedSessionError(
                f"this pool and its sessions are process {self._pid}'s, from which this one was "
                "forked; open a session without it, or make a pool of this process's own."
            )

    # -- handing out -----------------------------------------------------------

    def _take(self) -> SessionRecord | None:
        with self._lock:
            if self._closed:
                raise SessionStateError("the pool is closed; open a session without it.")
            found = None
            while self._ready and found is None:
                record = self._ready.popleft()
                found = record if record.status is SessionStatus.READY else None
        self._runtime.workers.run_anyhow(self._fill)
        return found

    def hand_over(self, record: SessionRecord, agent_id: str) -> None:
        """From now on it is the agent's, and its lifetime begins."""
        try:
            self._hand_over(record, agent_id)
        except BaseException:
            self._end(record)  # the caller does not get it, and nobody else has it
            raise

    def _hand_over(self, record: SessionRecord, agent_id: str) -> None:
        self.hits += 1
        with record.lock:
            record.agent_id = agent_id
            record.config = self._provider.config
            record.created_at = time.time()
            lifetime = record.config.lifetime_seconds
            record.expires_at = None if lifetime is None else record.created_at + lifetime
            record.cancel_timers()
            record.string = recipe(self._provider.name, self._provider.wall, record.config)
            record.save()
            sandbox = record.sandbox
        self._runtime.limit_life(record)
        if sandbox is not None:
            sandbox.expire_at(record.expires_at)
        self._notify(EventKind.POOL_HIT, agent_id, record.session_id)
        self._notify(EventKind.SESSION_READY, agent_id, record.session_id, duration_seconds=0.0)

    def _notify(self, kind: EventKind, agent_id: str, session_id: str | None, **more: Any) -> None:
        self._runtime.hooks.notify(
            Event(
                kind=kind,
                provider=self._provider.name,
                agent_id=agent_id,
                session_id=session_id,
                **more,
            )
        )

    # -- filling ---------------------------------------------------------------

    def _fill(self) -> None:
        """Start what is missing, several at a time."""
        with self._lock:
            if self._closed:
                return
            missing = self._size - len(self._ready) - self._starting
            self._starting += max(0, missing)
        for _ in range(missing):
            try:
                began = self._narrow.submit(self._start_one)
            except CapacityError as error:
                self._not_started(error)
            else:
                began.add_done_callback(lambda done: self._not_started(done.exception()))

    def _not_started(self, error: BaseException | None) -> None:
        """There was no thread to start one in: as where there is no room for it."""
        if error is not None:
            _log.warning("a session for the pool did not start: %s", error)
            self._started(None, failed=True, full=True)

    def _settle(self) -> None:
        """Go through several alternatives until a session of one has come up."""
        while not self._provider.settled:
            try:
                record = self._create()
            except CapacityError as error:  # no word about the wall, which is tried later
                _log.debug("no room for a session of the pool: %s", error)
                self._provider.settle()
            except PASSED_OVER as error:
                if not self._provider.go_on(error):
                    raise
            else:
                self._provider.settle()
                self._starting += 1
                self._started(record, failed=False, full=False)

    def _create(self) -> SessionRecord:
        # Its lifetimes begin when it is handed out; until then its age is the pool's.
        config = self._provider.config.with_(
            lifetime_seconds=self._max_age * 1.5, idle_seconds=None
        )
        return self._runtime.create(
            self._provider.name, self._provider.wall, _NOBODY, config, pooled=True
        )

    def _start_one(self) -> None:
        record: SessionRecord | None = None
        failed = full = False
        try:
            record = self._create()
        except CapacityError as error:
            failed = full = True  # callers come first; it is tried again soon
            _log.debug("no room for a session of the pool: %s", error)
        except StockadeError as error:
            failed = True
            _log.warning("a session for the pool did not start: %s", error)
        except Exception:
            failed = True
            _log.exception("a session for the pool did not start")
        self._started(record, failed, full)

    def _started(self, record: SessionRecord | None, failed: bool, full: bool) -> None:
        with self._changed:
            late = self._closed
            longer = failed and not full
            self._pause = min(_LAST_PAUSE, self._pause * 2) if longer else _FIRST_PAUSE
            pause = self._pause
            if record is not None and not late:
                self._ready.append(record)
        if record is not None and late:
            self._end(record)
        with self._changed:
            self._starting -= 1
            self._changed.notify_all()
        if late:
            return
        try:
            self._plan(None if failed else record, pause)
        except CapacityError as error:  # no thread even for the clock: who comes next fills up
            _log.warning("the pool is filled up later: %s", error)

    def _plan(self, record: SessionRecord | None, pause: float) -> None:
        """Replace it once it is too old; where there is none, try again after a pause."""
        run, clock = self._runtime.workers.run, self._runtime.clock
        if record is None:
            clock.after(pause, lambda: run(self._fill))
        else:
            retire = functools.partial(self._retire, record)
            record.set_timer("pool", clock.after(self._max_age, lambda: run(retire)))

    def _retire(self, record: SessionRecord) -> None:
        """Replace a session that waited too long."""
        with self._lock:
            if self._closed or record not in self._ready:
                return
            self._ready.remove(record)
        self._end(record)
        self._fill()

    def _end(self, record: SessionRecord) -> None:
        try:
            self._runtime.destroy(record)
        except StockadeError as error:
            _log.warning("a session of the pool could not be ended: %s", error)
