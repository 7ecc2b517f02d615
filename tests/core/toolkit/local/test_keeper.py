"""A keeper and the program that it holds, without any wall around it."""

from __future__ import annotations

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
from types import SimpleNamespace
from typing import Any

import pytest

import stockade_supervisor
from conftest import until
from core.toolkit.local.sleepers import running
from stockade.errors import SandboxStartError
from stockade.executions._output import BoundedOutput
from stockade.toolkit.local import KeeperLostError, KeeperProcess, KeeperSpec, cgroups
from stockade.toolkit.local.keeper import Keeper
from stockade.toolkit.local.leftovers import Leftovers, counter_path
from stockade.toolkit.supervised import Link, SocketTransport, StartRequest
from stockade.toolkit.supervised.execution import LinkExecution

WALL = "keepertest"


def spec(line: str, **more: Any) -> KeeperSpec:
    """A shell that stands for a supervisor; what it starts are a supervisor's children."""
    usual = {
        "wall": WALL,
        "session": f"ses-{secrets.token_hex(8)}",
        "owner": "nobody",
        "argv": ["/bin/sh", "-c", line],
        "env": {"PATH": "/usr/bin:/bin"},
    }
    return KeeperSpec(**{**usual, **more})


@pytest.fixture
def start() -> Iterator[Callable[..., KeeperProcess]]:
    made: list[KeeperProcess] = []

    def begin(line: str, passed: dict[int, int] | None = None, **more: Any) -> KeeperProcess:
        made.append(KeeperProcess(spec(line, **more), passed))
        return made[-1]

    yield begin
    for keeper in made:
        keeper.end()
        keeper.connection.close()


def read(keeper: KeeperProcess, size: int = 65536) -> str:
    keeper.connection.settimeout(20)
    return keeper.connection.recv(size).decode()


def test_standard_input_and_output_are_the_owners_connection(
    start: Callable[..., KeeperProcess],
) -> None:
    keeper = start('while read -r line; do echo "got $line"; done')
    for word in ("one", "two"):
        keeper.connection.sendall(word.encode() + b"\n")
        assert read(keeper) == f"got {word}\n"
    keeper.connection.shutdown(socket.SHUT_WR)
    assert until(lambda: keeper.state().ended == 0)


def test_the_program_has_what_it_was_passed_and_nothing_else(
    start: Callable[..., KeeperProcess], tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("passed")
    with open(tmp_path / "text") as file:
        keeper = start(
            "for f in /proc/self/fd/*; do [ -e $f ] && echo ${f##*/}; done; cat <&7; echo; env; "
            "grep Sig[BI] /proc/self/status; echo words >&2; read -r _",
            {7: file.fileno()},
            env={"PATH": "/usr/bin:/bin", "MINE": "a b"},
        )
    seen = ""
    while "SigIgn" not in seen:
        seen += read(keeper)
    numbers, _, rest = seen.partition("passed")
    assert {int(word) for word in numbers.split()} <= {0, 1, 2, 3, 7}  # 3: the folder's own
    assert {line.split("=")[0] for line in rest.splitlines() if "=" in line} <= {
        "PATH",
        "MINE",
        "PWD",
        "_",
        "SHLVL",
        "OLDPWD",
    }
    assert "SigBlk:\t0000000000000000" in rest and "SigIgn:\t0000000000000000" in rest
    assert until(lambda: "words" in keeper.words())


def test_words_that_nobody_reads_hold_nothing_up(start: Callable[..., KeeperProcess]) -> None:
    keeper = start("head -c 1000000 /dev/zero >&2; echo done; read -r _")
    assert read(keeper) == "done\n"


def test_how_it_ended_is_reported(start: Callable[..., KeeperProcess]) -> None:
    exits, killed = start("exit 3"), start("kill -9 $$")
    assert until(lambda: exits.state().ended == 3 << 8)
    assert until(lambda: killed.state().ended == signal.SIGKILL)
    keeper = start("exit 3", depth=1)
    with pytest.raises(KeeperLostError, match="has ended"):
        keeper.ready()


def test_C5_a_program_that_is_not_there_leaves_nothing() -> None:
    missing = spec("", argv=["/no/such/program"])
    with pytest.raises(SandboxStartError, match="No such file or directory: '/no/such/program'"):
        KeeperProcess(missing)
    assert not Leftovers(WALL).all_of()


def test_ending_ends_the_tree(start: Callable[..., KeeperProcess]) -> None:
    mark = f"61{os.getpid()}"
    keeper = start(f"setsid sleep {mark} & (setsid sleep {mark} &) ; echo up; sleep {mark}")
    assert read(keeper) == "up\n"
    assert until(lambda: len(running(mark)) >= 3)
    keeper.end()
    assert not running(mark)
    keeper.end()
    with pytest.raises(KeeperLostError, match="closed"):
        keeper.state()


_OWNER = """
import os, sys, time
from stockade.toolkit.local import KeeperProcess, KeeperSpec
line = f"setsid sleep {sys.argv[1]} & echo up; sleep {sys.argv[1]}"
expires = float(sys.argv[2]) + time.time() if sys.argv[2] else None
keeper = KeeperProcess(KeeperSpec(wall="keepertest", session=f"ses-{sys.argv[1]}", owner="me",
    argv=["/bin/sh", "-c", line], env={"PATH": "/usr/bin:/bin"}, expires_at=expires))
keeper.connection.recv(3)
if sys.argv[3] == "fork" and os.fork() == 0:
    time.sleep(40)
    os._exit(0)
print(keeper.pid, flush=True)
time.sleep(40)
"""


def owner(mark: str, expires: str = "", how: str = "") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _OWNER, mark, expires, how],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )


