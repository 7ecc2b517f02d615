"""A program on a terminal of the sandbox's own, over the link (D19)."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque

from stockade.errors import SandboxLostError
from stockade.results import Stream
from stockade.system.threads import start_thread
from stockade.toolkit.supervised.ends import End, LinkLost
from stockade.toolkit.supervised.execution import LinkExecution
from stockade.toolkit.supervised.holder import KILLED, Holder, exit_of, exit_of_lost
from stockade.toolkit.supervised.request import Flag, StartRequest
from stockade.wall import Exit, Terminal, TerminalRequest

__all__ = ["SupervisedTerminal"]

#: What is shown and not read yet holds the program back from here on.
_MOST_BYTES = 256 * 1024
#: The shell that an image has, the better one first.
_SHELL = ("sh", "-c", "exec $(command -v bash || echo sh)")
_NO_ANSWER = 125
_SIGWINCH = 28


class _Screen:
    """What the program has shown, and nobody has read yet."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended = False

    def write(self, stream: Stream, data: bytes) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._size < _MOST_BYTES or self._ended)
            if not self._ended and data:
                self._pieces.append(data)
                self._size += len(data)
                self._changed.notify_all()

    def room(self, stream: Stream) -> int:
        with self._changed:
            return max(0, _MOST_BYTES - self._size)

    def full(self, stream: Stream) -> bool:
        return False

    def drop(self, stream: Stream, count: int) -> None:
        return

    def read(self) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: self._pieces or self._ended)
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._size = 0
            self._changed.notify_all()
            return data

    def end(self) -> None:
        """Nothing more is shown."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class SupervisedTerminal(Terminal):
    """Made by :class:`SupervisedSandbox`; ends with its session."""

    def __init__(self, sandbox: Holder, request: TerminalRequest) -> None:
        """Raises LinkLost, CapacityError if there is no thread to read it."""
        self._sandbox = sandbox
        self._screen = _Screen()
        start = StartRequest(
            argv=request.argv or _SHELL,
            cwd=request.working_dir,
            env={"TERM": "xterm-256color", **request.env},
            flags=Flag.PTY,
            rows=request.rows,
            columns=request.columns,
        )
        self._execution: LinkExecution = sandbox.link.start(start, self._screen, None)
        self._exit = Exit(code=_NO_ANSWER)
        self._lost: SandboxLostError | None = None
        self._ended = threading.Event()
        try:
            start_thread(
                threading.Thread(target=self._drive, daemon=True, name="stockade-terminal")
            )
        except BaseException:
            self._execution.kill()  # nobody would notice its end, or end it
            sandbox.done(self._execution)
            raise

    def _drive(self) -> None:
        try:
            outcome = self._execution.wait(lambda: self._sandbox.left(self._execution))
            if isinstance(outcome, End):
                self._exit = exit_of(self._sandbox, self._execution, outcome)
            else:
                reason = os.strerror(outcome.errno) if outcome.errno else "it was refused"
                self._screen.write(Stream.STDOUT, f"stockade: no terminal: {reason}\r\n".encode())
        except LinkLost as error:
            self._judge_loss(error)
        finally:
            self._sandbox.done(self._execution)
            self._ended.set()
            self._screen.end()

    def _judge_loss(self, error: LinkLost) -> None:
        if self._execution.killed_at is not None:
            self._exit = Exit(signal=KILLED)
            return
        try:
            self._exit = exit_of_lost(self._sandbox, error)
        except SandboxLostError as loss:
            self._lost = loss

    def read(self) -> bytes:
        return self._screen.read()

    def write(self, data: bytes) -> None:
        self._execution.write(data)

    def offer(self, data: bytes, seconds: float) -> int:
        return self._execution.offer(data, seconds)

    def resize(self, rows: int, columns: int) -> None:
        self._execution.resize(rows, columns)
        if self._sandbox.resizes_silently:
            self._execution.signal(_SIGWINCH, group=True)

    def signal(self, number: int, *, group: bool) -> None:
        self._execution.reach(number, group=group)

    def ended(self) -> Exit:
        self._ended.wait()
        if self._lost is not None:
            raise self._lost
        return self._exit

    def exit_code(self) -> int:
        ended = self.ended()
        return ended.code if ended.code is not None else 128 + (ended.signal or KILLED)

    def close(self) -> None:
        with contextlib.suppress(LinkLost):
            self._sandbox.kill_execution(self._execution)
        self._screen.end()
