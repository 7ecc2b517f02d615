"""Plain programs on a terminal, for the reference wall. Nothing here isolates."""

from __future__ import annotations

import os
import select
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from stockade.system.threads import start_thread
from stockade.toolkit.processes.children import Child
from stockade.toolkit.processes.pump import Waker
from stockade.wall import Exit, Terminal

__all__ = ["PlainTerminal"]

#: A session's first process that opens a terminal has it for its own.
_ON_IT = 'exec <"$0" >"$0" 2>&1; exec "$@"'
#: How soon a program that does not read is given the rest again.
_FULL_SECONDS = 0.02


class PlainTerminal(Terminal):
    """A program of this machine with one end of a terminal."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str],
        size: tuple[int, int],
        end_tree: Callable[[], None],
    ) -> None:
        self._end_tree = end_tree
        # The program's end stays open here: until it has opened its own there is nobody's else.
        self._master, self._slave = os.openpty()
        os.set_blocking(self._master, False)
        self._lock = threading.Lock()
        self._gone = False
        self._ended = Waker()
        self.resize(*size)
        try:
            self._process = Child(
                ["sh", "-c", _ON_IT, os.ttyname(self._slave), *argv],
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            self._free()
            raise
        start_thread(threading.Thread(target=self._reap, daemon=True, name="stockade-reap"))

    def _reap(self) -> None:
        """Notice the end; until ``ended`` takes it, the program's number stays its own."""
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            self._gone = True
        self._ended.set()

    def read(self) -> bytes:
        ready, _, _ = select.select([self._master, self._ended.fileno()], [], [])
        return os.read(self._master, 65536) if self._master in ready else b""

    def write(self, data: bytes) -> None:
        while data:
            with self._lock:
                self._check()
                try:
                    data = data[os.write(self._master, data) :]
                    continue
                except BlockingIOError:
                    pass
            time.sleep(_FULL_SECONDS)

    def resize(self, rows: int, columns: int) -> None:
        import fcntl  # not everywhere, where the reference wall is
        import termios

        size = struct.pack("HHHH", rows, columns, 0, 0)
        with self._lock:
            self._check()
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def signal(self, number: int, *, group: bool) -> None:
        with self._lock:
            self._check()
            (os.killpg if group or self._process.apart else os.kill)(self._process.pid, number)

    def _check(self) -> None:
        """Under the lock: that the descriptors and the number are still the program's."""
        if self._gone:
            raise ProcessLookupError("the program has ended")

    def ended(self) -> Exit:
        self._end_tree()
        code = self._process.wait()
        self._free()
        return Exit(code=code) if code >= 0 else Exit(signal=-code)

    def exit_code(self) -> int:
        ended = self.ended()
        return ended.code if ended.code is not None else 128 + (ended.signal or 9)

    def close(self) -> None:
        self._end_tree()

    def _free(self) -> None:
        with self._lock:
            self._gone = True
            os.close(self._master)
            os.close(self._slave)
        self._ended.close()
