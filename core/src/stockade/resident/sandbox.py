"""The ``Sandbox`` of walls that hold a supervisor open: many lanes, one sandbox."""

from __future__ import annotations

import abc
import logging
import threading
import time
from collections.abc import Callable

import attrs

from stockade.errors import SandboxLostError, WorkingDirectoryError
from stockade.resident.channel import Channel
from stockade.resident.lane import Ended, Hello, Lane, LaneLostError
from stockade.resident.script import Job, can_be_warm, prepare
from stockade.wall import ExecRequest, Exit, Output, Running, Sandbox

__all__ = ["Death", "ResidentSandbox"]

_log = logging.getLogger(__name__)

#: How long a program may outlive the order to end it before its sandbox is ended.
_KILL_SECONDS = 0.7
#: Lanes that stay open though nothing needs them.
_SPARE_LANES = 8
#: More cannot be: a lane's mark is told by its number.
_MAX_LANES = 100
#: How long another lane may take to start.
_LANE_SECONDS = 30.0
#: How long a program that exits 137 beside a kill for memory waits for its claimant.
_CLAIM_SECONDS = 0.05


@attrs.frozen
class Death:
    """What a wall finds out about a sandbox that has died."""

    reason: str
    out_of_memory: bool = False


class ResidentSandbox(Sandbox):
    """Executions over lanes. A wall's sandbox inherits it and gives the three ways below."""

    def __init__(self, first: Channel, *, startup_seconds: float = 60.0) -> None:
        """``first`` leads to the supervisor that the sandbox was started with, lane 0.

        Raises LaneLostError when it does not answer.
        """
        self._lock = threading.Lock()
        self._free_again = threading.Condition(self._lock)
        lane = Lane(0, first)
        self.hello: Hello = lane.greet(startup_seconds)
        self._lanes: dict[int, Lane] = {0: lane}
        self._idle: list[Lane] = [lane]
        self._opening: set[int] = set()
        self._notebooks: dict[str, _Notebook] = {}
        self._busy: set[int] = set()
        self._death: Death | None = None
        self._closed = False
        self._claimed = 0  # kills for memory that an execution answers for
        if self.hello.python:
            lane.wake()

    # -- what the wall gives ---------------------------------------------------

    @abc.abstractmethod
    def open_channel(self, number: int) -> Channel:
        """Start another supervisor in the sandbox, as lane ``number``; called when
        executions overlap, from the execution's thread."""

    @abc.abstractmethod
    def destroy(self) -> None:
        """End the sandbox itself and remove all that it made; may be called again."""

    @abc.abstractmethod
    def post_mortem(self) -> Death | None:
        """What became of a sandbox whose lane failed, or None where it lives on; bounded in time."""

    def force_end(self) -> None:
        """Kill the sandbox, since it obeys no more; bounded in time, never raises."""

    # -- the Sandbox interface -------------------------------------------------

    def start(self, request: ExecRequest, output: Output) -> Running:
        if request.state:
            return self._start_in_notebook(request, output)
        warm = self.hello.python is not None and can_be_warm(request)
        job = prepare(request, warm=warm)
        lane = self._take_lane()
        if job.kind == "p" and not lane.awake:
            lane.wake()
        return self._run(lane, job, output, request, self._give_back)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            lanes = list(self._lanes.values())
            self._free_again.notify_all()
        try:
            self.destroy()
        finally:
            for lane in lanes:
                lane.close()

    # -- lanes -----------------------------------------------------------------

    def _take_lane(self) -> Lane:
        """An idle lane, or a new one; waits only where there are as many as can be."""
        with self._lock:
            while True:
                self._check_alive()
                while self._idle:
                    lane = self._idle.pop()
                    if not lane.lost:
                        self._busy.add(lane.number)
                        return lane
                if len(self._lanes) + len(self._opening) < _MAX_LANES:
                    break
                self._free_again.wait(1.0)
            number = self._new_number()
        return self._open_lane(number)

    def _new_number(self) -> int:
        free = next(n for n in range(1, _MAX_LANES + 1) if n not in self._lanes and n not in self._opening)
        self._opening.add(free)
        return free

    def _open_lane(self, number: int) -> Lane:
        lane = None
        try:
            lane = Lane(number, self.open_channel(number))
            lane.greet(_LANE_SECONDS)
        except BaseException as error:
            if lane is not None:
                lane.close()
            with self._lock:
                self._opening.discard(number)
            if not isinstance(error, (LaneLostError, OSError)):
                raise
            return self._instead(error)
        with self._lock:
            self._opening.discard(number)
            self._lanes[number] = lane
            self._busy.add(number)
            if self._closed:
                lane.close()
        return lane

    def _instead(self, error: Exception) -> Lane:
        """No further lane can be had (the process limit, say): wait for one that is there."""
        death = self._find_death(str(error))
        if death is not None:
            raise _gone(death) from error
        with self._lock:
            while not self._idle:
                self._check_alive()
                if not self._busy:
                    raise SandboxLostError(f"no program can be started any more: {error}") from error
                self._free_again.wait(1.0)
            lane = self._idle.pop()
            self._busy.add(lane.number)
            return lane

    def _give_back(self, lane: Lane, ended: Ended | None) -> None:
        """After the result is out: make the lane fit for the next program, or retire it."""
        try:
            if ended is None or lane.lost:
                self._forget(lane)
                return
            if lane.dirty:
                lane.clean()
            if not self._surely_alone(ended) and lane.count() > 0:
                self._retire(lane)
                return
        except LaneLostError:
            self._forget(lane)
            return
        with self._lock:
            self._busy.discard(lane.number)
            if lane.number and len(self._idle) >= _SPARE_LANES:
                del self._lanes[lane.number]
                spare = True
            else:
                self._idle.append(lane)
                self._idle.sort(key=lambda idle: -idle.number)  # lane 0 is taken first
                spare = False
            self._free_again.notify()
        if spare:
            lane.close()

    def _surely_alone(self, ended: Ended) -> bool:
        """Whether the count of processes says that the program left none behind."""
        with self._lock:
            only = len(self._lanes) == 1 and not self._opening
        return only and ended.processes <= self.hello.processes

    def _retire(self, lane: Lane) -> None:
        """Programs left behind live on and may print: nobody else uses their lane."""
        with self._lock:
            self._busy.discard(lane.number)
        threading.Thread(
            target=lane.drain, args=(lambda: self._closed,), daemon=True, name="stockade-drain"
        ).start()

    def _forget(self, lane: Lane) -> None:
        lane.close()
        with self._lock:
            self._busy.discard(lane.number)
            if lane.number:
                self._lanes.pop(lane.number, None)
            self._free_again.notify()

    # -- running ---------------------------------------------------------------

    def _run(
        self, lane: Lane, job: Job, output: Output, request: ExecRequest,
        after: Callable[[Lane, Ended | None], None],
    ) -> Running:  # fmt: skip
        try:
            lane.begin(job)
        except LaneLostError as error:
            after(lane, None)
            raise self._loss(error) from error
        return _LaneRunning(self, lane, output, request, after)

    def _end_by_another(self, lane: Lane) -> None:
        """Have another lane end this one's programs, since its input is stopped up."""
        try:
            other = self._take_lane()
            try:
                other.end_other(lane)
                other.clean()
            finally:
                self._give_back(other, Ended(0, False, False, 0, 0, 1 << 30))
        except (LaneLostError, SandboxLostError):
            _log.debug("no lane could end the programs of lane %d", lane.number)

    def overdue(self, lane: Lane) -> None:
        """A program outlived its end: the supervisor is stopped, or worse."""
        self.force_end()
        lane.close()

    def _check_alive(self) -> None:
        if self._death is not None:
            raise _gone(self._death)
        if self._closed:
            raise SandboxLostError("the session is closed.")

    def _loss(self, error: BaseException) -> SandboxLostError:
        """The error to raise when a lane fails in use; finds out why, once."""
        death = self._find_death(str(error))
        if death is None:
            death = Death("a program inside broke its supervisor")
            with self._lock:
                self._death = self._death or death
        return _gone(death)

    def _find_death(self, seen: str) -> Death | None:
        """Why the sandbox is dead; None where it lives."""
        with self._lock:
            if self._death is not None:
                return self._death
            if self._closed:
                return Death("the session is closed")
        try:
            found = self.post_mortem()
        except Exception as error:
            found = Death(f"{seen}, and why could not be found out: {error}")
        with self._lock:
            self._death = self._death or found
            return self._death

    def _claim_kills(self, ended: Ended) -> bool:
        """Whether the memory limit ended this program (E5).

        The sandbox counts kills, not whose they were. A program that died of
        SIGKILL while the count rose answers for the rise; one that exited with
        137 as a shell does after a killed child answers only when nobody else has.
        """
        if ended.status != 137 or ended.kills_after <= ended.kills_before:
            return False
        if not ended.signalled:
            time.sleep(_CLAIM_SECONDS)
        with self._lock:
            if ended.kills_after <= self._claimed:
                return False
            self._claimed = ended.kills_after
            return True

    # -- named interpreters ------------------------------------------------------

    def _start_in_notebook(self, request: ExecRequest, output: Output) -> Running:
        job = prepare(request, warm=True)
        assert request.state is not None
        with self._lock:
            notebook = self._notebooks.setdefault(request.state, _Notebook())
        notebook.turn.acquire()
        try:
            if notebook.lane is None or notebook.lane.lost:
                notebook.lane = self._take_lane()
            lane = notebook.lane
            if not lane.awake:
                lane.wake()

            def after(lane: Lane, ended: Ended | None) -> None:
                if ended is None:
                    self._forget(lane)
                notebook.turn.release()

            return self._run(lane, job, output, request, after)
        except BaseException:
            if notebook.turn.locked():
                notebook.turn.release()
            raise


