"""The filter of system calls: what is in the profiles, and what it does in a container (E1, E3)."""

from __future__ import annotations

import errno
import json
import signal
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import docker
import pytest

import stockade
from conformance.test_podman import SOCKET
from plugins.docker.calls import errno_of, needs_x86_64
from plugins.docker.conftest import BUSYBOX, PYTHON, container_of
from stockade.errors import ConfigError, ProviderStringError, SandboxStartError
from stockade.session import Session
from stockade_docker import seccomp
from stockade_docker.engine import EngineInfo

PODMAN = f"docker:{BUSYBOX}?engine={quote(f'unix://{SOCKET}', safe='')}"
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_ALG, AF_VSOCK = 1, 2, 10, 16, 17, 38, 40
STREAM, DATAGRAM, RAW, SEQUENCES = 1, 2, 3, 5
#: What a program may not have the kernel compile, in its several ways (E8).
COMPILING = {"prctl", "seccomp", "setsockopt"}
#: What is in no rule; older engines know no other error than the first.
NOT_LISTED = (errno.EPERM, errno.ENOSYS)
#: What a program may change of itself alone (D16).
OF_ITS_OWN = {
    "prlimit64",
    "setpriority",
    "sched_setparam",
    "sched_setscheduler",
    "sched_setattr",
    "ioprio_set",
}


# -- what stands in them -----------------------------------------------------------


def _profile() -> Any:
    return json.loads(seccomp.own())


def _answers() -> dict[str, set[int]]:
    """Each call's answers: 0 where it is allowed, else the error."""
    found: dict[str, set[int]] = {}
    for rule in _profile()["syscalls"]:
        for name in rule["names"]:
            found.setdefault(name, set()).add(rule.get("errnoRet", 0))
    return found


def test_nothing_is_named_in_two_ways() -> None:
    """Of rules that overlap, which one holds would be each library's choice."""
    judged = {"clone", "personality", "socket", "socketpair", *OF_ITS_OWN, *COMPILING}
    names = [name for rule in _profile()["syscalls"] for name in rule["names"]]
    twice = {name for name in names if names.count(name) > 1}
    assert twice <= judged
    for rule in _profile()["syscalls"]:
        assert ("args" in rule) == bool(judged & set(rule["names"])), rule


def test_local_walls_allow_the_same_calls() -> None:
    """What a call's name alone decides is decided alike behind every wall."""
    local = pytest.importorskip("stockade.toolkit.local.seccomp", exc_type=ImportError)
    from stockade.toolkit.local import table

    allowed = {name for name, answers in _answers().items() if answers == {0}}
    judged = {*local.RULES, *local.OWN_PROCESS}
    assert set(local.OWN_PROCESS) == OF_ITS_OWN
    assert allowed & set(table.NUMBERS) - judged == local.ALLOWED - judged
    assert not allowed & local.FORBIDDEN


def test_every_rule_says_why() -> None:
    text = files("stockade_docker").joinpath("profiles/own.json").read_text()
    assert all(rule["comment"] for rule in json.loads(text)["syscalls"])


# -- what it does -------------------------------------------------------------------


@pytest.fixture(scope="module", params=["docker", "podman"])
def offline(request: pytest.FixtureRequest, engine: docker.APIClient) -> Iterator[Session]:
    string = f"docker:{BUSYBOX}" if request.param == "docker" else PODMAN
    if request.param == "podman" and not Path(SOCKET).exists():
        pytest.skip("no podman here")
    with stockade.open(string) as session:
        yield session


@pytest.mark.engine
@needs_x86_64
def test_E1_what_leads_out_is_refused(offline: Session) -> None:
    for call in (
        "ptrace",
        "adjtimex",
        "chroot",
        "mount",
        "init_module",
        "mbind",
        "kexec_load",
        "add_key",
        "keyctl",
        "unshare",
        "perf_event_open",
        "fanotify_init",
        "open_by_handle_at",
        "setns",
        "process_vm_readv",
        "bpf",
        "userfaultfd",
        "open_tree",
        "fsopen",
        "pidfd_getfd",
        "mount_setattr",
    ):
        assert errno_of(offline, call) == errno.EPERM, call
    # As if the kernel had them not: programs then take another way.
    for name in ("io_uring_setup", "io_setup", "clone3", "memfd_secret", "statmount"):
        assert errno_of(offline, name) == errno.ENOSYS, name
    assert errno_of(offline, 600) == errno.ENOSYS  # younger than any list


@pytest.mark.engine
@needs_x86_64
def test_E1_no_namespace_by_clone_and_no_other_personality(offline: Session) -> None:
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert errno_of(offline, "clone", flag | signal.SIGCHLD) == errno.EPERM, hex(flag)
    assert errno_of(offline, "clone", signal.SIGCHLD) == 0
    assert errno_of(offline, "personality", 0xFFFFFFFF) == 0
    assert errno_of(offline, "personality", 0x0400000) != 0  # READ_IMPLIES_EXEC