@pytest.mark.parametrize("how", ["", "fork"])
def test_C9_it_ends_with_its_owner(how: str) -> None:
    """A fork of the owner holds the socket open, so its end alone would not be noticed."""
    mark = f"62{os.getpid()}"
    with owner(mark, how=how) as process:
        assert process.stdout is not None and process.stdout.readline()
        assert until(lambda: len(running(mark)) >= 2)
        (found,) = [one for one in Leftovers(WALL).all_of() if one.session_id == f"ses-{mark}"]
        assert found.running and found.owner == "me"
        process.kill()
        process.wait()
        try:
            assert until(lambda: not running(mark))
            assert until(lambda: not Leftovers(WALL).all_of())
        finally:
            if how:
                os.killpg(process.pid, signal.SIGKILL)


def test_C9_what_is_found_can_be_removed() -> None:
    mark = f"63{os.getpid()}"
    with owner(mark) as process:
        assert process.stdout is not None and process.stdout.readline()
        used = Leftovers(WALL).usage(f"ses-{mark}")
        assert used is not None and (used.processes or 0) >= 3
        Leftovers(WALL).remove(f"ses-{mark}")
        assert not running(mark)
        assert Leftovers(WALL).usage(f"ses-{mark}") is None
        process.kill()


def test_C11_a_lifetime_holds_though_its_owner_stands_still() -> None:
    mark = f"64{os.getpid()}"
    with owner(mark, expires="0.5") as process:
        assert process.stdout is not None and process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        try:
            assert until(lambda: not running(mark))
        finally:
            process.kill()


