"""How a session ends, whoever dies first; and what is left then, which is nothing."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import stockade
from core.toolkit.local.others import run_as_other
from plugins.bubblewrap.conftest import gone, groups, inner, leftover_name, marked, until
from stockade import (
    SandboxLostError,
    SandboxStartError,
    SessionStateError,
    UnsupportedError,
    Verdict,
)
from stockade.toolkit.local import closed
from stockade.wall import Leftover
from stockade_bubblewrap import program


def leftovers(name: str) -> list[str]:
    """What a session has on the host beside its processes."""
    return groups(name) + [str(path) for path in Path(tempfile.gettempdir()).glob(f"{name}*")]


_OWNER = """
import sys, time, stockade
session = stockade.open(sys.argv[1])
session.start(shell=f"sleep {sys.argv[2]} & setsid sleep {sys.argv[2]} & sleep {sys.argv[2]}")
time.sleep(0.5)
print(session.session_id, flush=True)
time.sleep(60)
"""


def owner(wall: str, mark: str) -> tuple[subprocess.Popen[bytes], str]:
    """Another process with a session in which programs run; the name of its leftovers."""
    process = subprocess.Popen([sys.executable, "-c", _OWNER, wall, mark], stdout=subprocess.PIPE)
    assert process.stdout is not None
    return process, leftover_name(process.stdout.readline().decode().strip())


def test_C9_killing_the_owner_leaves_nothing(wall: str) -> None:
    mark = f"51{os.getpid()}"
    process, name = owner(wall, mark)
    with process:
        assert until(lambda: len(marked(f"sleep {mark}")) >= 3)
        process.kill()
        process.wait()
    assert gone(f"sleep {mark}") and until(lambda: not leftovers(name)), leftovers(name)


def listed(name: str) -> list[Leftover]:
    """What the wall finds of a session, without having opened it."""
    wall = stockade.provider("bubblewrap").wall
    return [found for found in wall.leftovers() if leftover_name(found.session_id) == name]


def test_C9_killing_owner_and_keeper_at_once_leaves_what_is_found(wall: str) -> None:
    """The kernel ends what they held; the cgroup alone stays."""
    mark = f"52{os.getpid()}"
    process, name = owner(wall, mark)
    with process:
        (before,) = listed(name)
        keeper = _keeper_of(process.pid)
        os.kill(keeper, signal.SIGSTOP)  # it would be quicker than this test
        process.kill()
        os.kill(keeper, signal.SIGKILL)
        process.wait()
    assert before.running and gone(f"sleep {mark}")
    for found in listed(name):
        assert not found.running and found.owner == before.owner
        stockade.provider("bubblewrap").wall.remove(found)
    assert not listed(name) and not leftovers(name)


def test_C9_gc_keeps_what_has_an_owner_and_removes_what_has_none(grouped: str) -> None:
    mark = f"58{os.getpid()}"
    process, name = owner(grouped, mark)
    with process, stockade.open(grouped) as mine:
        keeper = _keeper_of(process.pid)
        os.kill(keeper, signal.SIGSTOP)  # it would be quicker than this test
        process.kill()
        os.kill(keeper, signal.SIGKILL)
        process.wait()
        assert gone(f"sleep {mark}") and groups(name)
        collected = stockade.collect(strings=[grouped])
        assert name in {leftover_name(removed[0]) for removed in collected.removed}
        assert not leftovers(name)
        assert mine.run(["true"]).success


def test_what_a_session_uses_is_reported(wall: str) -> None:
    with stockade.open(wall) as session:
        session.start(code="x = bytearray(64 << 20)\nimport time; time.sleep(30)")
        (found,) = listed(leftover_name(session.session_id))

        def grown() -> bool:
            used = session.provider.wall.usage(found)
            return used is not None and (used.memory_bytes or 0) > 64 << 20

        assert until(grown)
        used = session.provider.wall.usage(found)
        assert used is not None and (used.processes or 0) >= 4 and (used.cpu_seconds or 0) > 0
        session.provider.wall.remove(found)
        with pytest.raises((SandboxLostError, SessionStateError)):
            session.run(["true"])
    assert not listed(leftover_name(session.session_id))


def _keeper_of(pid: int) -> int:
    """Of a process with one session."""
    (found,) = _keepers(pid)
    return found


def test_C11_a_lifetime_holds_though_its_owner_stands_still(wall: str) -> None:
    mark = f"53{os.getpid()}"
    process, name = owner(f"{wall}{'&' if '?' in wall else '?'}lifetime_seconds=1", mark)
    with process:
        os.kill(process.pid, signal.SIGSTOP)
        try:
            assert gone(f"sleep {mark}") and until(lambda: not leftovers(name))
        finally:
            process.kill()


@pytest.mark.parametrize("victim", ["keeper", "first process"])
def test_D14_a_death_is_reported_at_once(wall: str, victim: str) -> None:
    mark = f"54{os.getpid()}"
    with stockade.open(wall) as session:
        name = leftover_name(session.session_id)
        execution = session.start(shell=f"echo so far; setsid sleep {mark} & sleep {mark}")
        assert until(lambda: len(marked(f"sleep {mark}")) >= 2)
        sandbox = inner(session)
        os.kill(sandbox.keeper.pid if victim == "keeper" else sandbox.init_pid, signal.SIGKILL)
        with pytest.raises(SandboxLostError) as caught:
            execution.result(20)
        assert caught.value.partial is not None and caught.value.partial.stdout == "so far\n"
        assert gone(f"sleep {mark}")
    assert not leftovers(name)


def test_D16_a_program_that_ends_all_it_can_ends_its_execution_alone(bubblewrap: str) -> None:
    with stockade.open(bubblewrap) as session:
        other = session.stream(shell="echo up; sleep 30")
        assert other.take() is not None
        result = session.shell("kill -9 -1; sleep 5", timeout=20)
        assert result.duration_seconds < 4
        assert other.result(10).signal == 9
        assert session.run(["true"]).success


def test_a_program_cannot_end_the_first_process_or_the_keeper(bubblewrap: str) -> None:
    with stockade.open(bubblewrap) as session:
        session.shell("kill -9 1; kill -TERM 1; kill -INT 0")
        assert session.run(["true"]).success


def test_C7_closing_ends_what_runs(wall: str) -> None:
    mark = f"55{os.getpid()}"
    session = stockade.open(wall)
    name = leftover_name(session.session_id)
    execution = session.start(shell=f"setsid sleep {mark} & sleep {mark}")
    assert until(lambda: len(marked(f"sleep {mark}")) >= 2)
    session.close()
    assert execution.result(20).verdict is Verdict.CANCELLED
    assert gone(f"sleep {mark}") and not leftovers(name)


def test_D7_a_background_process_lives_until_the_session_ends(bubblewrap: str) -> None:
    mark = f"56{os.getpid()}"
    with stockade.open(bubblewrap) as session:
        assert session.shell(f"setsid sleep {mark} & echo started").stdout == "started\n"
        session.run(["true"])
        assert until(lambda: marked(f"sleep {mark}"))
    assert gone(f"sleep {mark}")


def test_programs_start_with_signals_as_they_should_be(bubblewrap: str) -> None:
    """In overlapping executions, too: nothing that the keeper ignores or blocks is inherited."""
    with stockade.open(bubblewrap) as session:
        held = session.start(["sleep", "30"])
        for _ in range(2):
            for name, number in (("INT", 2), ("QUIT", 3), ("PIPE", 13), ("TERM", 15)):
                assert session.run(["sh", "-c", f"kill -{name} $$"]).exit_code == 128 + number
            held.cancel()
            held.result(10)


def test_the_standard_streams_can_be_opened_by_name(bubblewrap: str) -> None:
    with stockade.open(bubblewrap) as session:
        held = session.start(["sleep", "30"])
        for _ in range(2):
            result = session.shell("echo out >/dev/stdout; echo err >/dev/stderr")
            assert (result.stdout, result.stderr) == ("out\n", "err\n")
            held.cancel()
            held.result(10)


def test_C5_a_start_that_fails_leaves_nothing_and_says_why(bubblewrap: str, shared: Path) -> None:
    """A root with a file in the place of a folder: bwrap's own words reach the caller."""
    (shared / "work").write_text("no folder\n")
    shared.joinpath("work").chmod(0o644)
    with pytest.raises(SandboxStartError, match="bwrap: Can't mkdir"):
        stockade.open(f"{bubblewrap}:{shared}", working_dir="/work/here")
    assert until(lambda: not _keepers(os.getpid()))


