"""One execution behind a supervisor, as core sees it."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import attrs

from stockade.errors import SandboxLostError, WorkingDirectoryError
from stockade.results import Stream
from stockade.toolkit.supervised.ends import End, FailedToStart, Failure, LinkLost
from stockade.toolkit.supervised.execution import LinkExecution
from stockade.toolkit.supervised.holder import KILLED, Holder, exit_of, exit_of_lost
from stockade.wall import ExecRequest, Exit, Output, Running

if TYPE_CHECKING:
    from stockade.toolkit.supervised.starting import Start

__all__ = ["Death", "SupervisedRunning"]

_INTERRUPT = 2


@attrs.frozen
class Death:
    """What a wall finds out about a sandbox that has died."""

    reason: str  #: why, in words, as SandboxLostError shows it
    out_of_memory: bool = False  #: whether the sandbox's memory limit ended it (E5)


class SupervisedRunning(Running):
    """Over an execution that has been started."""

    def __init__(
        self, sandbox: Holder, started: Start, output: Output, request: ExecRequest
    ) -> None:
        self._sandbox = sandbox
        self._started = started
        self._output = output
        self._request = request
        self._killed = threading.Event()
        self._input_closed = False

    def wait(self) -> Exit:
        try:
            outcome = self._ended()
            if not self._killed.is_set() and self._started.again(outcome):
                if self._killed.is_set():
                    self._sandbox.kill_execution(self._execution)
                if self._input_closed:
                    self._execution.feed(b"", end=True)
                outcome = self._ended()
        except LinkLost as error:
            return self._lost(error)
        if isinstance(outcome, FailedToStart):
            return self._failed(outcome)
        return exit_of(self._sandbox, self._execution, outcome)

    @property
    def _execution(self) -> LinkExecution:
        return self._started.execution

    def _ended(self) -> End | FailedToStart:
        try:
            return self._execution.wait(lambda: self._sandbox.left(self._execution))
        finally:
            self._sandbox.done(self._execution)
            self._started.ended()

    def _failed(self, outcome: FailedToStart) -> Exit:
        if outcome.why == Failure.NO_FOLDER:
            raise WorkingDirectoryError(self._request.working_dir)
        word, code = _WORDS.get(outcome.why, ("the request could not be carried out", 126))
        reason = os.strerror(outcome.errno) if outcome.errno else "no reason was given"
        self._output.write(Stream.STDERR, f"stockade: {word}: {reason}\n".encode())
        return Exit(code=code)

    def _lost(self, error: LinkLost) -> Exit:
        if self._execution.killed_at is not None:
            # It was to end, and it has. What became of the sandbox is found out without
            # keeping the result back: an engine may not answer.
            return Exit(signal=KILLED)
        return exit_of_lost(self._sandbox, error)

    def interrupt(self) -> None:
        self._execution.signal(_INTERRUPT)

    def kill(self) -> None:
        self._killed.set()
        self._sandbox.kill_execution(self._execution)

    def signal(self, number: int, *, group: bool) -> None:
        self._execution.reach(number, group=group)

    def write(self, data: bytes, seconds: float) -> int:
        return self._execution.offer(data, seconds)

    def close_input(self) -> None:
        self._input_closed = True
        self._execution.feed(b"", end=True)


_WORDS = {
    Failure.NO_PROCESS: ("no process can be started, the process limit is reached", 126),
    Failure.NO_USER: ("the user cannot be taken", 126),
    Failure.NO_RESOURCES: ("the sandbox has no room to start it", 126),
    Failure.NO_INTERPRETER: ("the interpreter does not start", 126),
}


def lost(death: Death) -> SandboxLostError:
    """The error for a sandbox that has died."""
    return SandboxLostError(f"the sandbox has died: {death.reason}; open a new session.")
