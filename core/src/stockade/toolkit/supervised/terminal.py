"""A program on a terminal of the sandbox's own, over the link (D19)."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque

from stockade.results import Stream
from stockade.system.threads import start_thread
from stockade.toolkit.supervised.execution import End, LinkExecution, LinkLost
from stockade.toolkit.supervised.link import Link
from stockade.toolkit.supervised.request import Flag, StartRequest
from stockade.wall import Terminal, TerminalRequest

__all__ = ["SupervisedTerminal"]

#: What is shown and not read yet holds the program back from here on.
_MOST_BYTES = 256 * 1024
#: The shell that an image has, the better one first.
_SHELL = ("sh", "-c", "exec $(command -v bash || echo sh)")
_NO_ANSWER = 125


class _Screen:
    """What the program has shown; a descriptor is readable while there is some."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._readable, self._wake = os.pipe()
        self._closed = False

    def write(self, stream: Stream, data: bytes) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._size < _MOST_BYTES or self._ended)
            if self._ended or not data:
                return
            if not self._pieces:
                os.write(self._wake, b"!")
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
            if not self._pieces:
                return b""
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._size = 0
            if not self._ended:
                os.read(self._readable, 1)
            self._changed.notify_all()
            return data

    def end(self) -> None:
        """Nothing more is shown: the descriptor stays readable from now on."""
        with self._changed:
            if not self._ended:
                self._ended = True
                os.write(self._wake, b"!")
            self._changed.notify_all()

    def fileno(self) -> int:
        return self._readable

    def close(self) -> None:
        self.end()
        with self._changed:
            if not self._closed:
                self._closed = True
                os.close(self._readable)
                os.close(self._wake)


class SupervisedTerminal(Terminal):
    """Made by :class:`SupervisedSandbox`; ends with its session."""

    def __init__(self, link: Link, request: TerminalRequest) -> None:
        """Raises LinkLost, CapacityError where there is no thread to read it."""
        self._link = link
        self._screen = _Screen()
        start = StartRequest(
            argv=request.argv or _SHELL,
            cwd=request.working_dir,
            env={"TERM": "xterm-256color", **request.env},
            flags=Flag.PTY,
            rows=request.rows,
            columns=request.columns,
        )
        self._execution: LinkExecution = link.start(start, self._screen, None)
        self._code = _NO_ANSWER
        self._ended = threading.Event()
        try:
            start_thread(
                threading.Thread(target=self._drive, daemon=True, name="stockade-terminal")
            )
        except BaseException:
            self._execution.kill()  # nobody would notice its end, or end it
            link.forget(self._execution)
            self._screen.close()
            raise

    def _drive(self) -> None:
        try:
            outcome = self._execution.wait(lambda: None)
            if isinstance(outcome, End):
                code = os.waitstatus_to_exitcode(outcome.status)
                self._code = 128 - code if code < 0 else code
            else:
                reason = os.strerror(outcome.errno) if outcome.errno else "it was refused"
                self._screen.write(Stream.STDOUT, f"stockade: no terminal: {reason}\r\n".encode())
        except LinkLost:
            pass
        finally:
            self._link.forget(self._execution)
            self._ended.set()
            self._screen.end()

    def fileno(self) -> int:
        return self._screen.fileno()

    def read(self) -> bytes:
        return self._screen.read()

    def write(self, data: bytes) -> None:
        self._execution.write(data)

    def resize(self, rows: int, columns: int) -> None:
        self._execution.resize(rows, columns)

    def exit_code(self) -> int:
        self._ended.wait()
        return self._code

    def close(self) -> None:
        with contextlib.suppress(LinkLost):
            self._execution.kill()
        self._screen.end()
        if self._ended.wait(5.0):
            self._screen.close()