def test_a_shortage_of_room_for_filters_is_named(
    bubblewrap: str, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bwrap knows the kernel's answer as a number alone; another session's end mends it."""
    stand_in = shared / "bwrap"
    stand_in.write_text(
        '#!/bin/sh\n[ "$1" = --args ] || exec bwrap "$@"\n'
        "echo 'bwrap: prctl(PR_SET_SECCOMP): Unknown error 524' >&2; exit 1\n"
    )
    stand_in.chmod(0o755)
    monkeypatch.setattr(program, "find", lambda: str(stand_in))
    with pytest.raises(SandboxStartError, match=r"524: .*net\.core\.bpf_jit_limit") as raised:
        stockade.open(bubblewrap)
    assert raised.value.retryable


def _keepers(pid: int) -> list[int]:
    """A process's living children that are keepers, of whichever thread."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
            line = Path(f"/proc/{child}/cmdline").read_bytes()
            if line.startswith(b"stockade-keeper"):
                found.append(int(child))
    return found


def test_what_it_cannot_hold_is_refused(bubblewrap: str) -> None:
    with pytest.raises(UnsupportedError, match="read_only_fs"):
        stockade.open(bubblewrap, read_only_fs=False)


@pytest.mark.parametrize(
    ("target", "says"),
    [("relative", "absolute"), ("/no/such/root", "no folder"), ("/", "all of it")],
)
def test_a_target_that_cannot_be_the_root(bubblewrap: str, target: str, says: str) -> None:
    answer = stockade.provider(f"bubblewrap:{target}").availability()
    assert not answer and says in answer.reason
    with pytest.raises(stockade.StockadeError, match=says):
        stockade.open(f"bubblewrap:{target}")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user may enter."""
    made = Path(tempfile.mkdtemp(prefix="stockade-test-", dir="/var/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def test_A8_what_is_missing_is_said_with_what_mends_it(
    monkeypatch: pytest.MonkeyPatch, shared: Path
) -> None:
    monkeypatch.setattr(program, "_of_a_wheel", lambda: None)
    monkeypatch.setattr(program, "_of_the_system", lambda: None)  # what PATH would find
    reason = stockade.provider("bubblewrap").availability().reason
    assert "not installed" in reason and "apt-get install bubblewrap" in reason

    old = shared / "bwrap"
    old.write_text("#!/bin/sh\necho bubblewrap 0.3.3\n")
    old.chmod(0o755)
    monkeypatch.setattr(program, "_of_the_system", lambda: str(old))
    reason = stockade.provider("bubblewrap").availability().reason
    assert "0.3.3 is too old" in reason and "0.4 is needed" in reason

    old.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && { echo bubblewrap 0.9.0; exit; }\n'
        "echo 'bwrap: setting up uid map: Permission denied' >&2; exit 1\n"
    )
    closes = closed.explained("user", errno.ENOSPC, ordinary=True)
    monkeypatch.setattr(closed, "_found", lambda uid: closes)
    reason = stockade.provider("bubblewrap").availability().reason
    assert "setting up uid map: Permission denied" in reason
    assert closes.words in reason and closes.remedy in reason


_AS_NOBODY = """
import os, stockade
os.setgroups([]); os.setgid(65534); os.setuid(65534); os.environ["HOME"] = "/"
with stockade.open("bubblewrap") as s, stockade.open("bubblewrap") as other:
    print(s.shell("id -u; echo x > f; cat f; cat /etc/shadow; echo $?").stdout.split())
    print(s.code("x = bytearray(1 << 30)").verdict)
    held = s.start(["sleep", "30"])
    print(s.shell("grep -c '^Cap.*0000000000000000' /proc/self/status").stdout.strip())
    full = "i=0; while [ $i -lt 400 ]; do sleep 9 & i=$((i+1)); echo $i; done"
    count = int(s.shell(full, timeout=20).stdout.split()[-1])
    print(200 < count <= 256, other.run(["true"]).success)
    held.cancel()
    held.result(20)  # the room that it leaves is what the next one needs
    print(s.run(["cat", "/proc/sys/user/max_inotify_instances"]).stdout.strip())
with stockade.open("bubblewrap?limits=watch", memory_mb=128) as s:
    hog = (
        "import socket\\nkept = []\\nwhile True:\\n"
        "  ends = socket.socketpair(); kept.append(ends)\\n"
        "  ends[0].setblocking(False)\\n  try:\\n    while True: ends[0].send(bytes(65536))\\n"
        "  except BlockingIOError: pass\\n"
    )
    print(s.code(hog, timeout=20).verdict, s.run(["true"]).success)
"""


def test_an_ordinary_user_has_the_same_wall(bubblewrap: str) -> None:
    # Of what the user's sessions share, one has no more than that (E8).
    quarter = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text()) // 4
    done = run_as_other(_AS_NOBODY)
    assert done.stdout.splitlines() == [
        "['1000', 'x', '1']",
        "out of memory",
        "5",
        "True True",
        str(quarter),
        "out of memory True",
    ], done.stderr


def test_a_fork_of_the_owner_does_not_keep_the_session(bubblewrap: str) -> None:
    """It holds the link open, so its end alone would not be noticed."""
    mark = f"57{os.getpid()}"
    code = _OWNER.replace(
        "print(session", "import os\nif os.fork() == 0: time.sleep(30); os._exit(0)\nprint(session"
    )
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, bubblewrap, mark],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        assert process.stdout is not None
        name = leftover_name(process.stdout.readline().decode().strip())
        process.kill()
        try:
            assert gone(f"sleep {mark}") and until(lambda: not leftovers(name))
        finally:
            os.killpg(process.pid, signal.SIGKILL)
