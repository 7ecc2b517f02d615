"""Threads of core's own: reused workers, and one clock for all deadlines.

Both are daemons. A wall that never returns takes one worker with it and nobody
else: no caller hangs on it, and neither does the end of the interpreter, which
``concurrent.futures``' executors would wait for.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent import futures
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from stockade.errors import CapacityError, WallError

__all__ = [
    "Clock",
    "Narrow",
    "Timer",
    "Workers",
    "all_at_once",
    "bounded",
    "in_thread",
    "outcome",
    "start_thread",
]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_IDLE_SECONDS = 10.0
#: How soon a timed call that found no thread is made again.
_AGAIN_SECONDS = 0.5


def start_thread(thread: threading.Thread) -> None:
    """Start it. Raises CapacityError if the system has no thread to give."""
    try:
        thread.start()
    except RuntimeError as error:
        raise CapacityError(
            f"no thread could be started ({error}): this process or its user is at a limit of "
            "tasks; end some of them or raise it (ulimit -u, pids.max), then try again."
        ) from error


def in_thread(call: Callable[[], object], name: str) -> None:
    """Make a call in a daemon thread of its own, or in this one where no other is to be had:
    for what ends things. What it raises there is logged."""
    try:
        start_thread(threading.Thread(target=_make, args=(call,), daemon=True, name=name))
    except CapacityError as error:
        _log.warning("done in the calling thread: %s", error)
        _make(call)


class Workers:
    """Run functions in threads; an idle thread takes the next one at once."""

    def __init__(self, name: str = "stockade") -> None:
        self._name = name
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue[Callable[[], None]]] = []
        self._count = itertools.count(1)

    def run(self, work: Callable[[], None]) -> None:
        """Start ``work`` in a worker and return; what it raises is logged.

        Raises CapacityError where no thread is to be had; then it was not begun.
        """
        with self._lock:
            inbox = self._idle.pop() if self._idle else None
        if inbox is not None:
            inbox.put(work)
            return
        inbox = SimpleQueue()
        inbox.put(work)  # first: an interrupt of the start leaves no thread without work
        start_thread(
            threading.Thread(
                target=self._serve,
                args=(inbox,),
                name=f"{self._name}-{next(self._count)}",
                daemon=True,
            )
        )

    def run_anyhow(self, work: Callable[[], None]) -> None:
        """As ``run``, but in the calling thread where no other is to be had: for what ends
        things, which must not be left undone."""
        try:
            self.run(work)
        except CapacityError as error:
            _log.warning("done in the calling thread: %s", error)
            _make(work)

    def submit(self, work: Callable[[], _T], *, anyhow: bool = False) -> Future[_T]:
        """Start ``work``; the future carries its result or what it raised. ``anyhow`` as
        ``run_anyhow``; else raises CapacityError."""
        future, call = _promise(work)
        if anyhow:
            self.run_anyhow(call)
        else:
            self.run(call)
        return future

    def _serve(self, inbox: SimpleQueue[Callable[[], None]]) -> None:
        while True:
            try:
                work = inbox.get(timeout=_IDLE_SECONDS)
            except Empty:
                with self._lock:
                    if inbox in self._idle:
                        self._idle.remove(inbox)
                        return
                continue  # run() took this thread in the same instant: the work is on its way
            _make(work)
            del work  # keep nothing of it alive while idle
            with self._lock:
                self._idle.append(inbox)


def _make(work: Callable[[], object]) -> None:
    """Make a call that nobody waits for."""
    try:
        work()
    except BaseException:
        _log.exception("work in a stockade thread failed")


def _promise(work: Callable[[], _T]) -> tuple[Future[_T], Callable[[], None]]:
    """A future, and the call that gives it what ``work`` returns or raises."""
    future: Future[_T] = Future()

    def call() -> None:
        try:
            result = work()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    return future, call


class Narrow:
    """Workers, but so many at a time: the rest waits without a thread, in its order."""

    def __init__(self, workers: Workers, width: int) -> None:
        self._workers = workers
        self._width = width
        self._lock = threading.Lock()
        self._todo: deque[tuple[Future[Any], Callable[[], None]]] = deque()
        self._running = 0

    def submit(self, work: Callable[[], _T]) -> Future[_T]:
        """As ``Workers.submit``."""
        future, call = _promise(work)
        with self._lock:
            self._todo.append((future, call))
            if self._running >= self._width:
                return future
            self._running += 1
        try:
            self._workers.run(self._serve)
        except CapacityError as error:
            self._give_up(future, error)
        return future

    def _give_up(self, mine: Future[Any], error: CapacityError) -> None:
        """There is no thread to serve with. Work that other threads serve stays theirs;
        raises if this call's own is served by nobody."""
        with self._lock:
            self._running -= 1
            stranded = [] if self._running else [future for future, _ in self._todo]
            if stranded:
                self._todo.clear()
        for future in stranded:
            future.set_exception(error)
        if mine in stranded:
            raise error

    def _serve(self) -> None:
        while True:
            with self._lock:
                if not self._todo:
                    self._running -= 1
                    return
                _, call = self._todo.popleft()
            call()


