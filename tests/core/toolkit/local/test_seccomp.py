"""The filter, run by an interpreter of its own instructions: for every machine, call by call."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

import pytest

from stockade.toolkit.local import bounds, calls, limits, seccomp
from stockade.toolkit.local.messages import is_passing
from stockade.toolkit.local.seccomp import ALLOWED, DONE, FORBIDDEN, RULES, Is, Rule
from stockade.toolkit.local.table import MACHINES, NEWEST, NUMBERS

X86_64, AARCH64 = 0xC000003E, 0xC00000B7
ALLOW = 0x7FFF0000


def judge(code: bytes, arch: int, number: int, *arguments: int) -> int:
    """What the kernel would answer: the filter's instructions, one after the other."""
    data = struct.pack("=IIQ6Q", number, arch, 0, *(*arguments, *([0] * (6 - len(arguments)))))
    at = accumulator = 0
    while True:
        operation, true, false, value = struct.unpack_from("=HBBI", code, at * 8)
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif operation == 0x54:
            accumulator &= value
        elif operation == 0x06:
            return int(value)
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value}[operation]
            at += true if holds else false


def refused(number: int) -> int:
    return 0x00050000 | number


class Machine:
    """One machine's filter."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.column, self.arch = MACHINES[name]

    def asks(self, call: str, *arguments: int, **options: object) -> int:
        number = NUMBERS[call][self.column]
        if number is None:
            pytest.skip(f"{self.name} has no {call}")
        code = seccomp.program(machine=self.name, **options)  # type: ignore[arg-type]
        return judge(code, self.arch, number, *arguments)


@pytest.fixture(params=["x86_64", "aarch64"])
def machine(request: pytest.FixtureRequest) -> Machine:
    return Machine(request.param)


def test_every_call_of_the_table_has_the_answer_of_its_list(machine: Machine) -> None:
    code = seccomp.program(machine=machine.name)
    for name, numbers in NUMBERS.items():
        number = numbers[machine.column]
        if number is None or name in RULES:
            continue
        expected = ALLOW if name in ALLOWED else refused(errno.ENOSYS)
        if name in FORBIDDEN:
            expected = refused(errno.EPERM)
        assert judge(code, machine.arch, number) == expected, name
    assert not ALLOWED & FORBIDDEN and not (ALLOWED | FORBIDDEN) & set(RULES)
    assert len(code) % 8 == 0 and len(code) // 8 < 4096


def test_E1_what_leads_out_is_refused(machine: Machine) -> None:
    for call in (
        "mount",
        "unshare",
        "setns",
        "keyctl",
        "bpf",
        "perf_event_open",
        "userfaultfd",
        "ptrace",
        "add_key",
        "open_by_handle_at",
        "pidfd_getfd",
    ):
        assert machine.asks(call) == refused(errno.EPERM), call
    for call in ("read", "openat", "memfd_create", "execve"):
        assert machine.asks(call) == ALLOW, call


def test_E1_what_passes_by_filters_and_quotas_is_not_there(machine: Machine) -> None:
    """Rings, calls whose flags lie in memory, and kernel AIO, which the machine counts (E8)."""
    for call in (
        "io_uring_setup",
        "io_uring_enter",
        "clone3",
        "io_setup",
        "io_submit",
        "memfd_secret",
        "listmount",
        "statmount",
    ):
        assert machine.asks(call) == refused(errno.ENOSYS), call


def test_E1_other_interfaces_and_younger_calls_do_not_exist(machine: Machine) -> None:
    code = seccomp.program(machine=machine.name)
    read = NUMBERS["read"][machine.column]
    assert read is not None
    other = AARCH64 if machine.arch == X86_64 else X86_64
    for foreign in (0x40000003, 0x40000028, other):  # i386, 32-bit arm
        assert judge(code, foreign, read) == refused(errno.EPERM)
    for number in (NEWEST + 1, 600, 0x3FFFFFFF, 0x40000000, 0xFFFFFFFF):  # x32 among them
        assert judge(code, machine.arch, number) == refused(errno.ENOSYS)


@pytest.mark.parametrize(
    "flag", [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000]
)
def test_E1_clone_makes_processes_and_threads_and_no_namespace(machine: Machine, flag: int) -> None:
    assert machine.asks("clone", 17 | flag) == refused(errno.EPERM)
    assert machine.asks("clone", 17) == ALLOW
    assert machine.asks("clone", 0x3D0F00) == ALLOW  # a thread, as libc makes it


def test_E1_no_typing_into_a_terminal(machine: Machine) -> None:
    for request in (0x5412, 0x541C, 0x5412 | 1 << 32):  # the kernel drops the upper half
        assert machine.asks("ioctl", 0, request) == refused(errno.EPERM), hex(request)
    assert machine.asks("ioctl", 0, 0x5401) == ALLOW


def test_E2_nothing_of_a_file_s_own_that_is_no_write(machine: Machine) -> None:
    for command in (1024, 1026, 1036, 1038):  # a lease, word of its use, hints for the disk
        assert machine.asks("fcntl", 3, command) == refused(errno.EPERM), command
    for command in (0, 1, 2, 3, 4, 6, 7, 1030, 1031, 1033, 1035):
        assert machine.asks("fcntl", 3, command) == ALLOW, command


def test_E3_families_of_sockets(machine: Machine) -> None:
    none = refused(errno.EAFNOSUPPORT)
    for family, protocols in ((1, (0,)), (2, (0, 1, 6, 17)), (10, (0, 6, 17, 58)), (16, (0,))):
        for protocol in protocols:
            assert machine.asks("socket", family, 1, protocol) == ALLOW
    for family, protocol in (
        (16, 12),
        (16, 9),
        (17, 0),
        (38, 0),
        (40, 0),
        (44, 0),
        (0, 0),
        (2, 132),
        (2, 262),
        (10, 262),
    ):
        assert machine.asks("socket", family, 1, protocol) == none, (family, protocol)
    assert machine.asks("socketpair", 1, 1, 0) == ALLOW
    assert machine.asks("socketpair", 2, 1, 0) == none


def test_E8_nothing_that_the_kernel_compiles_for_a_program(machine: Machine) -> None:
    """The machine has room for it once (net.core.bpf_jit_limit); low halves alone count."""
    high = 1 << 32
    for level in (1, 1 | high):
        for option in (26, 50, 51, 52, 26 | high):
            found = machine.asks("setsockopt", 3, level, option)
            assert found == refused(errno.ENOPROTOOPT), (level, option)
    for option in {*range(128)} - {26, 50, 51, 52}:
        assert machine.asks("setsockopt", 3, 1, option) == ALLOW, option
    for level in (0, 2, 6, 17, 41, 270):
        assert machine.asks("setsockopt", 3, level, 26) == ALLOW, level
    for option in (22, 22 | high):
        assert machine.asks("prctl", option, 2) == refused(errno.EINVAL)
    for option in {*range(90)} - {22}:
        assert machine.asks("prctl", option, 2) == ALLOW, option
    assert machine.asks("seccomp", 1, 8) == machine.asks("seccomp", 1 | high) == refused(22)
    for operation in (0, 2, 3):
        assert machine.asks("seccomp", operation) == ALLOW, operation


def test_E1_personalities(machine: Machine) -> None:
    for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF):
        assert machine.asks("personality", value) == ALLOW
    for value in (0x40000, 0x400000, 1):  # no randomised addresses; executable data
        assert machine.asks("personality", value) == refused(errno.EPERM)


def test_a_wall_forbids_more(machine: Machine) -> None:
    assert machine.asks("memfd_create", forbidden=["memfd_create"]) == refused(errno.EPERM)
    assert machine.asks("clone", 17, forbidden=["clone"]) == refused(errno.EPERM)
    with pytest.raises(ValueError, match="no_such_call"):
        seccomp.program(forbidden=["no_such_call"])


def test_what_is_answered_without_being_done(machine: Machine) -> None:
    rules = {"setsockopt": Rule([[Is(1, 1), Is(2, 7)]], then=DONE)}
    assert machine.asks("setsockopt", 3, 1, 7, rules=rules) == 0x00050000  # an error of none
    assert machine.asks("setsockopt", 3, 1, 8, rules=rules) == refused(errno.EPERM)


def test_E5_memory_that_is_nobodys_is_refused_where_it_is_watched(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asks(call: str, *arguments: int) -> int:
        return machine.asks(
            call, *arguments, forbidden=limits.UNOWNED, rules=limits.unowned_rules()
        )

    for call in ("memfd_create", "shmget", "msgget", "semget", "vmsplice"):
        assert asks(call) == refused(errno.EPERM), call
    assert asks("landlock_create_ruleset") == refused(errno.ENOSYS)
    for flags in (0x21, 0x23, 0x4021):  # shared and anonymous
        assert asks("mmap", 0, 4096, 3, flags, 0xFFFFFFFF) == refused(errno.EPERM)
    for flags in (0x01, 0x02, 0x22, 0x4022):  # a file's, or private
        assert asks("mmap", 0, 4096, 3, flags, 3) == ALLOW
    sizes = (212_992, 4 << 20)
    monkeypatch.setattr(bounds, "_sizes", lambda kind: sizes)
    assert asks("setsockopt", 3, 1, 7) == asks("setsockopt", 3, 1, 8) == 0x00050000
    assert asks("setsockopt", 3, 1, 9) == asks("setsockopt", 3, 6, 7) == ALLOW
    assert asks("setsockopt", 3, 1, 26) == refused(errno.ENOPROTOOPT)
    assert bounds.buffer_bytes("wmem") == 2 * 212_992
    sizes = (212_992, 212_992)
    assert asks("setsockopt", 3, 1, 7) == ALLOW
    assert bounds.buffer_bytes("wmem") == 4 * 212_992


def test_E8_limits_of_a_process_s_own_alone(machine: Machine) -> None:
    def asks(call: str, *arguments: int) -> int:
        return machine.asks(call, *arguments, rules=seccomp.OWN_PROCESS)

    assert asks("prlimit64", 0, 7, 0x7FFF00000000) == ALLOW
    assert asks("prlimit64", 4242, 7, 0) == ALLOW  # only asked for
    for pointer in (1, 0x7FFF00000000):
        assert asks("prlimit64", 4242, 7, pointer) == refused(errno.EPERM)
    assert asks("setpriority", 0, 0, 5) == ALLOW
    assert asks("setpriority", 0, 4242, 5) == asks("setpriority", 2, 0, 5) == refused(errno.EPERM)
    assert asks("ioprio_set", 1, 0, 5) == ALLOW
    assert asks("ioprio_set", 3, 0, 5) == refused(errno.EPERM)


def test_an_unknown_machine_has_none() -> None:
    with pytest.raises(KeyError):
        seccomp.program(machine="riscv64")


def test_the_kernel_takes_it_and_answers_so() -> None:
    if platform.machine() not in seccomp.SUPPORTED:
        pytest.skip("no filter for this machine")
    column, _ = MACHINES[platform.machine()]

    def look() -> bytes:
        calls.give_up_privileges()
        calls.filter_calls(seccomp.program())
        libc = ctypes.CDLL(None, use_errno=True)
        said = []
        for name, *arguments in (("unshare", 0), ("clone3", 0, 0), ("getpid",), ("io_setup", 1, 0)):
            number = NUMBERS[name][column]
            answer = libc.syscall(number, *arguments)
            said.append(errno.errorcode[ctypes.get_errno()] if answer < 0 else "ok")
        return " ".join(said).encode()

    assert calls.in_fork(look) == "EPERM ENOSYS ok ENOSYS"
    assert os.getpid()


def test_a_shortage_of_room_for_filters_passes_and_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel's answer is a number of its own then; many sandboxes at once bring it about."""

    def full(*_: object) -> None:
        raise OSError(524, "Unknown error 524", "prctl")

    monkeypatch.setattr(calls, "call", full)
    with pytest.raises(OSError, match=r"net\.core\.bpf_jit_limit") as raised:
        calls.filter_calls(bytes(8))
    assert is_passing(raised.value)
