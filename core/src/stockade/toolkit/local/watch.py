"""The limits that no cgroup holds: watched from outside, over the whole session."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

from stockade.toolkit.local import tree
from stockade.toolkit.local.charges import Charges, Status, status_of

__all__ = ["Watch"]

#: Often enough that a program that touches memory as fast as it can is caught
#: within a small part of the limit.
_EVERY_SECONDS = 0.01
#: What only sleeps is looked at less often.
_IDLE_SECONDS = 0.03
#: After an execution was announced, how long its first process may take to be seen.
_AWAITED_SECONDS = 1.0
#: How far ahead of their share programs may be before they are stopped.
_AHEAD_SECONDS = 0.002


class Watch:
    """Asked by the keeper's loop; holds memory (E5) and a share of the cpus (E6).

    ``processes`` gives all of the sandbox, its supervisor first, and which of them are
    programs; ``count`` is called with how many were ended for memory, and which process is the
    last of them, before it is. ``buffers`` gives what the kernel keeps for all their sockets,
    or None if it does not say; then each socket counts for as much as one can hold.
    """

    def __init__(
        self,
        memory_bytes: int | None,
        share: float | None,
        *,
        processes: Callable[[], tuple[list[int], list[int]]],
        count: Callable[[int, int], None],
        buffers: Callable[[], int | None] = lambda: 0,
    ) -> None:
        self._memory = memory_bytes
        self._charges = None if memory_bytes is None else Charges(memory_bytes)
        self._share = share
        self._processes = processes
        self._count = count
        self._buffers = buffers
        self.kills = 0
        self._doomed: set[int] = set()  # killed, and not gone yet
        self._used = 0.0
        self._debt = 0.0
        self._stopped: set[int] = set()
        self._awake_until = 0.0
        self._looked = time.monotonic()

    def expect(self) -> None:
        """An execution is about to start."""
        self._awake_until = time.monotonic() + _AWAITED_SECONDS

    def look(self) -> float | None:
        """Look once; the seconds until the next look, or None until ``expect``."""
        if self._memory is None and self._share is None:
            return None
        now = time.monotonic()
        elapsed, self._looked = now - self._looked, now
        everything, programs = self._processes()
        used = sum(map(tree.cpu_seconds, everything))
        spent, self._used = max(0.0, used - self._used), used
        if not programs:
            self._doomed.clear()
            self._stopped.clear()
            self._debt = 0.0
            return _EVERY_SECONDS if now < self._awake_until else None
        if self._memory is not None:
            self._hold_memory(everything[0], programs, self._memory)
        if self._share is not None:
            self._debt = max(0.0, self._debt + spent - self._share * elapsed)
            self._throttle(programs)
        busy = spent > 0 or self._stopped or now < self._awake_until
        return _EVERY_SECONDS if busy else _IDLE_SECONDS

    # -- memory --------------------------------------------------------------

    def _hold_memory(self, first: int, programs: list[int], limit: int) -> None:
        """End the largest until the rest is within the limit, as a kernel would.

        What the kernel keeps for a program counts as its memory does.
        """
        self._doomed &= set(programs)
        counted = [pid for pid in programs if pid not in self._doomed]
        sizes = {pid: status_of(pid) for pid in counted}
        kept = self._kept(first, sizes)
        if sum(size.resident for size in sizes.values()) + sum(kept.values()) <= limit:
            return
        exact = sorted((tree.memory_bytes(pid, exact=True) + kept[pid], pid) for pid in counted)
        total = sum(size for size, _ in exact)
        while total > limit and exact:
            size, pid = exact.pop()
            total -= size
            self._end(pid)

    def _end(self, pid: int) -> None:
        self.kills += 1
        self._count(self.kills, pid)
        self._doomed.add(pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)

    def _kept(self, first: int, sizes: dict[int, Status]) -> dict[int, int]:
        """What the kernel keeps for each process. Of what sockets hold each has a share by its
        descriptors, since whose they are the kernel does not say."""
        assert self._charges is not None
        self._charges.look(list(sizes))
        held = self._buffers()
        if held is None:
            held = self._charges.of_sockets(first)
        files = {pid: tree.open_files(pid) for pid in sizes}
        every = sum(files.values()) or 1
        return {
            pid: size.kept + self._charges.of(pid, files[pid]) + held * files[pid] // every
            for pid, size in sizes.items()
        }

    # -- cpu -------------------------------------------------------------------

    def _throttle(self, programs: list[int]) -> None:
        """Let the programs rest for as long as they were ahead of their share."""
        if not self._debt and self._stopped:
            _signal(self._stopped & set(programs), signal.SIGCONT)
            self._stopped = set()
        elif self._debt > _AHEAD_SECONDS or self._stopped:
            # What a program stopped itself must stay so; who is new rests with the others.
            running = {pid for pid in programs if pid not in self._stopped}
            running = {pid for pid in running if not tree.stopped(pid)}
            self._stopped |= _signal(running, signal.SIGSTOP)


def _signal(pids: set[int], number: int) -> set[int]:
    reached = set()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
            reached.add(pid)
    return reached