def _gone(death: Death) -> SandboxLostError:
    return SandboxLostError(f"the sandbox is gone: {death.reason}; open a new session.")


class _Notebook:
    """A named interpreter: a lane of its own, one job at a time."""

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.lane: Lane | None = None


class _LaneRunning(Running):
    def __init__(
        self, sandbox: ResidentSandbox, lane: Lane, output: Output, request: ExecRequest,
        after: Callable[[Lane, Ended | None], None],
    ) -> None:  # fmt: skip
        self._sandbox = sandbox
        self._lane = lane
        self._output = output
        self._request = request
        self._after = after
        self._lock = threading.Lock()
        self._killed = False
        self._over = False
        self._timer: threading.Timer | None = None

    def wait(self) -> Exit:
        try:
            ended = self._lane.finish(self._output)
        except LaneLostError as error:
            return self._lost(error)
        self._done()
        self._lane.dirty = self._lane.dirty or self._killed
        oom = self._sandbox._claim_kills(ended)
        if self._needs_care(ended):
            # The result first: what makes the lane fit again is nobody's waiting time.
            threading.Thread(
                target=self._after, args=(self._lane, ended), daemon=True, name="stockade-lane"
            ).start()
        else:
            self._after(self._lane, ended)
        if ended.nowhere:
            raise WorkingDirectoryError(self._request.working_dir)
        if oom:
            return Exit(signal=9, out_of_memory=True)
        if ended.signalled and ended.status > 128:
            return Exit(signal=ended.status - 128)
        return Exit(code=ended.status)

    def _needs_care(self, ended: Ended) -> bool:
        return self._lane.dirty or not self._sandbox._surely_alone(ended)

    def _done(self) -> None:
        with self._lock:
            self._over = True
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _lost(self, error: LaneLostError) -> Exit:
        self._done()
        loss = self._sandbox._loss(error)
        self._after(self._lane, None)
        death = self._sandbox._death
        if death is not None and death.out_of_memory:
            return Exit(signal=9, out_of_memory=True)
        if self._killed:
            return Exit(signal=9)
        raise loss

    def kill(self) -> None:
        with self._lock:
            if self._over or self._killed:
                return
            self._killed = True
            self._timer = threading.Timer(_KILL_SECONDS, self._overdue)
            self._timer.daemon = True
            self._timer.start()
        if not self._lane.kill():
            self._sandbox._end_by_another(self._lane)

    def _overdue(self) -> None:
        with self._lock:
            if self._over:
                return
        self._sandbox.overdue(self._lane)
