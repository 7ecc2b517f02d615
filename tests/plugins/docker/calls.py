"""A program that makes one system call and exits with its errno, put together by hand.

So any call can be tried in any image, with no compiler and no interpreter in it.
"""

from __future__ import annotations

import platform
import struct

import pytest

from stockade.session import Session

__all__ = ["NUMBERS", "errno_of", "needs_x86_64"]

needs_x86_64 = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the program is written for x86_64"
)

NUMBERS = {
    "read": 0,
    "socket": 41,
    "socketpair": 53,
    "setsockopt": 54,
    "clone": 56,
    "ptrace": 101,
    "prctl": 157,
    "adjtimex": 159,
    "personality": 135,
    "setpriority": 141,
    "sched_setparam": 142,
    "sched_setscheduler": 144,
    "ioprio_set": 251,
    "prlimit64": 302,
    "sched_setattr": 314,
    "chroot": 161,
    "mount": 165,
    "init_module": 175,
    "io_setup": 206,
    "mbind": 237,
    "kexec_load": 246,
    "add_key": 248,
    "keyctl": 250,
    "unshare": 272,
    "perf_event_open": 298,
    "fanotify_init": 300,
    "open_by_handle_at": 304,
    "setns": 308,
    "process_vm_readv": 310,
    "seccomp": 317,
    "bpf": 321,
    "userfaultfd": 323,
    "io_uring_setup": 425,
    "open_tree": 428,
    "fsopen": 430,
    "clone3": 435,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
    "memfd_secret": 447,
    "statmount": 457,
}
_BASE = 0x400000
_HEAD = 64 + 56
#: mov into rdi, rsi, rdx, r10, r8, r9
_INTO = (b"\x48\xbf", b"\x48\xbe", b"\x48\xba", b"\x49\xba", b"\x49\xb8", b"\x49\xb9")
#: xor edi,edi; test rax,rax; jns over; mov edi,eax; neg edi; over: mov eax,60; syscall
_EXIT = b"\x31\xff\x48\x85\xc0\x79\x04\x89\xc7\xf7\xdf\xb8\x3c\x00\x00\x00\x0f\x05"


def _program(number: int, arguments: tuple[int, ...], enter: bytes) -> bytes:
    code = b"".join(
        into + struct.pack("<Q", value & (1 << 64) - 1)
        for into, value in zip(_INTO, (*arguments, *([0] * (6 - len(arguments)))), strict=True)
    )
    code += b"\x48\xb8" + struct.pack("<Q", number) + enter + _EXIT
    size = _HEAD + len(code)
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, _BASE + _HEAD, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    head += struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 4096)
    return head + code


def errno_of(session: Session, call: str | int, *arguments: int, by_32_bits: bool = False) -> int:
    """What the call fails with inside, 0 where it succeeds; 128+n where signal n ended it."""
    number = NUMBERS[call] if isinstance(call, str) else call
    enter = b"\xcd\x80" if by_32_bits else b"\x0f\x05"
    path = f"call-{number}"
    session.files.write(path, _program(number, arguments, enter))
    result = session.shell(f"chmod +x {path}; exec ./{path}")
    return result.exit_code
