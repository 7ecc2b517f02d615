"""The ``Sandbox`` of walls that hold a supervisor open: many lanes, one sandbox."""

from __future__ import annotations

import abc
import contextlib
import logging
import threading
import time
from typing import ClassVar

import attrs

from stockade.errors import SandboxLostError
from stockade.resident.lane import Ended, Lane, LaneLostError
from stockade.resident.lanes import Lanes, gone
from stockade.resident.running import Death, LaneRunning, Notebook, NotebookRunning
from stockade.resident.script import can_be_warm, prepare
from stockade.wall import ExecRequest, Output, Running

__all__ = ["Death", "ResidentSandbox"]

_log = logging.getLogger(__name__)

#: How long a lane may take to be fit for the next program.
_TIDIED_SECONDS = 1.0
#: How long a lane is looked for that ends the programs of another.
_ANOTHER_SECONDS = 5.0
#: The supervisor's own deadline comes this much after the owner's.
_EXPIRY_GRACE_SECONDS = 3.0
#: How long a program that exits 137 beside a kill for memory waits for its claimant,
#: while others run that may be it.
_CLAIM_SECONDS = 0.5


class ResidentSandbox(Lanes):
    """Executions over lanes. A wall's sandbox inherits it and gives ``open_channel``,
    ``post_mortem`` and ``destroy``."""

    #: Whether the wall answers "permission denied" for programs that are not there.
    hides_missing: ClassVar[bool] = False
    #: How long a program may outlive the order to end it before its sandbox is ended (D6).
    kill_seconds: float = 0.9
    #: How long a paused sandbox is let go on to end one program.
    thaw_seconds: float = 0.2
    #: The folder in which each of its lanes starts, where that is sure to be there for ever.
    home: str | None = None

    # -- what the wall gives ---------------------------------------------------

    @abc.abstractmethod
    def destroy(self) -> None:
        """End the sandbox itself and remove all that it made; may be called again."""

    def force_end(self) -> None:
        """Kill the sandbox, since it obeys no more; bounded in time, never raises."""

    def freeze(self, yes: bool) -> None:
        """Stop everything inside, or let it go on (G2): of walls that claim the capability.
        Raises SandboxLostError."""
        raise NotImplementedError

    # -- what a wall may do better from outside --------------------------------

    def end_programs(self, lane: Lane) -> bool:
        """End all programs of a lane, at once (D6); False when the lane cannot be told to.
        Called again while they live; no order may outlast the ``left_behind`` that follows."""
        return lane.kill()

    def out_of_memory(self, lane: Lane, ended: Ended) -> bool:
        """Whether the memory limit ended the lane's program (E5)."""
        # What was told to end died of that, and must not answer for another's kill.
        return not lane.dirty and self._claim_kills(ended)

    # -- the Sandbox interface -------------------------------------------------

    def start(self, request: ExecRequest, output: Output) -> Running:
        if request.state:
            return NotebookRunning(self, prepare(request, warm=True), output, request)
        warm = self.hello.python is not None and can_be_warm(request)
        job = prepare(request, warm=warm, hidden=self.hides_missing, home=self.home)
        running = LaneRunning(self, job, output, request)
        lane = self._idle_lane()
        if lane is not None:
            running.begin(lane)
        return running

    def interpreter(self, language: str) -> str | None:
        return self.hello.python if language == "python" else None

    def close(self) -> None:
        # First: a supervisor whose input ends, ends with all it runs, so this holds (and
        # is a little quicker) when the wall cannot be reached, too.
        self.release()
        self.destroy()

    def pause(self) -> None:
        with self._freezing:
            self.freeze(True)
            self._paused = True

    def resume(self) -> None:
        with self._freezing:
            self.freeze(False)
            self._paused = False

    def expire_at(self, when: float | None) -> None:
        """Have the supervisor end itself a little after core would have ended the sandbox.

        Only while nothing runs yet: while it runs a program it takes no such order.
        """
        lane = self._lanes[self._first]
        with self._lock:
            # A lane that will be free in a moment has no program.
            self._free_again.wait_for(lambda: not self._tidying, _TIDIED_SECONDS)
            busy = lane.number in self._busy
        if busy or lane.lost or (when is None and self._until is None):
            return
        self._until = when
        left = 0.0 if when is None else max(1.0, when - time.time() + _EXPIRY_GRACE_SECONDS)
        try:
            lane.expire_in(left)
        except LaneLostError as error:
            _log.debug("the sandbox does not keep its own deadline: %s", error)
            return
        if self.hello.python is None:  # there a `sleep` keeps the time: one process more
            self.hello = attrs.evolve(self.hello, processes=self.hello.processes + 1)

    # -- running ---------------------------------------------------------------

    def end_by_another(self, lane: Lane) -> None:
        """Have another lane end this one's programs, since its input is stopped up."""
        try:
            other = self.take_lane(threading.Event(), _ANOTHER_SECONDS)
            if other is None:
                return
            try:
                other.end_other(lane)
                with self.thawed():
                    other.clean()
            finally:
                self.give_back(other, Ended(0, False, False, 0, 0, 1 << 30))
        except (LaneLostError, SandboxLostError):
            _log.debug("no lane could end the programs of lane %d", lane.number)

    def overdue(self, lane: Lane) -> None:
        """A program outlived its end: the supervisor is stopped, or worse; or the session is
        paused, and then goes on for as long as a program needs to end."""
        with self._freezing:
            if self._paused:
                with contextlib.suppress(SandboxLostError):
                    self.freeze(False)
                    time.sleep(self.thaw_seconds)
                    self.freeze(True)
                    return
        threading.Thread(target=self.force_end, daemon=True, name="stockade-kill").start()
        lane.close()

    def seems_alive(self) -> bool:
        """False once the first lane is known to be gone, which ends with the sandbox."""
        with self._lock:
            first = self._lanes.get(self._first)
            if self._death is not None or first is None or first.lost:
                return False
            if self._first in self._busy:
                return True  # its own execution would notice
        return not first.ended()

    @property
    def died_of_memory(self) -> bool:
        """Whether the sandbox as a whole was ended for its memory (E5)."""
        return self._death is not None and self._death.out_of_memory

    def loss(self, error: BaseException) -> SandboxLostError:
        """The error to raise when a lane fails in use; finds out why, once."""
        death = self._find_death(str(error))
        if death is None:
            death = Death("a program inside broke its supervisor")
            with self._lock:
                self._death = self._death or death
        return gone(death)

    def broken_by(self, error: BaseException) -> None:
        """A lane is lost that was ending a program; nothing more can be started."""
        with self._lock:
            self._death = self._death or Death(f"it did not end a program when told to ({error})")

    def _claim_kills(self, ended: Ended) -> bool:
        """Whether the memory limit ended this program (E5).

        The sandbox counts kills, not whose they were. A program that died of
        SIGKILL while the count rose answers for the rise; one that exited with
        137 as a shell does after a killed child answers only when nobody else has.
        """
        if ended.status != 137 or ended.kills_after <= ended.kills_before:
            return False
        until = time.monotonic() + _CLAIM_SECONDS
        while not ended.signalled and time.monotonic() < until:
            with self._lock:
                if ended.kills_after <= self._claimed or len(self._busy) < 2:
                    break
            time.sleep(0.01)
        with self._lock:
            if ended.kills_after <= self._claimed:
                return False
            self._claimed = ended.kills_after
            return True

    # -- named interpreters ----------------------------------------------------

    def notebook(self, name: str) -> Notebook:
        """The named interpreter's place; it starts with its first code."""
        with self._lock:
            return self._notebooks.setdefault(name, Notebook())