@pytest.mark.engine
@needs_x86_64
def test_D16_limits_and_priorities_are_changed_of_oneself_alone(offline: Session) -> None:
    supervisor, anywhere = 1, 0x7FFF_0000_0000
    for call, *arguments in (
        ("prlimit64", supervisor, 7, anywhere),
        ("setpriority", 0, supervisor, 5),
        ("setpriority", 1, 0, 5),  # of a group
        ("sched_setscheduler", supervisor, 5, anywhere),
        ("sched_setparam", supervisor, anywhere),
        ("sched_setattr", supervisor, anywhere, 0),
        ("ioprio_set", 1, supervisor, 0x6000),
        ("ioprio_set", 3, 0, 0x6000),  # of a user
    ):
        # podman's library takes some of these rules together, and answers for all as for none.
        refused = (errno.EPERM, errno.ENOSYS)
        assert errno_of(offline, call, *arguments) in refused, (call, arguments)
    for call, *arguments in (
        ("prlimit64", 0, 7, 0, 0),
        ("prlimit64", supervisor, 7, 0, 0),  # only asked for
        ("setpriority", 0, 0, 5),
        ("ioprio_set", 1, 0, 0x6000),
    ):
        assert errno_of(offline, call, *arguments) == 0, (call, arguments)
    assert errno_of(offline, "sched_setscheduler", 0, 5, anywhere) == errno.EFAULT
    # The usual policy, as libraries set it for a thread of theirs.
    assert errno_of(offline, "sched_setscheduler", supervisor, 0, anywhere) == errno.EFAULT


@pytest.mark.engine
@needs_x86_64
def test_E8_no_program_is_attached_to_a_socket(offline: Session) -> None:
    """The kernel has room for these once, for the whole machine; it looks at low halves alone."""
    attaching, high = (26, 50, 51, 52), 1 << 32
    for option in attaching:
        assert errno_of(offline, "setsockopt", -1, 1, option) == errno.ENOPROTOOPT, option
        for level, name in ((1 | high, option), (1, option | high), (1 | -high, option)):
            found = errno_of(offline, "setsockopt", -1, level, name)
            assert found in NOT_LISTED, (level, name)
    for option in {*range(90)} - {*attaching}:
        assert errno_of(offline, "setsockopt", -1, 1, option) == errno.EBADF, option
    for level in (0, 2, 3, 4, 6, 7, 8, 15, 16, 17, 31, 32, 41, 58, 63, 64, 136, 255, 256, 270, 287):
        for option in (1, *attaching):
            found = errno_of(offline, "setsockopt", -1, level, option)
            assert found == errno.EBADF, (level, option)


@pytest.mark.engine
@needs_x86_64
def test_E8_no_filter_of_a_programs_own(offline: Session) -> None:
    """Where one were let through it would fail by its address (EFAULT)."""
    high = 1 << 32
    for call, *arguments in (("prctl", 22, 2), ("seccomp", 1, 0), ("seccomp", 1, 8)):
        assert errno_of(offline, call, *arguments) == errno.EINVAL, (call, arguments)
    for call, *arguments in (("prctl", 22 | high, 2), ("seccomp", 1 | high)):
        assert errno_of(offline, call, *arguments) in NOT_LISTED, (call, arguments)
    wants_a_capability = {24, 28, 30, 35, 57, 58}  # and fails as what is not listed does
    for option in ({*range(1, 90)} - {22, *wants_a_capability}) | {0x59616D61, 0x53564D41}:
        assert errno_of(offline, "prctl", option, 0) not in NOT_LISTED, option
    assert errno_of(offline, "seccomp", 2) == errno_of(offline, "seccomp", 3) == errno.EFAULT


@pytest.mark.engine
@needs_x86_64
def test_E1_the_interface_of_32_bits_is_closed(offline: Session) -> None:
    """By it ``socketcall`` would make any socket: its arguments are where no filter sees them."""
    assert errno_of(offline, 20, by_32_bits=True) == 128 + signal.SIGSYS  # getpid


