"""The lanes of one sandbox: opened as executions overlap, used again, given up."""

from __future__ import annotations

import abc
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

from stockade.errors import SandboxLostError
from stockade.resident.channel import Channel
from stockade.resident.lane import Ended, Hello, Lane, LaneLostError
from stockade.resident.running import Death, Notebook
from stockade.wall import Sandbox

__all__ = ["Lanes", "gone"]

_log = logging.getLogger(__name__)

#: Lanes that stay open though nothing needs them.
_SPARE_LANES = 8
#: More cannot be: a lane's mark is told by its number.
_MAX_LANES = 100
#: A lane costs an engine's exec, and a herd of them costs each many times that; whoever
#: finds this many under way waits for one that gets free.
_OPENING_AT_ONCE = 2
#: How long another lane may take to start.
_LANE_SECONDS = 30.0
#: How long a lane that will be free in a moment is waited for before one is opened.
_TIDY_SECONDS = 0.02
#: The same where forks are dear, and another lane costs as much more.
_DEAR_TIDY_SECONDS = 0.1
#: How often it is looked whether a paused sandbox goes on.
_THAWED_SECONDS = 0.05
#: How soon it is tried again where none could start.
_RETRY_SECONDS = 0.25
#: How long processes that were killed may be seen.
_DYING_SECONDS = 0.5
#: How often it is asked whether programs left behind have ended: soon, then ever less.
_FIRST_LOOK_SECONDS, _LAST_LOOK_SECONDS = 0.5, 8.0


