"""The filter, run by an interpreter of its own instructions: for every machine, call by call."""

from __future__ import annotations

import errno
import struct

import pytest

from stockade.toolkit.local import seccomp

X86_64, AARCH64 = 0xC000003E, 0xC00000B7
ALLOW = 0x7FFF0000
NUMBERS = {
    "x86_64": {"read": 0, "mount": 165, "unshare": 272, "setns": 308, "keyctl": 250, "bpf": 321,
               "perf_event_open": 298, "userfaultfd": 323, "ptrace": 101, "io_uring_setup": 425,
               "clone": 56, "clone3": 435, "ioctl": 16, "socket": 41, "socketpair": 53,
               "personality": 135, "memfd_create": 319, "mknod": 133, "add_key": 248, "fork": 57},
    "aarch64": {"read": 63, "mount": 40, "unshare": 97, "setns": 268, "keyctl": 219, "bpf": 280,
                "perf_event_open": 241, "userfaultfd": 282, "ptrace": 117, "io_uring_setup": 425,
                "clone": 220, "clone3": 435, "ioctl": 29, "socket": 198, "socketpair": 199,
                "personality": 92, "memfd_create": 279, "mknod": 33, "add_key": 217, "fork": 63},
}  # fmt: skip


def judge(code: bytes, arch: int, number: int, *arguments: int) -> int:
    """What the kernel would answer: the filter's instructions, one after the other."""
    data = struct.pack("=IIQ6Q", number, arch, 0, *(*arguments, *([0] * (6 - len(arguments)))))
    at = accumulator = 0
    while True:
        operation, true, false, value = struct.unpack_from("=HBBI", code, at * 8)
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif operation == 0x06:
            return int(value)
        elif operation == 0x05:
            at += value
        else:
            holds = {
                0x15: accumulator == value, 0x35: accumulator >= value, 0x45: accumulator & value
            }[operation]  # fmt: skip
            at += true if holds else false


def refused(number: int) -> int:
    return 0x00050000 | number


@pytest.fixture(params=[("x86_64", X86_64), ("aarch64", AARCH64)], ids=["x86_64", "aarch64"])
def machine(request: pytest.FixtureRequest) -> tuple[str, int]:
    return request.param  # type: ignore[no-any-return]


def test_E1_what_leads_out_is_refused(machine: tuple[str, int]) -> None:
    name, arch = machine
    code = seccomp.program(watched=False, machine=name)
    for call in ("mount", "unshare", "setns", "keyctl", "bpf", "perf_event_open", "userfaultfd",
                 "ptrace", "io_uring_setup", "add_key"):  # fmt: skip
        assert judge(code, arch, NUMBERS[name][call]) == refused(errno.EPERM), call
    for call in ("read", "mknod", "fork", "memfd_create"):
        assert judge(code, arch, NUMBERS[name][call]) == ALLOW, call


def test_E1_other_interfaces_and_younger_calls_do_not_exist(machine: tuple[str, int]) -> None:
    name, arch = machine
    code = seccomp.program(watched=False, machine=name)
    other = AARCH64 if arch == X86_64 else X86_64
    for foreign in (0x40000003, 0x40000028, other):  # i386, 32-bit arm
        assert judge(code, foreign, NUMBERS[name]["read"]) == refused(errno.EPERM)
    assert judge(code, arch, 0x40000000) == refused(errno.EPERM)  # x32
    for number in (467, 470, 600, 0x3FFFFFFF):
        assert judge(code, arch, number) == refused(errno.ENOSYS)
    assert judge(code, arch, NUMBERS[name]["clone3"]) == refused(errno.ENOSYS)


@pytest.mark.parametrize(
    "flag", [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000]
)
def test_E1_clone_makes_processes_and_threads_and_no_namespace(
    machine: tuple[str, int], flag: int
) -> None:
    name, arch = machine
    code = seccomp.program(watched=False, machine=name)
    clone = NUMBERS[name]["clone"]
    assert judge(code, arch, clone, 17 | flag) == refused(errno.EPERM)
    assert judge(code, arch, clone, 17) == ALLOW
    assert judge(code, arch, clone, 0x3D0F00) == ALLOW  # a thread, as libc makes it


def test_E1_no_typing_into_a_terminal(machine: tuple[str, int]) -> None:
    name, arch = machine
    code = seccomp.program(watched=False, machine=name)
    ioctl = NUMBERS[name]["ioctl"]
    for request in (0x5412, 0x541C, 0x5412 | 1 << 32):  # the kernel drops the upper half
        assert judge(code, arch, ioctl, 0, request) == refused(errno.EPERM), hex(request)
    assert judge(code, arch, ioctl, 0, 0x5401) == ALLOW


def test_E3_families_of_sockets(machine: tuple[str, int]) -> None:
    name, arch = machine
    code = seccomp.program(watched=False, machine=name)
    for call in ("socket", "socketpair"):
        number = NUMBERS[name][call]
        for family in (1, 2, 10):
            assert judge(code, arch, number, family, 1, 0) == ALLOW
        assert judge(code, arch, number, 16, 3, 0) == ALLOW  # netlink, routes
        for family, protocol in ((16, 12), (16, 9), (17, 0), (38, 0), (40, 0), (44, 0), (0, 0)):
            answer = judge(code, arch, number, family, 1, protocol)
            assert answer == refused(errno.EAFNOSUPPORT), family


def test_E1_personalities(machine: tuple[str, int]) -> None:
    name, arch = machine
    code = seccomp.program(watched=False, machine=name)
    number = NUMBERS[name]["personality"]
    for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF):
        assert judge(code, arch, number, value) == ALLOW
    for value in (0x40000, 0x400000, 1):  # no randomised addresses; executable data
        assert judge(code, arch, number, value) == refused(errno.EPERM)


def test_E5_watched_memory_has_an_owner(machine: tuple[str, int]) -> None:
    name, arch = machine
    code = seccomp.program(watched=True, machine=name)
    assert judge(code, arch, NUMBERS[name]["memfd_create"]) == refused(errno.EPERM)


def test_every_row_ends_in_a_verdict(machine: tuple[str, int]) -> None:
    name, arch = machine
    code = seccomp.program(watched=True, machine=name)
    assert len(code) % 8 == 0 and len(code) // 8 < 4096
    verdicts = {judge(code, arch, number) for number in range(600)}
    assert verdicts == {
        ALLOW, refused(errno.EPERM), refused(errno.ENOSYS), refused(errno.EAFNOSUPPORT)
    }  # fmt: skip


def test_an_unknown_machine_has_none() -> None:
    with pytest.raises(KeyError):
        seccomp.program(watched=False, machine="riscv64")
