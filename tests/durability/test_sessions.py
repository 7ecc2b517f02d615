"""Durable sessions on real engines, used by process after process (C9, C10, C11)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import stockade
from conftest import need
from stockade.ledger._sqlite import SqliteLedger
from stockade.sessions._runtime import Runtime

BUSYBOX = "docker:stockade-test/busybox"
PYTHON = "docker:stockade-test/python"
GVISOR = "gvisor:stockade-test/python"


@pytest.fixture
def ledger(tmp_path: Path) -> SqliteLedger:
    return SqliteLedger(tmp_path / "ledger.sqlite")


@pytest.fixture
def runtime(ledger: SqliteLedger) -> Iterator[Runtime]:
    runtime = Runtime(discover_plugins=False, ledger=ledger)
    yield runtime
    for record in ledger.sessions():
        stockade.collect(runtime=runtime, force=[record.session_id])
    runtime.close_all()


def _wall(string: str) -> str:
    need(string.partition(":")[0])
    return string


def _process(code: str, ledger: SqliteLedger | None, *args: str) -> subprocess.Popen[str]:
    path = "off" if ledger is None else ledger.path
    return subprocess.Popen(
        [sys.executable, "-c", code, *args],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "STOCKADE_LEDGER": path, "STOCKADE_GC": "off"},
    )


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def _until(condition: Any, seconds: float = 30.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.1)
    return False


def _there(wall: str, session_id: str) -> list[Any]:
    found = stockade.provider(wall).wall.leftovers()
    return [one for one in found if one.session_id == session_id]


_OWNER = """
import stockade, sys, time
session = stockade.open(sys.argv[1], agent_id="a", durable=True)
session.files.write("/workspace/mark", b"made")
session.shell("(while :; do echo tick >>/workspace/ticks; sleep 0.2; done) >/dev/null 2>&1 &")
print(session.session_id, flush=True)
session.shell("echo >/workspace/begun; while :; do echo run >>/workspace/run; sleep 0.2; done")
"""


@pytest.mark.parametrize("string", [BUSYBOX, GVISOR])
def test_C10_it_outlives_a_killed_owner_and_serves_the_next(
    string: str, ledger: SqliteLedger, runtime: Runtime
) -> None:
    owner = _process(_OWNER, ledger, _wall(string))
    session_id = _line(owner)
    session = stockade.attach(session_id, agent_id="a", runtime=runtime)
    assert _until(lambda: session.files.exists("/workspace/begun"))
    owner.send_signal(signal.SIGKILL)
    _end(owner)
    assert session.files.read("/workspace/mark") == b"made"

    def size(name: str) -> int:
        return len(session.files.read(f"/workspace/{name}"))

    def stands_still() -> bool:
        before = size("run")
        time.sleep(0.7)
        return size("run") == before

    assert _until(stands_still)  # what the dead one executed is ended
    ticks = size("ticks")
    assert _until(lambda: size("ticks") > ticks)  # what it left in the background lives on
    assert session.shell("sleep 30", timeout=0.5).verdict is stockade.Verdict.TIMED_OUT
    ticks = size("ticks")
    assert _until(lambda: size("ticks") > ticks)  # and nobody else's deadline ends it
    done = stockade.collect(runtime=runtime)
    assert session_id not in [entry[0] for entry in done.removed]
    assert session.run(["cat", "/workspace/mark"]).stdout == "made"
    session.close()
    assert not _there(string, session_id) and ledger.session(session_id) is None


_USER = """
import stockade, sys
session = stockade.attach(sys.argv[1], agent_id="a")
for line in sys.stdin:
    result = session.shell(line, timeout=20)
    print(result.verdict.value, result.stdout.strip(), flush=True)
