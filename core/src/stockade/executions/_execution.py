"""One execution: from its request to its result, with deadline, cancel and verdict."""

from __future__ import annotations

import copy
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING

from stockade.errors import (
    CancelledError,
    CapacityError,
    SandboxLostError,
    StockadeError,
    WallError,
)
from stockade.executions._end import End
from stockade.executions._interrupting import Interruptible
from stockade.executions._program import Program
from stockade.executions._reaching import Reachable
from stockade.executions._verdicts import LOST, checked, judge, result_of, status_of
from stockade.results import Chunk, ExecutionHandle, ExecutionStatus, SandboxResult, Verdict
from stockade.values.shown import named
from stockade.wall import ExecRequest, Exit, Running

if TYPE_CHECKING:
    from typing_extensions import Self

    from stockade.capabilities import Capabilities
    from stockade.executions._home import Home
    from stockade.executions._output import BoundedOutput, OutputReader
    from stockade.executions._passage import Passage
    from stockade.system.threads import Clock, Timer, Workers
    from stockade.wall import Sandbox

__all__ = ["KILL_GRACE_SECONDS", "Execution"]

_log = logging.getLogger(__name__)

#: Seconds that a wall may take to end a program, from core's request on. The contract
#: gives it one (D6); past this the wall hangs, and core goes on without it.
KILL_GRACE_SECONDS = 10.0


