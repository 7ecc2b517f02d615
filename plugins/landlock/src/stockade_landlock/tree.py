"""Looking at and ending the processes below the keeper, through /proc."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections.abc import Callable, Iterable

__all__ = [
    "children", "cpu_seconds", "dead", "descendants", "end", "hard_limit", "memory_bytes", "reap",
]  # fmt: skip

_PAUSE_SECONDS = 0.002
_DEAD_PASSES = 20


def children(pid: int, *, threads: bool = True) -> list[int]:
    """The direct children of every thread of a process, or of its first one alone."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task") if threads else (pid,):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children") as file:
                found += [int(child) for child in file.read().split()]
    return found


def descendants(root: int) -> list[int]:
    """Every process below ``root``, daemons included; parents come before their children.

    The keeper is a subreaper: a process whose parent died becomes its child (of its
    first thread), so nothing below it can get out of this list for long.
    """
    found: list[int] = []
    waiting = children(root)
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children(pid)
    return found


def hard_limit(pid: int) -> float:
    """Its hard RLIMIT_DATA; infinite for none, and for a process that has just gone."""
    try:
        hard = resource.prlimit(pid, resource.RLIMIT_DATA)[1]
    except OSError:
        return float("inf")
    return float("inf") if hard == resource.RLIM_INFINITY else hard


def end(targets: Callable[[], Iterable[int]], seconds: float) -> bool:
    """Kill what ``targets`` names until none of it is left; whether that was reached in time.

    A tree that forks while it is being killed is stopped first: a stopped
    process forks no more, so a pass or two catch what was born meanwhile. A pass that
    saw only dead ones says little: they may have forked after it began.
    """
    deadline = time.monotonic() + seconds
    dead_only = 0
    while True:
        seen = list(targets())
        alive = [pid for pid in seen if not dead(pid)]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in alive:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        dead_only = 0 if alive else dead_only + 1
        if not seen or dead_only > _DEAD_PASSES:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE_SECONDS)


def reap(but: Iterable[int] = ()) -> None:
    """Reap what was inherited as subreaper; sandlock waits for its own child, ``but``, by id.

    Ids are asked one by one without blocking, so that nobody else's end is taken.
    """
    for pid in children(os.getpid(), threads=False):
        if pid not in but:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def dead(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except (OSError, IndexError):
        return True


def memory_bytes(pids: Iterable[int], limit: int) -> int:
    """Memory of their own that the processes use together.

    Resident anonymous and shared memory first, which is cheap but counts pages
    shared after a fork once for each process; only when that is past ``limit``
    the exact share of each is asked for.
    """
    total = sum(_resident(pid) for pid in pids)
    if total <= limit:
        return total
    return sum(_proportional(pid) for pid in pids)


def _fields(path: str, names: tuple[bytes, ...]) -> int:
    total = 0
    with open(path, "rb") as file:
        for line in file:
            name, _, rest = line.partition(b":")
            if name in names:
                total += int(rest.split()[0]) * 1024
    return total


def _resident(pid: int) -> int:
    try:
        return _fields(f"/proc/{pid}/status", (b"RssAnon", b"RssShmem"))
    except (OSError, ValueError, IndexError):
        return 0


def _proportional(pid: int) -> int:
    try:
        return _fields(f"/proc/{pid}/smaps_rollup", (b"Pss_Anon", b"Pss_Shmem"))
    except (OSError, ValueError, IndexError):
        # A program can hide its maps (PR_SET_DUMPABLE); it cannot hide its size.
        return _resident(pid)


def cpu_seconds(pids: Iterable[int]) -> dict[int, float]:
    """Seconds on a cpu of each process so far."""
    used = {}
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            total = 0
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/schedstat") as file:
                    total += int(file.read().split()[0])
            used[pid] = total / 1e9
    return used