class Timer:
    """A pending call of a clock."""

    __slots__ = ("_cancelled", "call")

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call
        self._cancelled = False

    def cancel(self) -> None:
        """Never make the call; does nothing once it is made."""
        self._cancelled = True
        self.call = _nothing  # free what the call holds before its time comes


def _nothing() -> None:
    return None


class Clock:
    """One thread that makes calls at their time. Calls must return at once, and wait for
    nobody: neither for a disk nor for a lock that is held while somebody waits for one.

    A call that raises CapacityError, since it found no thread for its work, is made again
    soon. With nothing to wait for it ends after a while, and begins anew with the next call.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def at(self, when: float, call: Callable[[], None]) -> Timer:
        """Make ``call`` at the monotonic time ``when``, soon after if that has passed.

        Raises CapacityError where no thread is to be had; then it will not be made.
        """
        timer = Timer(call)
        with self._changed:
            if self._thread is None:
                self._begin()
            heapq.heappush(self._heap, (when, next(self._count), timer))
            if self._heap[0][2] is timer:
                self._changed.notify()
            if len(self._heap) > 1000:
                self._prune()
        return timer

    def _begin(self) -> None:
        thread = threading.Thread(target=self._serve, name="stockade-clock", daemon=True)
        self._thread = thread  # before it runs: it ends where it is not the clock's
        try:
            start_thread(thread)
        except BaseException:
            self._thread = None
            raise

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Make a call in so many seconds, from the clock's thread."""
        return self.at(time.monotonic() + seconds, call)

    def _prune(self) -> None:
        """Drop cancelled calls once they are most of the heap."""
        live = [entry for entry in self._heap if not entry[2]._cancelled]
        if len(live) * 2 < len(self._heap):
            self._heap = live
            heapq.heapify(self._heap)

    def _serve(self) -> None:
        while True:
            with self._changed:
                timer = self._due() if self._mine() else None
                if not self._mine():
                    return
            if timer is not None:
                self._make(timer)

    def _mine(self) -> bool:
        return self._thread is threading.current_thread()

    def _make(self, timer: Timer) -> None:
        call = timer.call
        try:
            call()
        except CapacityError as error:
            _log.warning("a timed call is made again in %g s: %s", _AGAIN_SECONDS, error)
            with self._changed:
                when = time.monotonic() + _AGAIN_SECONDS
                heapq.heappush(self._heap, (when, next(self._count), timer))
        except BaseException:  # all later deadlines depend on this thread
            _log.exception("a timed call failed")

    def _due(self) -> Timer | None:
        """The next call whose time has come, else None after waiting for a change."""
        while self._heap and self._heap[0][2]._cancelled:
            heapq.heappop(self._heap)
        if not self._heap:
            if not self._changed.wait(_IDLE_SECONDS) and not self._heap and self._mine():
                self._thread = None
            return None
        left = self._heap[0][0] - time.monotonic()
        if left > 0:
            self._changed.wait(min(left, _IDLE_SECONDS))  # a cancelled call wakes nobody
            return None
        return heapq.heappop(self._heap)[2]


def all_at_once(
    workers: Workers, calls: Sequence[Callable[[], object]], seconds: float, *, width: int
) -> None:
    """Make all calls, ``width`` at the same time, and wait ``seconds`` at most for them.

    What was not begun by then is not begun any more; ``seconds`` may be infinite. Where no
    thread is to be had, this one makes the calls.
    """
    todo = deque(calls)
    until = time.monotonic() + seconds

    def serve(until: float = math.inf) -> None:
        while time.monotonic() <= until:
            try:
                call = todo.popleft()
            except IndexError:
                return
            _make(call)

    served: list[Future[None]] = []
    with contextlib.suppress(CapacityError):
        served.extend(workers.submit(serve) for _ in range(min(width, len(calls))))
    if not served:
        serve(until)
    left = max(0.0, until - time.monotonic())
    futures.wait(served, None if math.isinf(left) else left)
    todo.clear()


def bounded(
    workers: Workers,
    work: Callable[[], _T],
    seconds: float,
    *,
    late: Callable[[_T], Any] | None = None,
) -> _T:
    """The result of ``work``, or TimeoutError after ``seconds``.

    Work that answers later than that is handed to ``late``, so that what it
    made can be removed. Raises CapacityError where no thread is to be had.
    """
    future = workers.submit(work)

    def abandon() -> None:
        if late is not None:
            future.add_done_callback(lambda done: done.exception() or late(done.result()))

    try:
        finished, _ = futures.wait([future], seconds)
    except BaseException:  # an interrupt: nobody takes the result any more
        abandon()
        raise
    if not finished:
        abandon()
        raise TimeoutError(f"no answer within {seconds:g} s")
    return outcome(future)


def outcome(done: Future[_T]) -> _T:
    """The result of a wall's work, or what it raised, made safe to pass on."""
    error = done.exception()
    if isinstance(error, SystemExit):
        # Passed on it would look like an exit that this thread was asked for.
        raise WallError("it tried to exit the process; report it to the wall's author.")
    if error is not None and not isinstance(error, Exception):
        # An interrupt too comes to this thread from the user alone, not from a wall.
        raise WallError(f"it raised {error!r}; report it to the wall's author.") from error
    return done.result()
