"""What the kernel keeps for programs beside their memory, as far as it shows from outside.

Where a cgroup holds the memory limit the kernel counts all of it. Where one is watched, a
program must not keep in buffers, page tables and tables of descriptors what it may not keep
in memory (E5). What /proc shows exactly is taken so; of the rest an upper estimate is, of
what one thing costs at most. What cannot be seen from outside is made impossible or small
by ``limits.py``: there the whole account stands.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping, Sequence

from stockade.toolkit.local.bounds import buffer_bytes

__all__ = ["Charges", "Status", "status_of"]

#: A task, its stack, its files' and its memory's descriptions.
_THREAD_BYTES = 32 << 10
#: An open file: a pipe of the two pages that each gets past its user's quota, and its inode.
_DESCRIPTOR_BYTES = 10 << 10
#: One descriptor that is watched by one epoll instance.
_EPOLL_BYTES = 256
#: A mapping, and its place in the tree of mappings.
_MAPPING_BYTES = 256
#: A filter of system calls, compiled.
_FILTER_BYTES = 64 << 10
#: A lock on a part of a file.
_LOCK_BYTES = 256
#: Of processes with fewer descriptors it is not looked whether they are epoll instances.
_FEW_DESCRIPTORS = 64
#: The filter that every program has.
_OWN_FILTERS = 1
#: So often in looks: which descriptors are epoll instances, the mappings of one process, locks.
_EPOLL_EVERY, _MAPPINGS_EVERY, _LOCKS_EVERY = 20, 3, 100
#: How much of a list of mappings is read at a look.
_PIECE_BYTES = 256 << 10
#: Locks are read where the kernel's list of all is longer.
_MANY_LOCKS_BYTES = 64 << 10
#: Shared memory of nobody's that limits.py does not refuse, since it is a device's.
_NOBODYS = b"/dev/zero (deleted)"

_OWN = (b"RssAnon", b"RssShmem", b"VmPTE")
_FIELDS = (*_OWN, b"Threads", b"Seccomp_filters")


class Status:
    """What /proc/PID/status says of a process's memory."""

    def __init__(self, fields: Mapping[bytes, int]) -> None:
        #: Bytes of its own: resident, anonymous and shared, and its page tables, as
        #: tree.memory_bytes() gives them.
        self.resident = sum(fields.get(name, 0) << 10 for name in _OWN)
        filters = max(0, fields.get(b"Seccomp_filters", 0) - _OWN_FILTERS)
        #: Bytes that the kernel keeps for it, by what stands here.
        self.kept = fields.get(b"Threads", 1) * _THREAD_BYTES + filters * _FILTER_BYTES


def status_of(pid: int) -> Status:
    """Nothing for a process that is gone."""
    found: dict[bytes, int] = {}
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/status", "rb") as file:
        for line in file:
            name, _, rest = line.partition(b":")
            if name in _FIELDS:
                found[name] = int(rest.split()[0])
    return Status(found) if found else Status({b"Threads": 0})


class Charges:
    """Asked by the watch at each look; holds what need not be read anew each time."""

    def __init__(self, limit: int) -> None:
        """``limit``: of memory, in bytes. Sockets that could keep half of it are free."""
        self._limit = limit
        self._each_socket = buffer_bytes("wmem") + buffer_bytes("rmem")
        self._looks = 0
        self._reader: _Mappings | None = None
        self._turn = 0
        self._epolls: dict[int, int] = {}  # by process: bytes
        self._mappings: dict[int, int] = {}
        self._locks: dict[int, int] = {}

    def look(self, programs: Sequence[int]) -> None:
        """A look begins, at these processes."""
        self._looks += 1
        for known in (self._epolls, self._mappings, self._locks):
            for pid in known.keys() - set(programs):
                del known[pid]
        if self._reader is not None or self._looks % _MAPPINGS_EVERY == 0:
            self._read_mappings(programs)
        if self._looks % _LOCKS_EVERY == 0:
            self._locks = _locks(programs)

    def of(self, pid: int, count: int) -> int:
        """Bytes for a process with so many descriptors, beside its ``Status.kept``."""
        if count <= _FEW_DESCRIPTORS:
            self._epolls.pop(pid, None)
        elif pid not in self._epolls or self._looks % _EPOLL_EVERY == 0:
            self._epolls[pid] = _epolls(pid) * count * _EPOLL_BYTES
        known = (self._epolls, self._mappings, self._locks)
        return count * _DESCRIPTOR_BYTES + sum(each.get(pid, 0) for each in known)

    def of_sockets(self, first: int) -> int:
        """Bytes for the sockets of the network that a process is in, beyond the free ones: where
        the kernel does not say what they hold (buffers.py)."""
        return max(0, _sockets(first) * self._each_socket - self._limit // 2)

    def _read_mappings(self, programs: Sequence[int]) -> None:
        """A piece of one process's list: a long one takes the kernel a while to write."""
        if self._reader is None and programs:
            self._turn = (self._turn + 1) % len(programs)
            self._reader = _Mappings(programs[self._turn])
        if self._reader is None:
            return
        ended = self._reader.read()
        pid, found = self._reader.pid, self._reader.count * _MAPPING_BYTES
        if self._reader.nobodys:
            found += self._limit  # how much it keeps is unknown: no program may have it
        if pid in programs and (ended or found > self._mappings.get(pid, 0)):
            self._mappings[pid] = found
        if ended:
            self._reader = None


class _Mappings:
    """One process's list of mappings, read piece by piece."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.count = 0
        self.nobodys = False  #: whether one of them is shared memory without a name
        self._file = -1
        with contextlib.suppress(OSError):
            self._file = os.open(f"/proc/{pid}/maps", os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> bool:
        """Go on reading; whether it has ended. Each read gives whole lines, a page at most."""
        left = _PIECE_BYTES
        try:
            while left > 0 and self._file >= 0 and (text := os.read(self._file, left)):
                left -= len(text)
                self.count += text.count(b"\n")
                self.nobodys = self.nobodys or _NOBODYS in text
            if left <= 0:
                return False
        except OSError:
            pass
        if self._file >= 0:
            os.close(self._file)
        self._file = -1
        return True


def _epolls(pid: int) -> int:
    found = 0
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found += os.readlink(f"/proc/{pid}/fd/{name}") == "anon_inode:[eventpoll]"
    return found


def _locks(programs: Collection[int]) -> dict[int, int]:
    """Bytes by process, where there are many locks on this machine at all."""
    found: dict[int, int] = {}
    with contextlib.suppress(OSError), open("/proc/locks", "rb") as file:
        text = file.read(_MANY_LOCKS_BYTES)
        if len(text) < _MANY_LOCKS_BYTES:
            return {}
        for line in (text + file.read()).splitlines():
            words = line.split()
            # 1: POSIX ADVISORY WRITE 4242 fe:00:1234 0 EOF
            if len(words) > 4 and words[4].isdigit() and int(words[4]) in programs:
                found[int(words[4])] = found.get(int(words[4]), 0) + _LOCK_BYTES
    return found


def _sockets(pid: int) -> int:
    """Of a network of its own; in this machine's they are everybody's."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        if os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino:
            return 0
        with open(f"/proc/{pid}/net/sockstat", "rb") as file:
            return int(file.readline().split()[2])  # sockets: used 4
    return 0
