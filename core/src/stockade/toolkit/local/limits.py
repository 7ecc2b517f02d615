"""What bounds a sandbox whose memory is watched, so that what is not seen stays small.

The account, for a limit of M bytes. The watch (watch.py, charges.py, buffers.py) ends
programs once their memory, page tables, threads, descriptors, mappings, filters, file locks
and what their sockets hold pass M. Beside that a session keeps

- 64 MiB in pipes, the kernel's own quota of a user (fs.pipe-user-pages-soft),
- what is written until the next look,
- files, which disk_mb and /dev/shm's size bound,
- M/2 in sockets, on a kernel that does not say what they hold (no sock_diag).

That holds since the following cannot be had: memory that is no process's (``UNOWNED``),
and more of what is counted for a user (``LIMITS``) or a network (``NETWORK``) than is said
here.
"""

from __future__ import annotations

import errno
import resource
from collections.abc import Mapping
from types import MappingProxyType

from stockade.toolkit.local.bounds import grows_far
from stockade.toolkit.local.seccomp import DONE, OWN_PROCESS, RULES, Is, Rule, program

__all__ = [
    "LIMITS",
    "NETWORK",
    "UNOWNED",
    "USERS",
    "session_filter",
    "unowned_rules",
]

#: Calls that make memory which is no process's, or hide it: files and System V's objects
#: without a folder, and pages in pipes.
UNOWNED = ("memfd_create", "msgget", "semget", "shmget", "vmsplice")
_MAP_SHARED, _MAP_ANONYMOUS = 0x01, 0x20
_SOL_SOCKET, _SO_SNDBUF, _SO_RCVBUF = 1, 7, 8

_RISING = 0o6000  #: S_ISUID and S_ISGID
_CREATING = 0o20000100  #: O_CREAT and O_TMPFILE
#: Files that take their owner's rights cannot be made. openat2 has its mode in memory, where no
#: filter sees it; programs take openat instead.
_UNRISEN = {
    **{name: Rule([[Is(1, 0, mask=_RISING)]]) for name in ("chmod", "fchmod", "creat", "mknod")},
    **{name: Rule([[Is(2, 0, mask=_RISING)]]) for name in ("fchmodat", "fchmodat2", "mknodat")},
    "open": Rule([[Is(1, 0, mask=_CREATING)], [Is(2, 0, mask=_RISING)]]),
    "openat": Rule([[Is(2, 0, mask=_CREATING)], [Is(3, 0, mask=_RISING)]]),
    "openat2": Rule([], otherwise=errno.ENOSYS),
}

#: Limits of each process, resource and value: signals and timers that wait, and messages,
#: are counted by user.
LIMITS = ((resource.RLIMIT_SIGPENDING, 4096), (resource.RLIMIT_MSGQUEUE, 819_200))

#: Settings of a network of the sandbox's own: how far buffers of TCP grow automatically.
NETWORK: Mapping[str, str] = MappingProxyType(
    {
        "/proc/sys/net/ipv4/tcp_rmem": "4096 131072 212992",
        "/proc/sys/net/ipv4/tcp_wmem": "4096 16384 212992",
        "/proc/sys/net/core/somaxconn": "256",
    }
)
#: Settings of a user namespace of the sandbox's own: it is the last one, whatever call asks
#: for another; the filter of system calls refuses that as well (E1).
USERS: Mapping[str, str] = MappingProxyType({"/proc/sys/user/max_user_namespaces": "0"})


def session_filter(*, watched: bool, pinned: bool, writes: bool = False) -> bytes:
    """The filter of system calls of a session (seccomp.program).

    On top of what nobody may: the supervisor has the programs' user, so its limits and
    priority are its own (D16); ``watched``: what would escape a watch of the memory, where no
    cgroup holds it; ``pinned``: leaving the cpus, where those hold the cpu limit; ``writes``:
    set-user-id and set-group-id, where files of the host can be written, since these are
    the caller's: a user who runs one there would be the caller.
    """
    more = {**(unowned_rules() if watched else {}), **(_UNRISEN if writes else {})}
    return program(
        forbidden=[*(UNOWNED if watched else ()), *(["sched_setaffinity"] if pinned else ())],
        rules={**OWN_PROCESS, **more},
    )


def unowned_rules() -> dict[str, Rule]:
    """Rules of seccomp.program on top of ``UNOWNED``.

    Shared memory without a file stays when nobody has it mapped any more, unseen; files of
    /dev/shm serve instead. Rules of Landlock are memory of a descriptor's, without a bound.
    Where this machine lets a socket's buffers grow far, they keep their usual size, as they
    would at a smaller largest one.
    """
    rules = {
        "mmap": Rule(
            [[Is(3, _MAP_SHARED | _MAP_ANONYMOUS, mask=_MAP_SHARED | _MAP_ANONYMOUS)]],
            then=errno.EPERM,
            otherwise=0,
        ),
        "landlock_create_ruleset": Rule([], otherwise=errno.ENOSYS),
    }
    if grows_far():
        rules["setsockopt"] = Rule(
            [[Is(1, _SOL_SOCKET), Is(2, name)] for name in (_SO_SNDBUF, _SO_RCVBUF)],
            then=DONE,
            otherwise=RULES["setsockopt"],
        )
    return rules
