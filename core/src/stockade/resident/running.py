"""One execution in a lane, and one in a named interpreter."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from stockade.errors import WorkingDirectoryError
from stockade.resident.lane import Ended, Lane, LaneLostError
from stockade.resident.script import Job
from stockade.wall import ExecRequest, Exit, Output, Running

if TYPE_CHECKING:
    from stockade.resident.sandbox import ResidentSandbox

__all__ = ["Death", "LaneRunning", "Notebook", "NotebookRunning"]

#: When the order to end a program is repeated: one that comes while the program is just
#: being started finds nothing to end, and on a slow machine that may take a while. After
#: the last of them its sandbox is ended: a second is what there is (D6).
_KILL_AGAIN_SECONDS = (0.1, 0.2, 0.2, 0.2, 0.2)


@attrs.frozen
class Death:
    """What a wall finds out about a sandbox that has died."""

    reason: str
    out_of_memory: bool = False


class LaneRunning(Running):
    """Runs in the lane that ``begin`` was given, or in one that ``wait`` finds."""

    def __init__(
        self, sandbox: ResidentSandbox, job: Job, output: Output, request: ExecRequest
    ) -> None:
        self._sandbox = sandbox
        self._job = job
        self._output = output
        self._request = request
        self._lock = threading.Lock()
        self._lane: Lane | None = None
        self._killed = threading.Event()
        self._over = threading.Event()

    def begin(self, lane: Lane) -> None:
        """Hand the job to a lane that is this execution's alone."""
        try:
            if self._job.kind == "p" and not lane.awake:
                lane.wake()
            lane.begin(self._job)
        except LaneLostError as error:
            self._release(lane, None)
            raise self._sandbox.loss(error) from error
        with self._lock:
            self._lane = lane
            late = self._killed.is_set()
        if late:
            self._order_kill(lane)

    def _find_lane(self) -> Lane | None:
        return self._sandbox.take_lane(self._killed)

    def _release(self, lane: Lane, ended: Ended | None) -> None:
        """The lane is not needed any more; None where it broke."""
        if ended is None:
            self._sandbox.forget(lane)
        elif (
            self._sandbox.must_check(lane)
            or lane.dirty
            or lane.due
            or not self._sandbox.surely_alone(lane, ended)
        ):
            self._sandbox.tidy(lane, ended)
        else:
            self._sandbox.give_back(lane, ended)

    def wait(self) -> Exit:
        if self._lane is None:
            found = self._find_lane()
            if found is None:
                return Exit(signal=9)  # ended before there was room for it
            self.begin(found)
        lane = self._lane
        assert lane is not None
        try:
            ended = lane.finish(self._output, self._sandbox.seems_alive)
        except LaneLostError as error:
            return self._lost(lane, error)
        self._done()
        lane.dirty = lane.dirty or self._killed.is_set()
        out_of_memory = self._sandbox.out_of_memory(lane, ended)
        self._release(lane, ended)
        if ended.nowhere:
            raise WorkingDirectoryError(self._request.working_dir)
        if out_of_memory:
            return Exit(signal=9, out_of_memory=True)
        if ended.signalled and ended.status > 128:
            return Exit(signal=ended.status - 128)
        return Exit(code=ended.status)

    def _done(self) -> None:
        with self._lock:  # no order to end it is under way now, and none will be
            self._over.set()

    def _lost(self, lane: Lane, error: LaneLostError) -> Exit:
        self._done()
        if self._killed.is_set():
            # It was to end, and it has. What became of the sandbox is found out without
            # keeping the result back: the engine may not answer.
            self._sandbox.broken_by(error)
            self._release(lane, None)
            return Exit(signal=9)
        loss = self._sandbox.loss(error)
        self._release(lane, None)
        if self._sandbox.died_of_memory:
            return Exit(signal=9, out_of_memory=True)
        raise loss

    def kill(self) -> None:
        with self._lock:
            if self._over.is_set() or self._killed.is_set():
                return
            self._killed.set()
            lane = self._lane
        if lane is not None:
            self._order_kill(lane)

    def _order_kill(self, lane: Lane) -> None:
        _in_thread(self._insist, lane)
        self._order(lane)

    def _order(self, lane: Lane) -> None:
        # Locked while the order is given: the program may end by itself meanwhile, and
        # the order must not reach the next one in its lane.
        with self._lock:
            obeys = self._over.is_set() or self._sandbox.end_programs(lane)
        if not obeys:
            self._sandbox.end_by_another(lane)

    def _insist(self, lane: Lane) -> None:
        """Repeat the order, then end the sandbox; waits for no order that is stuck."""
        wider = self._sandbox.kill_seconds / sum(_KILL_AGAIN_SECONDS)
        *early, last = (seconds * wider for seconds in _KILL_AGAIN_SECONDS)
        for pause in early:
            if self._over.wait(pause):
                return
            _in_thread(self._order, lane)
        if not self._over.wait(last):
            self._sandbox.overdue(lane)


def _in_thread(call: Callable[[Lane], None], lane: Lane) -> None:
    threading.Thread(target=call, args=(lane,), daemon=True, name="stockade-kill").start()


class Notebook:
    """A named interpreter: a lane of its own, one job at a time."""

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.lane: Lane | None = None


class NotebookRunning(LaneRunning):
    """One piece of code in a named interpreter, which has a lane for itself."""

    def __init__(
        self, sandbox: ResidentSandbox, job: Job, output: Output, request: ExecRequest
    ) -> None:
        super().__init__(sandbox, job, output, request)
        assert request.state is not None
        self._notebook: Notebook = sandbox.notebook(request.state)

    def _find_lane(self) -> Lane | None:
        while not self._notebook.turn.acquire(timeout=0.05):
            if self._killed.is_set():
                return None
        lane = self._notebook.lane
        try:
            if lane is None or lane.lost:
                lane = self._notebook.lane = super()._find_lane()
        finally:
            if lane is None:
                self._notebook.turn.release()
        return lane

    def _release(self, lane: Lane, ended: Ended | None) -> None:
        if ended is None:
            self._sandbox.forget(lane)
        elif lane.dirty:
            try:
                with self._sandbox.thawed():
                    self._sandbox.left_behind(lane)  # no order to end it is under way then
                    lane.clean()
            except LaneLostError:
                self._sandbox.forget(lane)
        self._notebook.turn.release()
