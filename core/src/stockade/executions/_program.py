"""The program of an execution, for callers that write to it or signal it (D17, D18)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from stockade.errors import (
    CancelledError,
    ExecutionEndedError,
    InputClosedError,
    StockadeError,
    WallError,
)
from stockade.values.shown import named
from stockade.wall import Running

__all__ = ["Program"]

_T = TypeVar("_T")
#: A piece of input is at most so long, and so often is a writer asked whether it goes on.
_PIECE_BYTES = 64 * 1024
_ASK_SECONDS = 0.2
#: How long a program may take to be there for a signal.
_BEGIN_SECONDS = 10.0


class Program:
    """Nobody knows of it before the wall has started it; a call waits for that."""

    def __init__(self, provider: str, execution_id: str, *, open_input: bool) -> None:
        self._provider = provider
        self._execution_id = execution_id
        self._changed = threading.Condition()
        self._running: Running | None = None
        self._over = False
        self._input_open = open_input
        self._has_input = open_input
        self._writing = threading.Lock()  # one writer's bytes stay together

    # -- what core reports -----------------------------------------------------

    def begun(self, running: Running) -> None:
        """The wall has started it. If a caller closed its input before, that is done now."""
        with self._changed:
            self._running = running
            closed = self._has_input and not self._input_open
            self._changed.notify_all()
        if closed:
            self._end_input(running)

    def ended(self) -> None:
        """It has ended, or will never begin."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def started(self) -> None:
        """Wait until it has begun, or ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._running is not None)

    # -- what callers do -------------------------------------------------------

    def signal(self, number: int, *, group: bool) -> None:
        """Send a signal. Raises ExecutionEndedError, SandboxLostError, TimeoutError."""
        self.ask("signal", lambda running: running.signal(number, group=group))

    def ask(self, what: str, call: Callable[[Running], _T]) -> _T:
        """Call the wall on it, once it has begun. Raises as ``signal``."""
        running = self._there(_BEGIN_SECONDS)
        if running is None:
            raise TimeoutError(
                f"execution {self._execution_id} has not begun within {_BEGIN_SECONDS:g} s; "
                "something keeps it back (a middleware?). Cancel it, or try again."
            )
        return self._ask(what, lambda: call(running))

    def write(self, data: bytes, cancelled: Callable[[], bool]) -> None:
        """Hand input over, waiting while the program does not read (D17).

        Raises InputClosedError, ExecutionEndedError, SandboxLostError, and CancelledError
        when ``cancelled`` says so, with a part of it written perhaps.
        """
        view = memoryview(data)
        self._check_input()
        while not self._writing.acquire(timeout=_ASK_SECONDS):
            self._go_on(cancelled)
        try:
            while view:
                self._go_on(cancelled)
                running = self._there(_ASK_SECONDS)
                if running is not None:
                    piece = bytes(view[:_PIECE_BYTES])
                    view = view[self._put(running, piece) :]
        finally:
            self._writing.release()

    def close_input(self) -> None:
        """End its input after what was written; a second call does nothing, and neither does
        one after its end. Raises InputClosedError if it never had one, SandboxLostError."""
        with self._changed:
            if not self._has_input:
                self._check_input()
            if not self._input_open or self._over:
                return
            self._input_open = False
            self._changed.notify_all()
            running = self._running
        if running is not None:
            self._end_input(running)

    def _end_input(self, running: Running) -> None:
        try:
            self._ask("close_input", running.close_input)
        except ExecutionEndedError:
            return

    # -- how -------------------------------------------------------------------

    def _there(self, seconds: float) -> Running | None:
        """The running program, or None when it has not begun in time. Raises
        ExecutionEndedError."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._running is not None, seconds)
            if self._over:
                raise ExecutionEndedError(self._execution_id)
            return self._running

    def _go_on(self, cancelled: Callable[[], bool]) -> None:
        if cancelled():
            raise CancelledError("the write was cancelled; a part of it may have been written.")
        self._check_input()
        with self._changed:
            if self._over:
                raise ExecutionEndedError(self._execution_id)

    def _check_input(self) -> None:
        if not self._has_input:
            raise InputClosedError(
                f"execution {self._execution_id} has no open input; start it with "
                "stdin=stockade.PIPE."
            )
        if not self._input_open:
            raise InputClosedError(
                f"the input of execution {self._execution_id} was closed; nothing can be "
                "written any more."
            )

    def _put(self, running: Running, piece: bytes) -> int:
        until = time.monotonic() + _ASK_SECONDS
        taken = self._ask("write", lambda: running.write(piece, _ASK_SECONDS))
        if type(taken) is not int or not 0 <= taken <= len(piece):
            raise WallError(f"write() returned {taken!r}, not how many bytes it took; report it")
        if not taken and time.monotonic() < until - _ASK_SECONDS / 2:
            time.sleep(_ASK_SECONDS / 10)  # a wall that does not wait
        return taken

    def _ask(self, what: str, call: Callable[[], _T]) -> _T:
        """Call the wall, and say what it raises in the contract's terms."""
        try:
            return call()
        except (ProcessLookupError, BrokenPipeError) as error:
            raise ExecutionEndedError(self._execution_id) from error
        except StockadeError:
            raise
        except Exception as error:
            raise WallError(
                f"{what}() of {self._provider} failed: {named(error)}; report it to its author."
            ) from error
