"""The standard input of a command, handed on to a program behind a wall (D8).

A wall takes a program's input whole, with the request. So it is read in the background,
while the sandbox starts, and waited for to its end; what is read is bounded.
"""

from __future__ import annotations

import os
import stat
import sys
import threading
from typing import IO

from stockade.errors import ConfigError
from stockade.executions._forms import MAX_STDIN_BYTES

__all__ = ["PATIENCE_SECONDS", "Feed", "feed"]

#: How long a pipe that nobody named, and in which nothing is, counts as one that will be
#: fed. A job runner's may stay open and silent for ever.
PATIENCE_SECONDS = 10.0
_READ_BYTES = 1 << 20


class Feed:
    """One input being read, from when it is made; ``wait`` gives it whole."""

    def __init__(self, descriptor: int | None, *, patience: float | None = None) -> None:
        """``descriptor`` None is no input. Without ``patience`` its first bytes are waited
        for as long as they take."""
        self._descriptor = descriptor
        self._patience = patience
        self._pieces: list[bytes] = []
        self._size = 0
        self._error: OSError | None = None
        self._began = threading.Event()
        self._ended = threading.Event()
        if descriptor is not None:
            # A daemon: it may wait for bytes when the command has long ended.
            threading.Thread(target=self._read, name="stockade-input", daemon=True).start()

    def _read(self) -> None:
        assert self._descriptor is not None
        try:
            while self._size <= MAX_STDIN_BYTES:
                piece = os.read(self._descriptor, _READ_BYTES)
                self._began.set()
                if not piece:
                    break
                self._pieces.append(piece)
                self._size += len(piece)
        except OSError as error:
            self._error = error
        finally:
            self._began.set()
            self._ended.set()

    def wait(self) -> tuple[bytes, str]:
        """The whole input, and what the user must know of it, or an empty text.

        Raises ConfigError if there is more than a request takes, OSError if it
        cannot be read.
        """
        if self._descriptor is None:
            return b"", ""
        if not self._began.wait(self._patience):
            return b"", (
                f"nothing came on standard input within {self._patience:g} s, so the program "
                "has none; --stdin - waits for it, --stdin /dev/null does not"
            )
        self._ended.wait()
        if self._error is not None:
            raise self._error
        if self._size > MAX_STDIN_BYTES:
            raise ConfigError(
                f"standard input holds more than {MAX_STDIN_BYTES} bytes, which is all that a "
                "program is given; copy it into a session as a file (`stockade session cp`)."
            )
        return b"".join(self._pieces), ""


def feed(named: IO[bytes] | None, *, taken: bool = False) -> Feed:
    """The input that was named, or this process's own where it is a file or a pipe.

    ``taken``: something else reads standard input, so only a named one counts.
    """
    if named is not None:
        return Feed(os.dup(named.fileno()))  # its opener may close it meanwhile
    if taken or sys.stdin is None or sys.stdin.closed:
        return Feed(None)
    try:
        descriptor = sys.stdin.fileno()
        mode = os.fstat(descriptor).st_mode
    except (OSError, ValueError):
        return Feed(None)
    if stat.S_ISREG(mode):
        return Feed(descriptor)
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        return Feed(descriptor, patience=PATIENCE_SECONDS)
    return Feed(None)
