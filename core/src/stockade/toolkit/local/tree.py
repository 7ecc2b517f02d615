"""The processes of a sandbox as the keeper sees them, through /proc."""

from __future__ import annotations

import contextlib
import os

__all__ = [
    "alive",
    "children",
    "cpu_seconds",
    "descendants",
    "inner_pid",
    "memory_bytes",
    "open_files",
    "parent",
    "stopped",
]

#: Page tables past which the exact share takes too long to find.
_LONG_WALK = 8 << 20
_TICKS = os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """The direct children of every thread of a process."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children") as file:
                found += [int(child) for child in file.read().split()]
    return found


def descendants(root: int) -> list[int]:
    """Every process below ``root``. A sandbox's orphans fall to its first process, which is
    below the keeper, so nothing gets out of this list."""
    found: list[int] = []
    waiting = children(root)
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children(pid)
    return found


def parent(pid: int) -> int:
    """0 where there is none, or no process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def inner_pid(pid: int) -> int:
    """How a process is numbered in the innermost namespace that it is in; 0 for none."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", "rb") as file:
        for line in file:
            if line.startswith(b"NSpid:"):
                return int(line.split()[-1])
    return 0


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    return _state(pid) not in (b"Z", b"X", b"")


def stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal or a tracer."""
    return _state(pid) in (b"T", b"t")


def _state(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return b""


def memory_bytes(pid: int, *, exact: bool = False) -> int:
    """Memory of its own that a process uses: resident, anonymous and shared, and its page
    tables.

    Cheap, but what is shared after a fork counts once for each process; ``exact``
    counts its share.
    """
    try:
        if not exact:
            return _fields(f"/proc/{pid}/status", (b"RssAnon", b"RssShmem", b"VmPTE"))
        tables = _fields(f"/proc/{pid}/status", (b"VmPTE",))
        if tables > _LONG_WALK:  # while they are walked through the program goes on
            return memory_bytes(pid)
        return tables + _fields(f"/proc/{pid}/smaps_rollup", (b"Pss_Anon", b"Pss_Shmem"))
    except (OSError, ValueError, IndexError):
        # A program can hide its maps (PR_SET_DUMPABLE); it cannot hide its size.
        return memory_bytes(pid) if exact else 0


def open_files(pid: int) -> int:
    """How many descriptors a process has."""
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        return os.stat(folder).st_size or len(os.listdir(folder))  # counted from Linux 6.2 on
    return 0


def _fields(path: str, names: tuple[bytes, ...]) -> int:
    total = 0
    with open(path, "rb") as file:
        for line in file:
            name, _, rest = line.partition(b":")
            if name in names:
                total += int(rest.split()[0]) * 1024
    return total


def cpu_seconds(pid: int) -> float:
    """Seconds on a cpu of all its threads, and of the children that it has waited for."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return sum(map(int, file.read().rpartition(b")")[2].split()[11:15])) / _TICKS
    except (OSError, ValueError):
        return 0.0
