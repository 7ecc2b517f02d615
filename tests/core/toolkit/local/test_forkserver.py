"""Who makes keepers, and what a keeper becomes where nothing has to be watched."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import until
from core.toolkit.local.sleepers import running
from stockade.toolkit.local import KeeperLostError, KeeperProcess, KeeperSpec, forked
from stockade.toolkit.local.leftovers import Leftovers
from stockade.toolkit.local.marks import OWNER, SERVES, SESSION, WALL

NAME = "forktest"


@pytest.fixture
def start() -> Iterator[Callable[..., KeeperProcess]]:
    made: list[KeeperProcess] = []

    def begin(line: str = "read -r _", **more: Any) -> KeeperProcess:
        spec = KeeperSpec(
            wall=NAME,
            session=f"ses-{secrets.token_hex(8)}",
            owner="nobody",
            argv=["/bin/sh", "-c", line],
            env={"PATH": "/usr/bin:/bin"},
            **more,
        )
        made.append(KeeperProcess(spec))
        return made[-1]

    yield begin
    for keeper in made:
        keeper.end()
        keeper.connection.close()


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def variables(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/environ").read_bytes().decode().rstrip("\0")
    return dict(line.split("=", 1) for line in text.split("\0") if line)


def servers(owner: int) -> list[int]:
    """The fork servers that say so of themselves."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            serves = f"{SERVES}={owner}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes()
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if serves and state != "Z":
            found.append(int(pid))
    return found


def program_of(keeper: KeeperProcess) -> str:
    return os.readlink(f"/proc/{keeper.pid}/exe")


def test_one_server_makes_all_keepers_and_each_is_the_owners_child(
    start: Callable[..., KeeperProcess],
) -> None:
    forked.close_servers()
    first, second = start(), start()
    assert len(servers(os.getpid())) == 1
    for keeper in (first, second):
        assert parent(keeper.pid) == os.getpid()
        assert set(variables(keeper.pid)) == {WALL, SESSION, OWNER}
    assert variables(first.pid)[SESSION] != variables(second.pid)[SESSION]


def test_C9_a_server_that_is_killed_takes_no_session_with_it(
    start: Callable[..., KeeperProcess],
) -> None:
    before = start()
    (server,) = servers(os.getpid())
    os.kill(server, signal.SIGKILL)
    assert until(lambda: not servers(os.getpid()))
    after = start()
    assert before.state().ended is None and after.state().ended is None


