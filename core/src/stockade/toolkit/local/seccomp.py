"""The seccomp filter of every program inside, compiled here: what containers deny, and more.

Refused are calls that only a system's administration needs, that look into other
processes, that bring kernel surface which programs do without, or that make
namespaces; the interfaces of other machines (32-bit, x32) as a whole; and every call
younger than this list, as if the kernel had it not.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Sequence

__all__ = ["SUPPORTED", "program"]

#: name: its number on x86_64 and on aarch64; None where there is none.
_CALLS: dict[str, tuple[int | None, int | None]] = {
    # the system's administration
    "acct": (163, 89),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "create_module": (174, None),
    "delete_module": (176, 106),
    "finit_module": (313, 273),
    "get_kernel_syms": (177, None),
    "init_module": (175, 105),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "nfsservctl": (180, 42),
    "query_module": (178, None),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "settimeofday": (164, 170),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    # file systems and namespaces
    "chroot": (161, 51),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "listmount": (458, 458),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "pivot_root": (155, 41),
    "setns": (308, 268),
    "statmount": (457, 457),
    "umount2": (166, 39),
    "unshare": (272, 97),
    # other processes
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    # kernel surface that programs do without, or that nothing else bounds
    "_sysctl": (156, None),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "get_mempolicy": (239, 236),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "mbind": (237, 235),
    "memfd_secret": (447, 447),
    "migrate_pages": (256, 238),
    "modify_ldt": (154, None),
    "move_pages": (279, 239),
    "perf_event_open": (298, 241),
    "request_key": (249, 218),
    "set_mempolicy": (238, 237),
    "set_mempolicy_home_node": (450, 450),
    "sysfs": (139, None),
    "uselib": (134, None),
    "userfaultfd": (323, 282),
    "ustat": (136, None),
    "vserver": (236, None),
}
#: Refused beside them where no cgroup holds the limits: memory that is a file of nobody's
#: escapes the watch, and affinity is what holds the cpu limit.
_WATCHED: dict[str, tuple[int | None, int | None]] = {
    "memfd_create": (319, 279),
    "sched_setaffinity": (203, 122),
    "shmget": (29, 194),
}
#: Calls judged by an argument.
_CLONE, _CLONE3, _IOCTL, _PERSONALITY = (56, 220), (435, 435), (16, 29), (135, 92)
_SOCKET, _SOCKETPAIR = (41, 198), (53, 199)
#: The first number that this list does not know; later ones are one row for all machines.
_UNKNOWN = 467

_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
SUPPORTED = tuple(_MACHINES)

_LOAD, _AND = 0x20, 0x54
_EQUAL, _AT_LEAST, _ANY_BIT, _JUMP, _RETURN = 0x15, 0x35, 0x45, 0x05, 0x06
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
#: Calls of the x32 interface share x86_64's arch with this bit set in the number.
_X32 = 0x40000000
#: CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}
_NEW_NAMESPACES = 0x7E020000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
#: AF_UNIX, AF_INET, AF_INET6
_FAMILIES = (1, 2, 10)
_AF_NETLINK, _NETLINK_ROUTE = 16, 0
#: The usual one, 32-bit naming, and the question which one it is.
_PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)


def _step(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, true, false, value)


def _refuse(number: int = errno.EPERM) -> bytes:
    return _step(_RETURN, _ERRNO | number)


def _argument(index: int) -> bytes:
    """Load the low half: what the kernel looks at of flags, requests and families."""
    return _step(_LOAD, _ARGUMENTS_AT + 8 * index)


def _when(number: int, body: Sequence[bytes]) -> list[bytes]:
    """``body``, which returns, for one call."""
    return [_step(_EQUAL, number, 0, len(body)), *body]


def _only(index: int, values: Sequence[int], otherwise: bytes) -> list[bytes]:
    """Allow these values of an argument."""
    tests = [_step(_EQUAL, value, len(values) - at, 0) for at, value in enumerate(values)]
    return [_argument(index), *tests, otherwise, _step(_RETURN, _ALLOW)]


def _families() -> list[bytes]:
    """Unix and internet sockets, and the netlink that libc asks for addresses."""
    return [
        _argument(0),
        _step(_EQUAL, _AF_NETLINK, 0, 2),
        _argument(2),
        _step(_EQUAL, _NETLINK_ROUTE, 4, 3),
        *[_step(_EQUAL, family, 3 - at, 0) for at, family in enumerate(_FAMILIES)],
        _refuse(errno.EAFNOSUPPORT),
        _step(_RETURN, _ALLOW),
    ]


def _by_argument(column: int) -> list[bytes]:
    allow = _step(_RETURN, _ALLOW)
    return [
        *_when(
            _CLONE[column],
            [_argument(0), _step(_ANY_BIT, _NEW_NAMESPACES, 0, 1), _refuse(), allow],
        ),
        # Its flags are in memory, where no filter sees them; libc falls back to clone.
        *_when(_CLONE3[column], [_refuse(errno.ENOSYS)]),
        *_when(
            _IOCTL[column],
            [
                _argument(1),
                _step(_EQUAL, _TIOCSTI, 1, 0),
                _step(_EQUAL, _TIOCLINUX, 0, 1),
                _refuse(),
                allow,
            ],
        ),
        *_when(_PERSONALITY[column], _only(0, _PERSONALITIES, _refuse())),
        *_when(_SOCKET[column], _families()),
        *_when(_SOCKETPAIR[column], _families()),
    ]


def program(*, watched: bool, machine: str | None = None) -> bytes:
    """The filter as an array of ``struct sock_filter``.

    ``watched``: the limits are held from outside, not by a cgroup. Raises KeyError on a
    machine whose numbers are not known here.
    """
    column, arch = _MACHINES[machine or platform.machine()]
    refused = [*_CALLS.values(), *(_WATCHED.values() if watched else ())]
    numbers = sorted(number for call in refused if (number := call[column]) is not None)
    # Groups, so that a jump, which is a byte, always reaches its end.
    lists: list[bytes] = []
    for start in range(0, len(numbers), 100):
        group = numbers[start : start + 100]
        lists += [_step(_EQUAL, number, len(group) - at, 0) for at, number in enumerate(group)]
        lists += [_step(_JUMP, 1), _refuse()]
    return b"".join(
        [
            _step(_LOAD, _ARCH_AT),
            _step(_EQUAL, arch, 1, 0),
            _refuse(),
            _step(_LOAD, _NUMBER_AT),
            _step(_AT_LEAST, _X32, 0, 1),
            _refuse(),
            _step(_AT_LEAST, _UNKNOWN, 0, 1),
            _refuse(errno.ENOSYS),
            *_by_argument(column),
            *lists,
            _step(_RETURN, _ALLOW),
        ]
    )
