"""A small seccomp filter of the keeper's own, below sandlock's (E3, E7, E8).

Sandlock serves ``connect``, ``bind`` and ``sendto`` itself and refuses TCP and
UDP. But with a changed root it looks up the path of a unix socket as the host
sees it, so that a program reaches a host's socket below /tmp, or leaves one
there. Here no socket of any family can be made; ``socketpair`` stays.

Neither does it translate every call that takes a path: what these name is the
host's. Where it could tell something (what is there, and when it is used), the call
is refused.

Landlock keeps signals within a session, but not limits, priorities and scheduling:
they could be changed for every process of the same user, other sessions' and the
keeper included. So a process may change its own alone.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

__all__ = ["SUPPORTED", "forbid_calls"]

#: Conditions on a call's arguments: (position, value, bytes); all of a group must hold.
_Group = tuple[tuple[int, int, int], ...]

_OWN: tuple[_Group, ...] = (((0, 0, 4),),)
_OWN_OR_READ: tuple[_Group, ...] = (((0, 0, 4),), ((2, 0, 8),))  #: no new limit is given
_OWN_PRIORITY: tuple[_Group, ...] = (((0, 0, 4), (1, 0, 4)),)  #: PRIO_PROCESS, 0
_OWN_IO_PRIORITY: tuple[_Group, ...] = (((0, 1, 4), (1, 0, 4)),)  #: IOPRIO_WHO_PROCESS, 0

#: machine: (AUDIT_ARCH of its native calls, the numbers that are refused, those that are
#: allowed where one group of conditions holds). Refused: socket, statfs, inotify_add_watch,
#: fanotify_init, name_to_handle_at, open_tree. By arguments: prlimit64, setpriority,
#: sched_setparam, sched_setscheduler, sched_setattr, ioprio_set.
_MACHINES: dict[str, tuple[int, tuple[int, ...], dict[int, tuple[_Group, ...]]]] = {
    "x86_64": (
        0xC000003E,
        (41, 137, 254, 300, 303, 428),
        {302: _OWN_OR_READ, 141: _OWN_PRIORITY, 142: _OWN, 144: _OWN, 314: _OWN,
         251: _OWN_IO_PRIORITY},
    ),
    "aarch64": (
        0xC00000B7,
        (198, 43, 27, 262, 264, 428),
        {261: _OWN_OR_READ, 140: _OWN_PRIORITY, 118: _OWN, 119: _OWN, 274: _OWN,
         30: _OWN_IO_PRIORITY},
    ),
}  # fmt: skip
SUPPORTED = tuple(_MACHINES)

_LOAD, _JUMP, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x05, 0x15, 0x35, 0x06
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.EPERM
#: Calls of the x32 interface share x86_64's arch with this bit set in the number.
_X32 = 0x40000000
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2


def _instruction(code: int, jump_true: int, jump_false: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, jump_true, jump_false, value)


def _program(machine: str) -> bytes:
    """Refuse foreign interfaces (32-bit, x32) whole, the listed calls, and others' processes."""
    arch, numbers, guarded = _MACHINES[machine]
    lines = [
        _instruction(_LOAD, 0, 0, _ARCH_AT),
        _instruction(_JUMP_EQUAL, 1, 0, arch),
        _instruction(_RETURN, 0, 0, _REFUSE),
        _instruction(_LOAD, 0, 0, _NUMBER_AT),
        _instruction(_JUMP_AT_LEAST, len(numbers) + 1, 0, _X32),
    ]
    for index, number in enumerate(numbers):
        lines.append(_instruction(_JUMP_EQUAL, len(numbers) - index, 0, number))
    lines.append(_instruction(_JUMP, 0, 0, 1))
    lines.append(_instruction(_RETURN, 0, 0, _REFUSE))
    for number, groups in guarded.items():
        block = _guard(groups)
        lines += [_instruction(_JUMP_EQUAL, 0, len(block), number), *block]
    lines.append(_instruction(_RETURN, 0, 0, _ALLOW))
    return b"".join(lines)


def _guard(groups: tuple[_Group, ...]) -> list[bytes]:
    """Allow where one group holds as a whole, else refuse; for little-endian machines."""
    block: list[bytes] = []
    for group in groups:
        words = [
            (_ARGUMENTS_AT + 8 * position + offset, value if offset == 0 else 0)
            for position, value, size in group
            for offset in range(0, size, 4)
        ]
        for index, (at, value) in enumerate(words):
            to_next = 2 * (len(words) - index - 1) + 1  # past the rest and its return
            block.append(_instruction(_LOAD, 0, 0, at))
            block.append(_instruction(_JUMP_EQUAL, 0, to_next, value))
        block.append(_instruction(_RETURN, 0, 0, _ALLOW))
    block.append(_instruction(_RETURN, 0, 0, _REFUSE))
    return block


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def forbid_calls() -> None:
    """Install it in this process, for good and for all below; needs no_new_privs.

    Raises OSError, or KeyError on a machine whose numbers are not known here.
    """
    code = _program(platform.machine())
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "seccomp")