def test_a_server_that_was_started_as_somebody_else_makes_no_keeper(
    start: Callable[..., KeeperProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    start()
    old = servers(os.getpid())
    monkeypatch.setattr(forked, "_standing", lambda: "another user")
    keeper = start()
    new = servers(os.getpid())
    assert len(new) == 1 and new != old and keeper.state().ended is None
    forked.close_servers()


def test_a_server_that_was_started_under_other_limits_makes_no_keeper(
    start: Callable[..., KeeperProcess],
) -> None:
    start()
    old = servers(os.getpid())
    before = resource.getrlimit(resource.RLIMIT_MSGQUEUE)
    resource.setrlimit(resource.RLIMIT_MSGQUEUE, (before[0] - 1, before[1]))
    try:
        keeper = start()
        new = servers(os.getpid())
        assert len(new) == 1 and new != old
        limit = resource.prlimit(keeper.pid, resource.RLIMIT_MSGQUEUE)
        assert limit == (before[0] - 1, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_MSGQUEUE, before)


def test_a_server_that_does_not_answer_is_given_up_in_time(
    start: Callable[..., KeeperProcess],
) -> None:
    """And no other is asked: two keepers would serve one socket."""
    start()
    (server,) = servers(os.getpid())
    os.kill(server, signal.SIGSTOP)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        began = time.monotonic()
        with pytest.raises(forked.ForkError) as failed:
            forked.fork("stockade.toolkit.local.keeper", (), {}, theirs, 0.5)
    assert failed.value.passing and time.monotonic() - began < 5
    assert not servers(os.getpid())
    assert start().state().ended is None


_FORKS = """
import os, sys, time
from stockade.toolkit.local import KeeperProcess, KeeperSpec

def keeper(session):
    return KeeperProcess(KeeperSpec(wall="forktest", session=session, owner="me",
        argv=["/bin/sh", "-c", "read -r _"], env={"PATH": "/usr/bin:/bin"}))

held = keeper("ses-parent")
child = os.fork()
if not child:
    mine = keeper("ses-child")
    with open(f"/proc/{mine.pid}/stat") as file:
        print(int(file.read().rpartition(")")[2].split()[1]) == os.getpid(), flush=True)
    time.sleep(40)
    os._exit(0)
print(child, flush=True)
time.sleep(40)
"""


def test_C9_C12_each_process_has_its_server_which_ends_with_it() -> None:
    """A forked child holds the control socket of its parent's server open, and does not use it."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _FORKS], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        words = sorted(process.stdout.readline().strip() for _ in range(2))
        child = int(words[0])
        assert words[1] == "True"
        assert len(servers(process.pid)) == 1 and len(servers(child)) == 1
        process.kill()
        process.wait()
        try:
            assert until(lambda: not servers(process.pid))
            assert until(lambda: [one.session_id for one in mine()] == ["ses-child"])
        finally:
            os.kill(child, signal.SIGKILL)
    assert until(lambda: not servers(child) and not mine())


def mine() -> list[Any]:
    return list(Leftovers(NAME).all_of())


# -- once a sandbox is up ----------------------------------------------------------


def test_what_has_nothing_to_watch_is_kept_by_a_small_program(
    start: Callable[..., KeeperProcess],
) -> None:
    keeper = start("sleep 77 & sleep 77")
    found = variables(keeper.pid)
    keeper.ready()
    assert until(lambda: "stockade-supervisor" in program_of(keeper))
    assert until(lambda: variables(keeper.pid) == found) and parent(keeper.pid) == os.getpid()
    assert keeper.state().ended is None and keeper.state().kills == 0
    with pytest.raises(KeeperLostError):
        keeper.killed(1)
    keeper.expect()  # is not answered
    assert keeper.state().ended is None
    used = Leftovers(NAME).usage(keeper._spec.session)
    assert used is not None and used.processes == 4
    keeper.end()
    assert not mine() and not Path(f"/proc/{keeper.pid}").exists()


def test_what_is_watched_is_kept_by_who_watches(start: Callable[..., KeeperProcess]) -> None:
    keeper = start(memory_bytes=64 << 20)
    keeper.ready()
    assert keeper.state().ended is None
    assert "stockade-supervisor" not in program_of(keeper)


def test_the_small_keeper_reports_how_it_ended(start: Callable[..., KeeperProcess]) -> None:
    keeper = start("read -r _; exit 3")
    keeper.ready()
    keeper.connection.sendall(b"\n")
    assert until(lambda: keeper.state().ended == 3 << 8)


def test_C11_the_small_keeper_holds_a_lifetime(start: Callable[..., KeeperProcess]) -> None:
    first, second = start(expires_at=time.time() + 1000), start(expires_at=time.time() - 1)
    first.ready()
    second.ready()
    first.expire_at(None)
    first.expire_at(time.time() - 1)
    assert until(lambda: first._process.poll() is not None)
    assert until(lambda: second._process.poll() is not None)
    assert not mine()


def _pidfds() -> int:
    """How many processes are held by a descriptor here; of what nobody refers to any more none."""
    gc.collect()
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found += "pidfd" in os.readlink(f"/proc/self/fd/{name}")
    return found


def test_an_ended_keeper_holds_no_descriptor(start: Callable[..., KeeperProcess]) -> None:
    """Also while its session is still referred to, or waits for the garbage collector."""
    keeper = start()
    keeper.ready()
    there = _pidfds()
    keeper.end()
    assert until(lambda: _pidfds() < there)
    keeper.kill()
    assert keeper._process.wait(1)


_OWNER = """
import os, sys, time
from stockade.toolkit.local import KeeperProcess, KeeperSpec
keeper = KeeperProcess(KeeperSpec(wall="forktest", session="ses-small", owner="me",
    argv=["/bin/sh", "-c", "(setsid sleep 78 &) ; sleep 78"], env={"PATH": "/usr/bin:/bin"}))
keeper.ready()
keeper.state()
if sys.argv[1] == "fork" and os.fork() == 0:
    time.sleep(40)
    os._exit(0)
print(keeper.pid, flush=True)
time.sleep(40)
"""


@pytest.mark.parametrize("how", ["", "fork"])
def test_C9_the_small_keeper_ends_with_its_owner(how: str) -> None:
    """A fork of the owner holds the socket open, so its end alone would not be noticed."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _OWNER, how],
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        tree = Leftovers(NAME).usage("ses-small")
        assert tree is not None and (tree.processes or 0) >= 3
        assert "stockade-supervisor" in os.readlink(f"/proc/{pid}/exe")
        process.kill()
        process.wait()
        try:
            assert until(lambda: not mine())
            assert until(lambda: not running("78"))
        finally:
            if how:
                os.killpg(process.pid, signal.SIGKILL)
