"""How many sessions there may be: seats, and the line of those who wait for one.

First come, first served. Who waits for nothing but a session of the same agent to
end holds nobody else up. A seat is a session's from before it is started until
nothing of it is left.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout

from stockade.errors import CapacityError
from stockade.sessions._settings import Settings

__all__ = ["Capacity", "Seat", "Turn"]


class Seat:
    """The right to one session; ``release`` may be called any number of times."""

    __slots__ = ("_capacity", "_held", "agent_id")

    def __init__(self, capacity: Capacity, agent_id: str | None) -> None:
        self._capacity = capacity
        self._held = True
        self.agent_id = agent_id  #: None: it is nobody's yet, as a pool's are

    def release(self) -> None:
        """Give it back; whoever waits longest gets it."""
        with self._capacity._lock:
            if not self._held:
                return
            self._held = False
            self._capacity._leave(self.agent_id)
        self._capacity._admit()


class Turn:
    """A place in the line; its future carries the seat, or CapacityError."""

    __slots__ = ("agent_id", "future", "seat")

    def __init__(self, agent_id: str | None, seat: Seat | None) -> None:
        self.agent_id = agent_id
        self.seat = seat  #: one that is there already and is to become the agent's
        self.future: Future[Seat] = Future()


class Capacity:
    """The seats of one runtime. Safe from any thread; waits only in ``take``."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        """``settings`` is asked each time, so that limits may change while it runs."""
        self._settings = settings
        self._lock = threading.Lock()
        self._total = 0
        self._agents: Counter[str] = Counter()
        # In the order of arrival; a dict, so that one may leave from the middle.
        self._line: dict[Turn, None] = {}

    @property
    def used(self) -> int:
        """Seats that are taken."""
        return self._total

    @property
    def waiting(self) -> int:
        """How many wait in the line."""
        return len(self._line)

    def used_by(self, agent_id: str) -> int:
        """Seats that one agent's sessions take."""
        with self._lock:
            return self._agents[agent_id]

    def take(self, agent_id: str | None, *, wait: bool = True) -> Seat:
        """A seat, waiting for it as the settings say. Raises CapacityError."""
        return self.wait(self.ask(agent_id, wait=wait))

    def wait(self, turn: Turn) -> Seat:
        """What a turn brings, as ``take``."""
        try:
            return turn.future.result(self.patience)
        except FutureTimeout:
            return self.give_up(turn)
        except BaseException:  # an interrupt: nobody takes the seat any more
            self.abandon(turn)
            raise

    @property
    def patience(self) -> float:
        """Seconds that a turn is waited for."""
        return self._settings().queue_seconds

    def ask(self, agent_id: str | None, *, seat: Seat | None = None, wait: bool = True) -> Turn:
        """Get in line; the turn's future is done at once where there is room.

        ``seat``: one that is nobody's and shall become the agent's. Without ``wait``
        it is now or never. Raises CapacityError where waiting is of no use.
        """
        turn = Turn(agent_id, seat)
        with self._lock:
            self._line[turn] = None
        self._admit()
        settings = self._settings()
        with self._lock:
            if turn not in self._line:
                return turn
            full = settings.max_waiting is not None and len(self._line) > settings.max_waiting
            if wait and settings.queue_seconds > 0 and not full:
                return turn
            del self._line[turn]
        queue = f"; {settings.max_waiting} wait already" if wait and full else ""
        raise CapacityError(self._reason(turn, settings) + queue + _ADVICE)

    def give_up(self, turn: Turn) -> Seat:
        """The wait is over: the seat if it came in the same instant, else CapacityError."""
        with self._lock:
            waits = self._line.pop(turn, turn) is None
        if not waits:
            return turn.future.result()
        settings = self._settings()
        raise CapacityError(
            f"{self._reason(turn, settings)}, and none ended within {settings.queue_seconds:g} s"
            + _ADVICE
        )

    def abandon(self, turn: Turn) -> None:
        """Leave the line, or give back what it brought; nobody waits for it any more."""
        with self._lock:
            waits = self._line.pop(turn, turn) is None
        if waits or turn.future.exception() is not None:
            return
        if turn.seat is None:
            turn.future.result().release()
            return
        with self._lock:  # it is nobody's again
            self._total += 1
            self._leave(turn.seat.agent_id)
            turn.seat.agent_id = None
        self._admit()

    def look_again(self) -> None:
        """The settings have changed: there may be room for those who wait."""
        self._admit()

    def refuse_waiting(self, error: CapacityError) -> None:
        """Send everybody in the line away, when the runtime ends."""
        with self._lock:
            line, self._line = list(self._line), {}
        for turn in line:
            turn.future.set_exception(error)

    # -- inside ------------------------------------------------------------------

    def _leave(self, agent_id: str | None) -> None:
        self._total -= 1
        if agent_id is not None:
            self._agents[agent_id] -= 1
            if not self._agents[agent_id]:
                del self._agents[agent_id]

    def _admit(self) -> None:
        """Give seats to those in the line who may have one, the longest waiting first."""
        settings = self._settings()
        admitted = []
        with self._lock:
            for turn in list(self._line):
                if not self._room(turn, settings):
                    continue
                del self._line[turn]
                if turn.agent_id is not None:
                    self._agents[turn.agent_id] += 1
                if turn.seat is None:
                    self._total += 1
                    admitted.append((turn, Seat(self, turn.agent_id)))
                else:
                    turn.seat.agent_id = turn.agent_id
                    admitted.append((turn, turn.seat))
        for turn, seat in admitted:
            turn.future.set_result(seat)

    def _room(self, turn: Turn, settings: Settings) -> bool:
        most = settings.max_sessions
        if turn.seat is None and most is not None and self._total >= most:
            return False
        each = settings.max_sessions_per_agent
        return each is None or turn.agent_id is None or self._agents[turn.agent_id] < each

    def _reason(self, turn: Turn, settings: Settings) -> str:
        each = settings.max_sessions_per_agent
        if each is not None and turn.agent_id and self.used_by(turn.agent_id) >= each:
            return f"the agent has its {each} sessions"
        return f"this process has its {settings.max_sessions} sessions"


_ADVICE = (
    "; close sessions, let openings wait (queue_seconds) or raise the limit: stockade.configure."
)