"""


def test_C10_two_processes_use_one_at_the_same_time(ledger: SqliteLedger, runtime: Runtime) -> None:
    session = stockade.open(_wall(BUSYBOX), agent_id="a", durable=True, runtime=runtime)
    users = [_process(_USER, ledger, session.session_id) for _ in range(2)]
    try:
        for number, user in enumerate(users):
            assert user.stdin is not None
            user.stdin.write(f"for i in 1 2 3 4 5 6 7 8; do echo {number}; sleep 0.1; done\n")
            user.stdin.flush()
        for number, user in enumerate(users):
            words = _line(user).split()
            rest = [_line(user) for _ in range(7)]
            assert words == ["exited", str(number)] and set(rest) == {str(number)}
        assert session.run(["echo", "here"]).stdout == "here\n"
        assert len(ledger.users(session.session_id)) == 3
    finally:
        for user in users:
            _end(user)
    assert session.run(["echo", "still"]).stdout == "still\n"
    session.close()


def test_a_paused_one_can_be_held_resumed_and_destroyed(
    ledger: SqliteLedger, runtime: Runtime
) -> None:
    session = stockade.open(_wall(BUSYBOX), agent_id="a", durable=True, runtime=runtime)
    session.pause()
    session.detach()
    again = stockade.attach(session.session_id, agent_id="a", runtime=runtime)
    assert again.paused
    with pytest.raises(stockade.SessionStateError, match="paused"):
        again.run(["true"])
    again.resume()
    assert again.run(["echo", "hi"]).stdout == "hi\n"
    again.pause()
    again.close()
    assert not _there(BUSYBOX, session.session_id)


def test_one_whose_container_was_removed_says_so_and_is_collected(
    ledger: SqliteLedger, runtime: Runtime
) -> None:
    session = stockade.open(_wall(BUSYBOX), agent_id="a", durable=True, runtime=runtime)
    session.detach()
    (found,) = _there(BUSYBOX, session.session_id)
    stockade.provider(BUSYBOX).wall.remove(found)
    with pytest.raises(stockade.SandboxLostError, match="gone"):
        stockade.attach(session.session_id, agent_id="a", runtime=runtime)
    done = stockade.collect(runtime=runtime, force=[session.session_id])
    assert done.forgotten and ledger.sessions() == []


# -- without a ledger, and without anybody ------------------------------------------------

_LIVES = """
import stockade, sys, time
session = stockade.open(sys.argv[1], lifetime_seconds=float(sys.argv[2]))
print(session.session_id, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("string", ["landlock", BUSYBOX])
def test_C9_gc_finds_it_when_the_ledger_was_lost(
    string: str, ledger: SqliteLedger, runtime: Runtime
) -> None:
    """And where what would have ended it by itself is stopped."""
    owner = _process(_LIVES, None, _wall(string), "3600")
    session_id = _line(owner)
    if string == "landlock":
        for pid in _keepers(session_id):
            os.kill(pid, signal.SIGSTOP)
    assert not [e for e in stockade.collect(runtime=runtime).removed if e[0] == session_id]
    _end(owner)
    # Another process's gc may have come first: what counts is that nothing is left.
    done = stockade.collect(runtime=runtime)
    assert not done.failed and not _there(string, session_id), done


def _keepers(session_id: str) -> list[int]:
    mark = f"STOCKADE_SESSION={session_id}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


_POOLED = """
import stockade, sys, time
with stockade.Pool(sys.argv[1], size=1, lifetime_seconds=float(sys.argv[2])) as pool:
    pool.wait_ready(60)
    time.sleep(0.5)
    session = pool.open()
    assert pool.hits == 1 and session.run(["echo", "hi"]).stdout == "hi\\n"
    print(session.session_id, flush=True)
    time.sleep(600)
"""


def test_C11_it_ends_itself_when_nobody_outside_does(runtime: Runtime) -> None:
    """All at once, since each takes its seconds: owners that live and do nothing any more."""
    strings = [_wall(string) for string in ("landlock", BUSYBOX, PYTHON, GVISOR)]
    owners = [(string, _process(_LIVES, None, string, "6")) for string in strings]
    # A pool's hold the lifetime that they were handed out with.
    owners += [(string, _process(_POOLED, None, string, "6")) for string in strings[:3]]
    try:
        sessions = [(string, _line(owner)) for string, owner in owners]
        assert all(session_id.startswith("ses-") for _, session_id in sessions)
        for _, owner in owners:
            owner.send_signal(signal.SIGSTOP)
        for string, session_id in sessions:
            assert _until(lambda s=string, i=session_id: not _running(s, i), 40), string
    finally:
        for _, owner in owners:
            owner.send_signal(signal.SIGCONT)
            _end(owner)
        stockade.collect(runtime=runtime)


def _running(string: str, session_id: str) -> bool:
    return any(one.running for one in _there(string, session_id))


def test_C11_a_durable_one_ends_itself_too(ledger: SqliteLedger, runtime: Runtime) -> None:
    session = stockade.open(
        _wall(BUSYBOX), agent_id="a", durable=True, runtime=runtime, lifetime_seconds=3.0
    )
    session_id = session.session_id
    session.detach()
    assert _until(lambda: not any(one.running for one in _there(BUSYBOX, session_id)), 40)
    with pytest.raises((stockade.SessionNotFoundError, stockade.SandboxLostError)):
        stockade.attach(session_id, agent_id="a", runtime=runtime)
    done = stockade.collect(runtime=runtime)
    assert ledger.session(session_id) is None and not _there(BUSYBOX, session_id), done