class Lanes(Sandbox):
    """What :class:`ResidentSandbox` runs executions in; core's own, not for authors."""

    #: Whether /proc inside shows the sandbox's processes and no others, so that their
    #: number tells whether a program left any behind; else each is looked for by its mark.
    counts_processes: bool = True

    def __init__(
        self, first: Channel | Lane, *, startup_seconds: float = 60.0, number: int = 0
    ) -> None:
        """``first`` leads to the supervisor that the sandbox was started with, lane 0; or
        to this process's first in one that it shares with others, of another ``number``.
        A lane instead of a channel: one that was hailed already.

        Raises LaneLostError when it does not answer.
        """
        self._lock = threading.Lock()
        self._free_again = threading.Condition(self._lock)
        lane = first if isinstance(first, Lane) else Lane(number, first)
        self._first = number
        self.hello: Hello = lane.greet(startup_seconds)
        self._before = lane.processes  # that were its own when they were counted
        self._lanes: dict[int, Lane] = {number: lane}
        self._idle: list[Lane] = [lane]
        self._opening: set[int] = set()
        self._foreign: set[int] = set()  # numbers that programs of earlier processes carry
        self._notebooks: dict[str, Notebook] = {}
        self._busy: set[int] = set()
        self._waiting = 0  # executions that have no lane yet
        self._tidying = 0  # lanes that will be free in a moment
        self._death: Death | None = None
        self._closed = False
        self._suspects = False  # whether a program that was to end may have hidden
        self._checking = False  # whether that is found out now, and nothing may start
        self._freezing = threading.Lock()
        self._paused = False
        self._until: float | None = None  # the deadline that is held inside
        self._claimed = 0  # kills for memory that an execution answers for
        if self.hello.python:
            lane.wake()
        if lane.due_in is not None:
            self._in_background(self._hand_over_soon, lane)

    @abc.abstractmethod
    def open_channel(self, number: int) -> Channel:
        """Start another supervisor in the sandbox, as lane ``number``; called when
        executions overlap, from the execution's thread. Raises OSError or LaneLostError
        where none can be started; then ``post_mortem`` is asked whether the sandbox lives."""

    @abc.abstractmethod
    def overdue(self, lane: Lane) -> None:
        """A program of the lane does not end: end the sandbox."""

    @abc.abstractmethod
    def post_mortem(self, *, settle: bool) -> Death | None:
        """What became of a sandbox whose lane failed, or None where it lives on.

        ``settle``: a lane ended by itself, so a death may be about to be seen; wait for it.
        """

    def left_behind(self, lane: Lane) -> int:
        """How many programs still live in a lane whose own has ended. Raises LaneLostError."""
        return lane.count()

    def release(self) -> None:
        """Leave every lane; nothing can be started by this object any more."""
        with self._lock:
            self._closed = True
            lanes = list(self._lanes.values())
            self._free_again.notify_all()
        for lane in lanes:
            lane.close()

    def wind_down(self, seconds: float) -> None:
        """Let the first lane end by itself, and the sandbox with it, where nothing runs:
        for walls that remove what has ended sooner than what they must kill."""
        with self._lock:
            self._closed = True
            lane = self._lanes.get(self._first)
            quiet = lane in self._idle and len(self._idle) == len(self._lanes)
        if lane is not None and quiet and not lane.lost:
            lane.wind_down(seconds)

    @contextlib.contextmanager
    def thawed(self) -> Iterator[None]:
        """Inside of it the sandbox is not paused: a lane that is asked something then would
        seem to be lost. Waits for that, or for its end."""
        while True:
            with self._freezing:
                if not self._paused or self._closed:
                    yield
                    return
            time.sleep(_THAWED_SECONDS)

    # -- lanes -----------------------------------------------------------------

    def _idle_lane(self) -> Lane | None:
        with self._lock:
            self._check_alive()
            while self._idle and not self._checking:
                lane = self._idle.pop()
                if not lane.lost:
                    self._busy.add(lane.number)
                    return lane
            return None

    def take_lane(self, given_up: threading.Event, seconds: float = float("inf")) -> Lane | None:
        """A lane, waiting for one that gets free or is opened meanwhile; None when
        ``given_up`` is set or the time is over. At the process limit no shell can be
        started, and all that helps is that programs left behind end."""
        until = time.monotonic() + seconds
        with self._lock:
            self._waiting += 1
        try:
            while not given_up.is_set() and time.monotonic() < until:
                lane = self._idle_lane()
                if lane is not None:
                    return lane
                with self._lock:
                    if self._tidying:  # better than a new one
                        cheap = self.hello.marked
                        self._free_again.wait(_TIDY_SECONDS if cheap else _DEAR_TIDY_SECONDS)
                    if not self._idle:
                        self._open_more()
                        self._free_again.wait(_RETRY_SECONDS)
            return None
        finally:
            with self._lock:
                self._waiting -= 1

    def _open_more(self) -> None:
        """Have a further lane opened in the background, where one is of use; locked."""
        full = len(self._lanes) + len(self._opening) >= _MAX_LANES
        most = min(self._waiting, _OPENING_AT_ONCE - self._tidying)
        if full or self._closed or self._checking or len(self._opening) >= most:
            return
        taken = {*self._lanes, *self._opening, *self._foreign}
        low = self._first + 1
        number = next(n for n in range(low, low + _MAX_LANES) if n not in taken)
        self._opening.add(number)
        self._in_background(self._open_lane, number)

    def _open_lane(self, number: int) -> None:
        lane = None
        try:
            lane = Lane(number, self.open_channel(number))
            lane.greet(_LANE_SECONDS)
            if self._first and lane.count() > 0:
                self._foreign.add(number)
                raise LaneLostError("another process's programs carry the lane's mark")
        except Exception as error:
            if lane is not None:
                lane.close()
                lane = None
            if self._find_death(str(error), settle=False) is None:
                _log.debug("no further lane: %s", error)
                time.sleep(_RETRY_SECONDS)  # it is tried again when this is over
        with self._lock:
            self._opening.discard(number)
            if lane is not None:
                self._lanes[number] = lane
                self._idle.append(lane)
            closed = self._closed
            self._free_again.notify_all()
        if closed and lane is not None:
            lane.close()

    def give_back(self, lane: Lane, ended: Ended | None) -> None:
        """After the result is out: make the lane fit for the next program, or retire it."""
        try:
            if ended is None or lane.lost:
                self.forget(lane)
                return
            if lane.dirty:
                with self.thawed():
                    lane.clean()
            if not self.surely_alone(lane, ended):
                with self.thawed():
                    left = self.left_behind(lane)
                if left > 0:
                    self.retire(lane)
                    return
            if self._checking and self._strangers(lane):
                self.overdue(lane)
            if lane.due:
                with self.thawed():
                    lane.hand_over()
        except LaneLostError as error:
            if not self._closed:
                _log.warning("lane %d is given up: %s", lane.number, error)
            self.forget(lane)
            return
        self.make_idle(lane)

    def _hand_over_soon(self, lane: Lane) -> None:
        """Hand the first lane over in a pause, so that no execution has to wait for that; one
        that is busy then is handed over when it is given back."""
        time.sleep(lane.due_in or 0.0)
        with self._lock:
            if self._closed or self._checking or lane not in self._idle or not lane.due:
                return
            self._idle.remove(lane)
            self._busy.add(lane.number)
            self._tidying += 1
        try:
            self.give_back(lane, Ended(0, False, False, 0, 0, 0))
        finally:
            self.tidying(-1)

    def make_idle(self, lane: Lane) -> None:
        """It is fit for the next program."""
        with self._lock:
            self._busy.discard(lane.number)
            if lane.number != self._first and len(self._idle) >= _SPARE_LANES:
                del self._lanes[lane.number]
                spare = True
            else:
                self._idle.append(lane)
                self._idle.sort(key=lambda idle: -idle.number)  # the first is taken first
                spare = False
            self._free_again.notify()
        if spare:
            lane.close()

    def tidy(self, lane: Lane, ended: Ended) -> None:
        """``give_back`` in a thread of its own: the result first, and what makes the lane
        fit again is nobody's waiting time."""

        def work() -> None:
            try:
                self.give_back(lane, ended)
            finally:
                self._checking = False
                self.tidying(-1)

        self.tidying(1)
        self._in_background(work)

    def _in_background(self, call: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=call, args=arguments, daemon=True, name="stockade-lane").start()

    def tidying(self, more: int) -> None:
        """Count a lane that will be free in a moment: 1, and -1 when it is."""
        with self._lock:
            self._tidying += more
            self._free_again.notify_all()

    def surely_alone(self, lane: Lane, ended: Ended) -> bool:
        """Whether the count of processes says that the program left none behind."""
        usual = self._usual_processes(lane)
        return usual is not None and ended.processes <= usual

    def _usual_processes(self, lane: Lane) -> int | None:
        """How many there are while nothing runs; None where that tells nothing now."""
        if not self.counts_processes:
            return None
        with self._lock:
            if self._opening or self._busy - {lane.number}:
                return None
            # What another lane has forked ahead is not counted: then it is looked closer.
            own = sum(lane.processes for lane in self._lanes.values())
            return self.hello.processes - self._before + own

    def must_check(self, lane: Lane) -> bool:
        """Whether to look for a program that hides; asked when one has ended, before its
        result is out. Other lanes' programs cannot be told from it: it waits for their end."""
        with self._lock:
            self._suspects |= lane.dirty and not self.hello.marked and self.counts_processes
            quiet = not self._opening and len(self._idle) == len(self._lanes) - 1
            self._checking = self._suspects and quiet
            return self._checking

    def _strangers(self, lane: Lane) -> bool:
        """Whether there are processes that no lane answers for: a program that was to end
        has taken off its mark, where one can (D6). What is dying still gets some time."""
        until = time.monotonic() + _DYING_SECONDS
        with self._lock:
            lanes = list(self._lanes.values())
        for one in lanes:
            one.none_ahead()
        usual = self._usual_processes(lane)
        while usual is not None:
            with self.thawed():
                if lane.clean() <= usual:
                    break
            if time.monotonic() > until:
                return True
            time.sleep(0.05)
        self._suspects = False
        return False

    def retire(self, lane: Lane) -> None:
        """Programs left behind live on and may print: nobody else uses their lane meanwhile."""
        with self._lock:
            self._busy.discard(lane.number)
        threading.Thread(
            target=self._await_last, args=(lane,), daemon=True, name="stockade-drain"
        ).start()

    def _await_last(self, lane: Lane) -> None:
        pause = _FIRST_LOOK_SECONDS
        try:
            while not self._closed:
                lane.drain(pause)
                pause = min(2 * pause, _LAST_LOOK_SECONDS)
                with self.thawed():
                    if self.left_behind(lane) > 0:
                        continue
                    lane.clean()
                self.make_idle(lane)
                return
        except LaneLostError:
            self.forget(lane)

    def forget(self, lane: Lane) -> None:
        lane.close()
        with self._lock:
            self._busy.discard(lane.number)
            if lane.number != self._first:
                self._lanes.pop(lane.number, None)
            self._free_again.notify()

    # -- its death ---------------------------------------------------------------

    def _check_alive(self) -> None:
        if self._death is not None:
            raise gone(self._death)
        if self._closed:
            raise SandboxLostError("the session is closed.")

    def _find_death(self, seen: str, *, settle: bool = True) -> Death | None:
        """Why the sandbox is dead; None where it lives."""
        with self._lock:
            if self._death is not None:
                return self._death
            if self._closed:
                return Death("the session is closed")
        try:
            found = self.post_mortem(settle=settle)
        except Exception as error:
            found = Death(f"{seen}, and why could not be found out: {error}")
        with self._lock:
            self._death = self._death or found
            lanes = list(self._lanes.values()) if found else []
        for lane in lanes:
            lane.close()  # an engine may keep the connection of a dead sandbox open
        return self._death


def gone(death: Death) -> SandboxLostError:
    """The error that says why a sandbox is not there any more."""
    return SandboxLostError(f"the sandbox is gone: {death.reason}; open a new session.")