@pytest.mark.engine
@needs_x86_64
def test_E3_which_sockets_can_be_made(offline: Session) -> None:
    for family, kind, protocol in (
        (AF_UNIX, STREAM, 0),
        (AF_INET, STREAM, 0),
        (AF_INET, DATAGRAM, 17),
        (AF_INET6, STREAM, 6),
    ):
        assert errno_of(offline, "socket", family, kind, protocol) == 0
    refused = {0, *range(3, 64), 0xFFFFFFFF, 1 << 32 | AF_VSOCK} - {AF_INET6, AF_NETLINK}
    for family in refused:
        for kind in (STREAM, SEQUENCES) if family < 64 else (STREAM,):
            assert errno_of(offline, "socket", family, kind) == errno.EAFNOSUPPORT, family
    for protocol in (132, 33, 136, 115, 255, 262):  # SCTP, DCCP, UDP-Lite, L2TP, raw, MPTCP
        assert errno_of(offline, "socket", AF_INET, DATAGRAM, protocol) in (
            errno.EPERM,
            errno.ENOSYS,
        )
    assert errno_of(offline, "socketpair", AF_INET, STREAM, 0) == errno.EAFNOSUPPORT


@pytest.mark.engine
@needs_x86_64
def test_E3_of_netlink_there_are_routes_alone(offline: Session) -> None:
    assert errno_of(offline, "socket", AF_NETLINK, RAW, 0) == 0
    for protocol in (2, 9, 15, 16):  # user sockets, audit, device events, generic
        assert errno_of(offline, "socket", AF_NETLINK, RAW, protocol) == errno.EPROTONOSUPPORT


@pytest.mark.engine
@needs_x86_64
def test_E3_a_network_brings_no_further_sockets(engine: docker.APIClient) -> None:
    with stockade.open(f"docker:{BUSYBOX}?network_enabled=true") as session:
        for family in (AF_PACKET, AF_ALG, AF_VSOCK):
            assert errno_of(session, "socket", family, RAW, 0) == errno.EAFNOSUPPORT


@pytest.mark.engine
@needs_x86_64
def test_the_engines_own_by_name(engine: docker.APIClient) -> None:
    with stockade.open(f"docker:{BUSYBOX}?seccomp=engine") as session:
        assert errno_of(session, "socket", AF_NETLINK, RAW, 0) == 0
        found = engine.inspect_container(container_of(session))
        assert found["HostConfig"]["SecurityOpt"] == ["no-new-privileges"]


@pytest.mark.engine
def test_ordinary_programs_run(engine: docker.APIClient) -> None:
    code = (
        "import os, socket, subprocess, threading, select, tempfile, signal\n"
        "t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()\n"
        "print(subprocess.run(['sh', '-c', 'echo child'], capture_output=True).stdout)\n"
        "s = socket.create_server(('', 0)); socket.create_connection(s.getsockname())\n"
        "a, b = socket.socketpair(); p = select.epoll(); p.register(a, select.EPOLLIN)\n"
        "os.memfd_create('x'); os.pidfd_open(os.getpid())\n"
        "signal.setitimer(signal.ITIMER_REAL, 5)\n"
        "with tempfile.NamedTemporaryFile() as f: os.utime(f.name)\n"
        "print('done')\n"
    )
    with stockade.open(f"docker:{PYTHON}") as session:
        result = session.code(code)
        assert result.stdout == "thread\nb'child\\n'\ndone\n", result.stderr


# -- which one an engine is given -----------------------------------------------------


def _info(profile: str | None, *, podman: bool = False) -> EngineInfo:
    security = () if profile is None else (f"name=seccomp,profile={profile}",)
    return EngineInfo("27.1", "6.1", "Linux", ("runc",), security, "2", is_podman=podman)


def test_an_engine_is_given_one_that_filters() -> None:
    for profile in ("default", "builtin", "unconfined"):
        assert seccomp.stated(None, _info(profile), local=False) == seccomp.own()
    chosen = seccomp.stated("engine", _info("builtin"), local=True)
    assert chosen == "builtin"
    assert seccomp.stated("engine", _info("default"), local=True) is None
    filters_none = (("engine", _info("unconfined")), ("engine", _info(None)), (None, _info(None)))
    for choice, info in filters_none:
        with pytest.raises(SandboxStartError, match="filters no system calls"):
            seccomp.stated(choice, info, local=True)


def test_podman_is_given_a_path(tmp_path: Path) -> None:
    podman = _info("default", podman=True)
    path = seccomp.stated(None, podman, local=True)
    assert path is not None
    assert json.loads(Path(path).read_text())["defaultAction"] == "SCMP_ACT_ERRNO"
    with pytest.raises(ConfigError, match=r"copy .*own\.json there"):
        seccomp.stated(None, podman, local=False)
    assert seccomp.stated("/there", podman, local=False) == "/there"
    with pytest.raises(ConfigError, match="cannot be read"):
        seccomp.stated(f"{tmp_path}/none", podman, local=True)


def test_a_word_that_is_no_profile() -> None:
    with pytest.raises(ProviderStringError, match="engine, or the absolute path"):
        stockade.open(f"docker:{BUSYBOX}?seccomp=unconfined")
