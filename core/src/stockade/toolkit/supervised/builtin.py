"""Commands of the supervisor's own, such as those on files, run to their end."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from stockade.errors import CancelledError
from stockade.results import Stream
from stockade.system.threads import in_thread, start_thread
from stockade.toolkit.supervised.ends import End
from stockade.toolkit.supervised.execution import LinkExecution, Sink
from stockade.toolkit.supervised.request import StartRequest

__all__ = ["run_builtin"]

#: How often a caller that may be cancelled is asked.
_ASK_SECONDS = 0.05
#: How long what was ended may take to be gone.
_END_SECONDS = 5.0


class Starter(Protocol):
    """What starts a program; the link does."""

    def start(
        self, request: StartRequest, output: Sink, stdin: bytes | None = b""
    ) -> LinkExecution: ...

    def forget(self, execution: LinkExecution) -> None: ...


class _Collected:
    """A sink for what a command of the supervisor's own prints."""

    def __init__(self, receive: Callable[[bytes], None]) -> None:
        self._receive = receive
        self.stderr = b""

    def write(self, stream: Stream, data: bytes) -> None:
        if stream is Stream.STDOUT:
            self._receive(data)
        else:
            self.stderr = (self.stderr + data)[:4096]

    def room(self, stream: Stream) -> int:
        return 0  # always handed over in the caller's thread

    def full(self, stream: Stream) -> bool:
        return False

    def drop(self, stream: Stream, count: int) -> None:
        return


def run_builtin(
    link: Starter,
    request: StartRequest,
    stdin: Iterable[bytes],
    receive: Callable[[bytes], None],
    timeout: float | None,
    cancelled: Callable[[], bool] | None,
) -> tuple[int, bytes]:
    """See :meth:`Link.builtin`."""
    until = None if timeout is None else time.monotonic() + timeout
    sink = _Collected(receive)
    pieces = iter(stdin)
    first = next(pieces, None)
    execution = link.start(request, sink, b"" if first is None else None)
    feeder = None
    if first is not None:
        feeder = _feed(execution, first, pieces)
    timed_out = was_cancelled = False

    def left() -> float | None:
        nonlocal timed_out, was_cancelled
        if execution.killed_at is not None:
            if time.monotonic() > execution.killed_at + _END_SECONDS:
                raise TimeoutError("it did not end")
            return _ASK_SECONDS
        was_cancelled = cancelled is not None and cancelled()
        timed_out = until is not None and time.monotonic() >= until
        if timed_out or was_cancelled:
            in_thread(execution.kill, "stockade-kill")
            return _ASK_SECONDS
        if cancelled is not None:
            return _ASK_SECONDS
        return None if until is None else max(0.0, until - time.monotonic())

    try:
        outcome = execution.wait(left)
    except BaseException:
        with contextlib.suppress(Exception):
            execution.kill()
        raise
    finally:
        link.forget(execution)
    if was_cancelled:
        raise CancelledError("the transfer was cancelled.")
    if timed_out:
        raise TimeoutError("the transfer took longer than its time limit")
    if feeder is not None and feeder.error is not None:
        raise feeder.error
    if not isinstance(outcome, End):
        raise OSError(outcome.errno, os.strerror(outcome.errno))
    code = os.waitstatus_to_exitcode(outcome.status)
    return (128 - code if code < 0 else code), sink.stderr


class _Feeder:
    error: BaseException | None = None


def _feed(execution: LinkExecution, first: bytes, rest: Iterable[bytes]) -> _Feeder:
    feeder = _Feeder()

    def run() -> None:
        try:
            execution.write(first)
            for piece in rest:
                if execution.over:
                    return
                execution.write(piece)
        except BaseException as error:  # the caller's own iterator raised
            feeder.error = error
            execution.kill()
        else:
            execution.feed(b"", end=True)

    try:
        start_thread(threading.Thread(target=run, daemon=True, name="stockade-feed"))
    except BaseException:
        execution.kill()  # it would wait for its input for ever
        raise
    return feeder
