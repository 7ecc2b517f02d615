"""A small seccomp filter of the keeper's own, below sandlock's (E3, E7).

Sandlock serves ``connect``, ``bind`` and ``sendto`` itself and refuses TCP and
UDP. But with a changed root it looks up the path of a unix socket as the host
sees it, so that a program reaches a host's socket below /tmp, or leaves one
there. Here no socket of any family can be made; ``socketpair`` stays.

Neither does it translate every call that takes a path: what these name is the
host's. Where it could leave something (device nodes, fifos) or tell something (what
is there, and when it is used), the call is refused.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

__all__ = ["SUPPORTED", "forbid_calls"]

#: machine: (AUDIT_ARCH of its native calls, the numbers that are refused): socket, mknod,
#: mknodat, statfs, inotify_add_watch, fanotify_init, name_to_handle_at, open_tree.
_MACHINES = {
    "x86_64": (0xC000003E, (41, 133, 259, 137, 254, 300, 303, 428)),
    "aarch64": (0xC00000B7, (198, 33, 43, 27, 262, 264, 428)),
}
SUPPORTED = tuple(_MACHINES)

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER_AT, _ARCH_AT = 0, 4
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.EPERM
#: Calls of the x32 interface share x86_64's arch with this bit set in the number.
_X32 = 0x40000000
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2


def _instruction(code: int, jump_true: int, jump_false: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, jump_true, jump_false, value)


def _program(machine: str) -> bytes:
    """Refuse foreign interfaces (32-bit, x32) whole, and the listed calls."""
    arch, numbers = _MACHINES[machine]
    lines = [
        _instruction(_LOAD, 0, 0, _ARCH_AT),
        _instruction(_JUMP_EQUAL, 0, len(numbers) + 3, arch),
        _instruction(_LOAD, 0, 0, _NUMBER_AT),
        _instruction(_JUMP_AT_LEAST, len(numbers) + 1, 0, _X32),
    ]
    for index, number in enumerate(numbers):
        lines.append(_instruction(_JUMP_EQUAL, len(numbers) - index, 0, number))
    lines.append(_instruction(_RETURN, 0, 0, _ALLOW))
    lines.append(_instruction(_RETURN, 0, 0, _REFUSE))
    return b"".join(lines)


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