def test_C11_a_new_lifetime_takes_the_place_of_the_old(
    start: Callable[..., KeeperProcess],
) -> None:
    keeper = start("read -r _", expires_at=time.time() + 1000)
    keeper.expire_at(time.time() - 1)
    assert until(lambda: not Path(f"/proc/{keeper.pid}").exists() or keeper._process.poll() == 0)


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_C11_setting_the_clock_changes_no_lifetime(
    jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = spec("", expires_at=time.time() + 60)
    program: Any = SimpleNamespace(
        spec=held, runs=False, processes=list, count_kills=None, buffers=None
    )
    real, since_boot = time.time, time.monotonic
    ours, theirs = socket.socketpair()
    with ours, theirs:
        keeper = Keeper(ours, program, os.getpid())
        monkeypatch.setattr(time, "time", lambda: real() + jump)
        assert not keeper._is_over()
        left = keeper._until_next()
        assert left is not None and 50_000 < left < 90_000  # milliseconds
        monkeypatch.setattr(time, "monotonic", lambda: since_boot() + 90)
        assert keeper._is_over() and (keeper._until_next() or 0) < 10


#: A supervisor, its child that starts a program, and a program that takes memory.
_HOG = """sh -c '
sh -c "python3 -c \\"x = bytearray(1 << 29); input()\\"; echo ended \\$?"
read -r _
'
read -r _"""


def test_E5_memory_is_watched_and_counted(start: Callable[..., KeeperProcess]) -> None:
    session = f"ses-{secrets.token_hex(8)}"
    counter = counter_path(WALL, session)
    keeper = start(
        f"exec 5<{counter}; echo up; read -r _; {_HOG}",
        session=session,
        counter=counter,
        memory_bytes=64 << 20,
    )
    assert read(keeper) == "up\n" and os.path.exists(counter)
    first = keeper.ready()
    assert not os.path.exists(counter) and Path(f"/proc/{first}/comm").read_text() == "sh\n"
    keeper.expect()
    keeper.connection.sendall(b"go\n")
    assert read(keeper) == "ended 137\n"
    assert keeper.state().kills == 1
    assert os.pread(os.open(f"/proc/{first}/fd/5", os.O_RDONLY), 100, 0) == b"oom_kill 1\n"


def test_E5_the_watch_knows_whom_it_ended(start: Callable[..., KeeperProcess]) -> None:
    """The program, or one that came of it, and no other that ends beside it."""
    keeper = start("", argv=[stockade_supervisor.binary(), "serve"], memory_bytes=64 << 20)
    link = Link(SocketTransport(keeper.connection))
    link.handshake(20)
    keeper.ready()

    def ended(*argv: str) -> LinkExecution:
        execution = link.start(StartRequest(argv=argv), BoundedOutput(4096))
        execution.wait(lambda: None)
        return execution

    hog = "x = bytearray(1 << 29)"
    quiet = link.start(StartRequest(argv=["sleep", "30"]), BoundedOutput(4096))
    keeper.expect()
    for argv in (["python3", "-c", hog], ["sh", "-c", f"python3 -c '{hog}'; exit 137"]):
        assert keeper.killed(ended(*argv).pid)
    # A daemon of its own is adopted beside the program.
    line = f"(setsid python3 -c '{hog}' &); sleep 1; kill -9 $$"
    assert keeper.killed(ended("sh", "-c", line).pid)
    assert not keeper.killed(ended("sh", "-c", "kill -9 $$").pid)
    assert not keeper.killed(quiet.pid)
    assert keeper.state().kills == 3
    link.close()


def test_E4_limits_that_come_once_it_is_up(start: Callable[..., KeeperProcess]) -> None:
    keeper = start("echo up; read -r _; ulimit -n; read -r _")
    assert read(keeper) == "up\n"
    keeper.ready([(resource.RLIMIT_NOFILE, 77)])
    keeper.connection.sendall(b"go\n")
    assert read(keeper) == "77\n"


def test_a_cgroup_holds_it_and_is_removed(start: Callable[..., KeeperProcess]) -> None:
    if "memory" not in cgroups.parents() or "freezer" not in cgroups.parents():
        pytest.skip("no cgroup can be made here")
    keeper = start(
        "while :; do read -r _; echo tick; done",
        cgroups=dict(cgroups.parents()),
        memory_bytes=64 << 20,
        max_processes=10,
        cpu_limit=0.5,
    )
    first = keeper.ready()
    group = cgroups.Group(cgroups.parents(), cgroups.group_name(WALL, keeper._spec.session))
    assert first in group.processes()
    keeper.freeze(True)
    keeper.connection.sendall(b"\n")
    keeper.connection.settimeout(0.3)
    with pytest.raises(TimeoutError):
        keeper.connection.recv(100)
    keeper.freeze(False)
    assert read(keeper) == "tick\n"
    keeper.freeze(True)
    keeper.end()
    assert not [folder for folder in group.folders if os.path.exists(folder)]


def test_the_keeper_shows_nothing_of_where_it_comes_from(
    start: Callable[..., KeeperProcess],
) -> None:
    keeper = start("read -r _")
    line = Path(f"/proc/{keeper.pid}/cmdline").read_bytes()
    assert line.rstrip(b"\0") == b"stockade-keeper"
