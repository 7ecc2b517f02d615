"""What no kernel limit holds for a whole session without cgroups: watched instead."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from stockade_landlock import tree
from stockade_landlock.lanes import Lanes

__all__ = ["Watcher"]

#: Often enough that a program that touches memory as fast as it can is caught
#: within a small part of the limit.
_EVERY_SECONDS = 0.01
#: Where nothing is limited there is only to reap.
_RARELY_SECONDS = 0.2
#: It goes on for so long after the owner spoke of executions; the owner speaks of
#: them more often (session.py).
_LINGER_SECONDS = 2.5
#: What the supervisors use changes little, so it is asked every so many looks.
_SUPERVISORS_EVERY = 25
#: So is how many descriptors this process has; it ends the session when few are left.
_FILES_EVERY = 50
_FILES_SHARE = 0.85


class Watcher:
    """Looks at the session's processes while programs run, what is left behind included.

    Memory: the sum over all of them (E5). Cpu: stops them while they are ahead of
    their share, where the limit is not a whole number of cpus (E6).
    """

    def __init__(self, order: dict[str, Any], lanes: Lanes, exhausted: Callable[[], None]) -> None:
        """``exhausted`` ends the session, which could start nothing more."""
        memory = order["memory_mb"]
        self._memory = None if memory is None else memory << 20
        self._share: float | None = order["cpu_share"]
        self._lanes = lanes
        self._exhausted = exhausted
        self._until = 0.0
        self._changed = threading.Condition()
        self._used: dict[int, float] = {}
        self._debt = 0.0
        self._looks = 0
        self._supervisors = 0  # bytes that they use
        threading.Thread(target=self._serve, daemon=True).start()

    def expect(self) -> None:
        """Executions are about to start."""
        with self._changed:
            self._until = time.monotonic() + _LINGER_SECONDS
            self._changed.notify()

    def _serve(self) -> None:
        last = time.monotonic()
        programs: dict[int | None, list[int]] = {}
        while True:
            with self._changed:
                if not programs and time.monotonic() > self._until:
                    self._changed.wait()
                    last = time.monotonic()
            time.sleep(_EVERY_SECONDS if self._memory or self._share else _RARELY_SECONDS)
            self._lanes.reap()
            self._looks += 1
            if self._looks % _FILES_EVERY == 0 and _files_used_up():
                self._exhausted()
            programs = self._lanes.programs()
            if self._memory:
                self._weigh(programs, self._memory)
            now = time.monotonic()
            if self._share:
                self._throttle(now - last)
                now = time.monotonic()
            last = now

    def _weigh(self, programs: dict[int | None, list[int]], most: int) -> None:
        """Where the session is past its memory, end the lane's programs that use most (E5)."""
        running = [pid for lane in programs.values() for pid in lane]
        if self._looks % _SUPERVISORS_EVERY == 0:
            self._supervisors = tree.memory_bytes(set(_everybody()).difference(running), 0)
        left = max(0, most - self._supervisors)
        if not running or tree.memory_bytes(running, left) <= left:
            return
        sizes = {lane: tree.memory_bytes(pids, 0) for lane, pids in programs.items()}
        biggest = max(sizes, key=lambda lane: sizes[lane])
        self._lanes.end_for_memory(biggest, programs[biggest])

    def _throttle(self, elapsed: float) -> None:
        """Let the session rest for as long as it was ahead of its share."""
        assert self._share is not None
        used = tree.cpu_seconds(_everybody())
        spent = sum(seconds - self._used.get(pid, 0.0) for pid, seconds in used.items())
        self._used = used
        self._debt = max(0.0, self._debt + spent - self._share * elapsed)
        if self._debt <= 0.002:
            return
        rest = min(self._debt / self._share, 0.5)
        stopped = _signal(_running(_everybody()), signal.SIGSTOP)
        time.sleep(rest)
        _signal(stopped, signal.SIGCONT)
        self._debt = max(0.0, self._debt - rest * self._share)


def _files_used_up() -> bool:
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return len(os.listdir("/proc/self/fd")) > most * _FILES_SHARE


def _everybody() -> list[int]:
    return tree.descendants(os.getpid())


def _running(pids: list[int]) -> list[int]:
    """Those not stopped already: what a program stopped itself must stay so."""
    found = []
    for pid in pids:
        with contextlib.suppress(OSError, IndexError), open(f"/proc/{pid}/stat", "rb") as file:
            if file.read().rpartition(b")")[2].split()[0] not in (b"T", b"t", b"Z", b"X"):
                found.append(pid)
    return found


def _signal(pids: list[int], number: int) -> list[int]:
    reached = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
            reached.append(pid)
    return reached