class Execution(Interruptible, Reachable):
    """A running or ended execution; made by a session's ``start`` and ``stream``.

    Iterating it hands out live output as :class:`Chunk` pieces (D13) where it
    was started by ``stream``. All methods may be called from any thread.
    """

    def __init__(
        self,
        home: Home,
        request: ExecRequest,
        output: BoundedOutput,
        *,
        clock: Clock,
        workers: Workers,
        on_end: Callable[[SandboxResult | StockadeError], None],
        have: Capabilities,
        passage: Passage | None = None,
    ) -> None:
        """``have``: what the wall can do."""
        live = request.live_input
        program = Program(home.provider, request.execution_id, open_input=live)
        super().__init__(home, program, output, have)
        self._request = request
        self._clock = clock
        self._workers = workers
        self._on_end = on_end
        self._passage = passage  # None if there is no middleware
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._status = ExecutionStatus.PENDING
        self._running: Running | None = None
        self._stop: Verdict | None = None  # why core ended it, if it did
        self._settled = False  # an end has been taken; the future follows
        self._timers: list[Timer] = []
        self._future = End()

    # -- what callers use ----------------------------------------------------

    @property
    def execution_id(self) -> str:
        """Random, of 128 bits (C2); listings and events name the execution by it."""
        return self._request.execution_id

    @property
    def status(self) -> ExecutionStatus:
        """The present state (C4)."""
        self._home.here()
        return self._status

    @property
    def future(self) -> Future[SandboxResult]:
        """The result to come; read it, do not set or cancel it."""
        self._home.here()
        return self._future

    def result(self, timeout: float | None = None) -> SandboxResult:
        """Wait for the end and return the result; an interrupt cancels the execution.

        Raises SandboxLostError, WorkingDirectoryError, and TimeoutError when
        ``timeout`` seconds pass first (the execution runs on).
        """
        self._home.here()
        try:
            ended = self._future.reached(timeout)
        except (KeyboardInterrupt, SystemExit):
            self.cancel()
            raise
        if not ended:
            raise TimeoutError(f"no result within {timeout} s; it is still running")
        return self._future.result()

    def cancel(self) -> None:
        """End it, tree and all, with the verdict cancelled; after the end it does nothing (D12)."""
        self._home.here()
        self.stop(Verdict.CANCELLED)

    def handle(self) -> ExecutionHandle:
        """The trait's record of this execution, as it is now."""
        self._home.here()
        future = self._future
        ended = future.done() and future.exception() is None
        return ExecutionHandle(
            self.execution_id,
            self._home.agent_id,
            self._home.session_id,
            self._status,
            future.result() if ended else None,
        )

    def __iter__(self) -> Iterator[Chunk]:
        """Live pieces until the program's end; leaving the loop early cancels it."""
        self._home.here()
        try:
            yield from self._output
        finally:
            if not self._future.done():
                self.cancel()

    def take(self) -> Chunk | None:
        """The next live piece, waiting for it, or None at the end."""
        return self._live().take()

    def _live(self) -> OutputReader:
        """The reader of its live output: the one that holds the program back."""
        self._home.here()
        return self._output.reader

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Cancel what still runs and wait for its end; in a forked child do nothing (C12)."""
        if self._home.pid != os.getpid():
            return
        self.cancel()
        self._output.release()
        self._future.exception()

    # -- what core uses ------------------------------------------------------

    def begin(self) -> None:
        """Start it in a worker, with its deadline running where it has one (D15).

        Raises CapacityError if there is no thread for it.
        """
        self._status = ExecutionStatus.RUNNING
        seconds = self._request.timeout_seconds
        if seconds is not None:
            deadline = self._started + seconds
            self._timers.append(self._clock.at(deadline, lambda: self.stop(Verdict.TIMED_OUT)))
        self._workers.run(self._drive)

    def abort(self, error: BaseException) -> None:
        """It was counted, but its start failed or was interrupted: end it, whatever there is
        of it by now."""
        self.stop(Verdict.CANCELLED)
        reported = (
            error
            if isinstance(error, StockadeError)
            else CancelledError(
                f"execution {self.execution_id} was broken off at its start; start it again."
            )
        )
        self._settle_error(reported)

    def stop(self, why: Verdict) -> None:
        """End it for ``why``; the first reason stands (D3). Returns at once."""
        with self._lock:
            if self._stop is not None or self._settled:
                return
            self._stop = why
            running = self._running
            with_middleware = self._passage is not None and not self._passage.in_wall
            try:
                self._timers.append(self._clock.after(KILL_GRACE_SECONDS, self._abandon))
            except CapacityError as error:
                _log.warning("execution %s is ended unwatched: %s", self.execution_id, error)
        self._output.release()
        if with_middleware:  # no program is there to end, and middleware is not waited for
            self._workers.run_anyhow(lambda: self._settle(Exit(signal=9)))
        elif running is not None:
            self._workers.run_anyhow(lambda: self._kill(running))

    def conclude(self) -> None:
        """The sandbox is gone: give the callers a cancelled result, whatever the wall does."""
        with self._lock:
            if self._stop is None:
                self._stop = Verdict.CANCELLED
        self._settle(Exit(signal=9))

    # -- the worker's part ---------------------------------------------------

    def _drive(self) -> None:
        if self._passage is not None:
            self._settle_passed(self._passage)
            return
        ended = self._attempt()
        if isinstance(ended, StockadeError):
            self._settle_error(ended)
        else:
            self._settle(ended)

    def _settle_passed(self, passage: Passage) -> None:
        """Through the middleware, to what it leaves."""

        def attempt() -> SandboxResult:
            ended = self._attempt()
            made = ended if isinstance(ended, StockadeError) else self._made(ended)
            if isinstance(made, StockadeError):
                raise made
            return made

        if self._settled:
            return
        end: SandboxResult | StockadeError
        try:
            end = passage.through(attempt)
        except StockadeError as error:
            end = error
        if self._close(passage.to_show(end)):
            self._finish(end)

    def _attempt(self) -> Exit | StockadeError:
        """Have the wall execute it, and say how that went."""
        passage = self._passage
        try:
            return self._execute()
        except BaseException as error:  # in a thread of core's: whatever it is, a wall raised it
            return self._failed(error)
        finally:
            if passage is not None:
                passage.in_wall = False

    def _execute(self) -> Exit:
        sandbox = self._home.sandbox
        if sandbox is None:
            raise SandboxLostError("the session's sandbox is gone; open a new session.")
        with self._lock:
            if self._stop is not None:
                return Exit(signal=9)
            if self._passage is not None:
                self._passage.in_wall = True
        running = self._started_in(sandbox)
        if not isinstance(running, Running):
            raise WallError(f"start() returned {running!r}, not a Running; report it to its author")
        with self._lock:
            self._running = running
            stopped, interrupted = self._stop is not None, self._interrupted
        self._program.begun(running)
        if stopped:
            self._kill(running)
        elif interrupted:
            running.interrupt()
        ended = running.wait()
        return checked(ended)

    def _started_in(self, sandbox: Sandbox) -> Running:
        return sandbox.start(self._request, self._output)

    def _kill(self, running: Running) -> None:
        try:
            running.kill()
        except Exception:
            _log.exception("ending execution %s failed", self.execution_id)

    def _failed(self, error: BaseException) -> Exit | StockadeError:
        """The wall raised: the sandbox is lost, the request was wrong, or the wall is."""
        if self._stop is Verdict.CANCELLED and not _ready(self._home):
            return Exit(signal=9)  # it raised because its session is being ended (C7)
        if isinstance(error, SandboxLostError):
            lost = copy.copy(error)  # a wall may have classes of its own for some reasons
            lost.partial = self._result(Exit(signal=9), Verdict.LOST)
            lost.__cause__ = error
            self._home.fail(str(error))
            return lost
        if isinstance(error, StockadeError):
            return error
        wall = WallError(
            f"the wall {self._home.provider!r} failed on an execution: "
            f"{named(error)}. Report it to its author."
        )
        wall.__cause__ = error
        return wall

    def _abandon(self) -> None:
        """The wall did not end it in time. Called by the clock, so not in its thread: the
        ledger may keep its writer waiting."""
        self._workers.run(self._lose)

    def _lose(self) -> None:
        """The session cannot be trusted any more."""
        if self._settled:
            return
        if self._passage is not None and not self._passage.in_wall:
            self._settle(Exit(signal=9))  # the wall has ended it, middleware hangs
            return
        message = (
            f"the wall {self._home.provider!r} did not end execution {self.execution_id} "
            f"within {KILL_GRACE_SECONDS:g} s of the request to; destroy the session."
        )
        self._home.fail(message)
        partial = self._result(Exit(signal=9), Verdict.LOST, unseen=self._passage is not None)
        self._settle_error(SandboxLostError(message, partial))

    # -- the end -------------------------------------------------------------

    def _result(
        self, ended: Exit, verdict: Verdict | None = None, *, unseen: bool = False
    ) -> SandboxResult:
        """``unseen``: no middleware passes it, so there is no output in it."""
        judged = LOST if verdict is Verdict.LOST else judge(ended, self._stop)
        seconds = time.monotonic() - self._started
        return result_of(judged, self._output, seconds, unseen=unseen)

    def _made(self, ended: Exit, *, unseen: bool = False) -> SandboxResult | StockadeError:
        try:
            return self._result(ended, unseen=unseen)
        except Exception as error:  # no memory for the output, say
            none = StockadeError(
                f"the result could not be made: {named(error)}; ask for less output "
                "(output_limit_bytes)."
            )
            none.__cause__ = error
            return none

    def _settle(self, ended: Exit) -> None:
        if self._close():
            # Where there is middleware it did not pass: this end is forced.
            self._finish(self._made(ended, unseen=self._passage is not None))

    def _settle_error(self, error: StockadeError) -> None:
        if self._close():
            self._finish(error)

    def _finish(self, end: SandboxResult | StockadeError) -> None:
        """Free the session, report the end, give it to the callers: all of that, whatever
        the ledger or an observer raises, since the callers would wait for ever."""
        self._status = status_of(end)
        try:
            self._home.discard(self)
        finally:
            try:
                self._on_end(end)  # first: an audit log must not miss a result in use
            finally:
                self._future.give(end)

    def _close(self, show: Iterable[Chunk] = ()) -> bool:
        """Take the right to settle; only the first of several ends has it."""
        with self._lock:
            if self._settled:
                return False
            self._settled = True
            timers, self._timers = self._timers, []
        for timer in timers:
            timer.cancel()
        self._program.ended()
        self._output.end(show)
        return True


def _ready(home: Home) -> bool:
    return str(home.status) in ("ready", "executing")
