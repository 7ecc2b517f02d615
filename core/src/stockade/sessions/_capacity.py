"""How many sessions there may be: permits, and the queue of waiters.

First come, first served; but a waiter whose agent has all of its sessions does not hold
up other agents. A session has its permit from before it is started until nothing of it
is left.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout

from stockade.errors import CapacityError
from stockade.sessions._settings import Settings

__all__ = ["Capacity", "Permit", "Waiter"]


class Permit:
    """The right to one session; ``release`` may be called any number of times."""

    __slots__ = ("_capacity", "_held", "agent_id")

    def __init__(self, capacity: Capacity, agent_id: str | None) -> None:
        self._capacity = capacity
        self._held = True
        self.agent_id = agent_id  #: None: no agent has it yet, as in a pool

    def release(self) -> None:
        """Give it back. The first waiter gets it."""
        with self._capacity._lock:
            if not self._held:
                return
            self._held = False
            self._capacity._leave(self.agent_id)
        self._capacity._admit()


class Waiter:
    """A place in the queue; its future carries the permit, or CapacityError."""

    __slots__ = ("agent_id", "future", "permit")

    def __init__(self, agent_id: str | None, permit: Permit | None) -> None:
        self.agent_id = agent_id
        self.permit = permit  #: one that is there already and is to become the agent's
        self.future: Future[Permit] = Future()


class Capacity:
    """The permits of one runtime. Safe from any thread; only ``take`` and ``wait`` block."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        """``settings`` is asked each time, so that limits may change while it runs."""
        self._settings = settings
        self._lock = threading.Lock()
        self._total = 0
        self._agents: Counter[str] = Counter()
        # In the order of arrival; a dict, so that one may leave from the middle.
        self._queue: dict[Waiter, None] = {}

    @property
    def used(self) -> int:
        """How many permits are held."""
        return self._total

    @property
    def waiting(self) -> int:
        """How many wait in the queue."""
        return len(self._queue)

    def used_by(self, agent_id: str) -> int:
        """How many permits one agent's sessions hold."""
        with self._lock:
            return self._agents[agent_id]

    def take(self, agent_id: str | None, *, wait: bool = True) -> Permit:
        """Take a permit, waiting for it as the settings say. Raises CapacityError."""
        return self.wait(self.ask(agent_id, wait=wait))

    def wait(self, waiter: Waiter) -> Permit:
        """Wait for a waiter's permit. Raises CapacityError, as ``take`` does."""
        try:
            return waiter.future.result(self.patience)
        except FutureTimeout:
            return self.give_up(waiter)
        except BaseException:  # an interrupt: nobody takes the permit any more
            self.abandon(waiter)
            raise

    @property
    def patience(self) -> float:
        """Seconds that a waiter waits."""
        return self._settings().queue_seconds

    def ask(
        self, agent_id: str | None, *, permit: Permit | None = None, wait: bool = True
    ) -> Waiter:
        """Join the queue; the waiter's future is done at once where there is room.

        ``permit``: one of no agent (a pool's), which this agent is to have. Without ``wait``
        it is now or never. Raises CapacityError where waiting is of no use.
        """
        waiter = Waiter(agent_id, permit)
        with self._lock:
            self._queue[waiter] = None
        self._admit()
        settings = self._settings()
        with self._lock:
            if waiter not in self._queue:
                return waiter
            full = settings.max_waiting is not None and len(self._queue) > settings.max_waiting
            if wait and settings.queue_seconds > 0 and not full:
                return waiter
            del self._queue[waiter]
        queue = f"; {settings.max_waiting} wait already" if wait and full else ""
        raise CapacityError(self._reason(waiter, settings) + queue + _ADVICE)

    def give_up(self, waiter: Waiter) -> Permit:
        """The wait is over: the permit if it came in the same instant, else CapacityError."""
        with self._lock:
            waits = self._queue.pop(waiter, waiter) is None
        if not waits:
            return waiter.future.result()
        settings = self._settings()
        raise CapacityError(
            f"{self._reason(waiter, settings)}, and none ended within {settings.queue_seconds:g} s"
            + _ADVICE
        )

    def abandon(self, waiter: Waiter) -> None:
        """Leave the queue, or give the permit back; nobody waits for it any more."""
        with self._lock:
            waits = self._queue.pop(waiter, waiter) is None
        if waits or waiter.future.exception() is not None:
            return
        if waiter.permit is None:
            waiter.future.result().release()
            return
        with self._lock:  # no agent has it, again
            self._total += 1
            self._leave(waiter.permit.agent_id)
            waiter.permit.agent_id = None
        self._admit()

    def look_again(self) -> None:
        """The settings have changed: there may be room for waiters."""
        self._admit()

    def refuse_waiting(self, error: CapacityError) -> None:
        """Refuse everybody in the queue, when the runtime ends."""
        with self._lock:
            waiting, self._queue = list(self._queue), {}
        for waiter in waiting:
            waiter.future.set_exception(error)

    # -- inside ------------------------------------------------------------------

    def _leave(self, agent_id: str | None) -> None:
        self._total -= 1
        if agent_id is not None:
            self._agents[agent_id] -= 1
            if not self._agents[agent_id]:
                del self._agents[agent_id]

    def _admit(self) -> None:
        """Give permits to the waiters that may have one, the longest waiting first."""
        settings = self._settings()
        admitted = []
        with self._lock:
            for waiter in list(self._queue):
                if not self._room(waiter, settings):
                    continue
                del self._queue[waiter]
                if waiter.agent_id is not None:
                    self._agents[waiter.agent_id] += 1
                if waiter.permit is None:
                    self._total += 1
                    admitted.append((waiter, Permit(self, waiter.agent_id)))
                else:
                    waiter.permit.agent_id = waiter.agent_id
                    admitted.append((waiter, waiter.permit))
        for waiter, permit in admitted:
            waiter.future.set_result(permit)

    def _room(self, waiter: Waiter, settings: Settings) -> bool:
        most = settings.max_sessions
        if waiter.permit is None and most is not None and self._total >= most:
            return False
        each = settings.max_sessions_per_agent
        return each is None or waiter.agent_id is None or self._agents[waiter.agent_id] < each

    def _reason(self, waiter: Waiter, settings: Settings) -> str:
        each = settings.max_sessions_per_agent
        if each is not None and waiter.agent_id and self.used_by(waiter.agent_id) >= each:
            return f"the agent has its {each} sessions"
        return f"this process has its {settings.max_sessions} sessions"


_ADVICE = (
    "; close sessions, let openings wait (queue_seconds) or raise the limit: stockade.configure."
)
