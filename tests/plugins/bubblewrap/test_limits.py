"""Memory, processes, cpu: by cgroup, and watched."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import stockade
from plugins.bubblewrap.conftest import gone, groups, inner, leftover_name
from stockade import Session, Verdict
from stockade.toolkit.local import cgroups

HOGS = {
    "one object": "x = bytearray(1 << 30)",
    "mapped": "import mmap\nm = mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE)\n"
    "for i in range(0, 1 << 30, 4096): m[i] = 1",
    "children": "import os\nfor _ in range(8):\n"
    "  if os.fork() == 0: x = bytearray(64 << 20); import time; time.sleep(20); os._exit(0)\n"
    "while True: _, status = os.wait(); os._exit(os.WTERMSIG(status) and 128 + 9)",
}


@pytest.mark.parametrize("hog", HOGS)
def test_E5_the_memory_limit(wall: str, hog: str) -> None:
    with stockade.open(wall, memory_mb=128) as session:
        result = session.code(HOGS[hog], timeout=30)
        assert result.verdict is Verdict.OUT_OF_MEMORY, result
        assert session.run(["true"]).success
        assert session.code("print(1)").stdout == "1\n"


def test_E5_one_execution_among_several(wall: str) -> None:
    """The verdict is the hog's alone, whatever else runs beside it and ends as it does."""
    with stockade.open(wall, memory_mb=192) as session:
        quiet = session.start(["sleep", "30"])
        late = session.start(["sleep", "30"], timeout=1.0)
        hog = session.start(code="x = bytearray(1 << 30)", timeout=30)
        assert hog.result(40).verdict is Verdict.OUT_OF_MEMORY
        assert late.result(20).verdict is Verdict.TIMED_OUT
        killed = session.start(["sh", "-c", "sleep 0.2; kill -9 $$"])
        exits = session.start(["sh", "-c", "sleep 0.2; exit 137"])
        assert killed.result(20).verdict is Verdict.SIGNALLED
        assert (exits.result(20).verdict, exits.result().exit_code) == (Verdict.EXITED, 137)
        assert not quiet.future.done()
        quiet.cancel()


def test_E5_the_watch_knows_whom_it_ended(bubblewrap: str) -> None:
    """Others that end by SIGKILL, or as if, in the same moment are not taken for the hog."""
    with stockade.open(f"{bubblewrap}?limits=watch", memory_mb=64) as session:
        line = "python3 -c 'x = bytearray(1 << 30)'; exit 0"
        assert session.shell(line, timeout=30).verdict is Verdict.EXITED  # a child was ended
        assert session.shell("exit 137").verdict is Verdict.EXITED
        for _ in range(3):
            hog = session.start(code="x = bytearray(1 << 30)", timeout=30)
            others = [session.start(["sh", "-c", f"sleep 0.{n}; kill -9 $$"]) for n in range(5)]
            assert hog.result(40).verdict is Verdict.OUT_OF_MEMORY
            for other in others:
                assert other.result(20).verdict is Verdict.SIGNALLED


def test_E5_memory_of_nobodys(grouped: str) -> None:
    """A file in memory belongs to no process; the cgroup counts it. Who is ended for it is
    the program, small as it is, and not what starts the next one."""
    with stockade.open(grouped, memory_mb=64, disk_mb=1024) as session:
        code = "import os\nf = os.memfd_create('x')\nwhile True: os.write(f, bytes(1 << 20))\n"
        for _ in range(3):
            assert session.code(code, timeout=30).verdict is Verdict.OUT_OF_MEMORY
            assert session.code("print(1)", timeout=10).stdout == "1\n"
        result = session.shell("head -c 300000000 /dev/zero > big", timeout=30)
        assert result.verdict is Verdict.OUT_OF_MEMORY


def test_E5_watched_memory_of_nobodys_is_refused(bubblewrap: str) -> None:
    with stockade.open(f"{bubblewrap}?limits=watch") as session:
        code = (
            "import ctypes, os\ntry: os.memfd_create('x')\nexcept OSError: print('refused')\n"
            "print(ctypes.CDLL(None).shmget(0, 1 << 20, 0o1600))\n"
        )
        assert session.code(code).stdout == "refused\n-1\n"


def test_E4_processes(wall: str) -> None:
    with stockade.open(wall, max_processes=64) as session:
        code = (
            "import os, time\nn = 0\ntry:\n"
            "  while n < 300:\n"
            "    if os.fork() == 0: time.sleep(1.5); os._exit(0)\n"
            "    n += 1\n"
            "except OSError as e: print(n, e.errno)\n"
        )
        result = session.code(code, timeout=20)
        assert result.success and len(result.stdout.split()) == 2, result
        count, number = map(int, result.stdout.split())
        assert 32 < count <= 64 and number == 11
        assert session.run(["true"]).success


def test_E4_threads_count_too(wall: str) -> None:
    with stockade.open(wall, max_processes=64) as session:
        code = (
            "import threading\nn = 0\ntry:\n"
            "  while n < 300: threading.Thread(target=threading.Event().wait, daemon=True)"
            ".start(); n += 1\n"
            "except RuntimeError: print(n, flush=True)\n"
            "import os; os._exit(0)\n"
        )
        assert 32 < int(session.code(code, timeout=20).stdout) <= 64


def test_E4_sessions_do_not_share_their_processes(wall: str) -> None:
    """They may be one user's, by which the kernel counts: a full one takes nothing of another."""
    with (
        stockade.open(wall, max_processes=32) as full,
        stockade.open(wall, max_processes=32) as other,
    ):
        full.shell("i=0; while [ $i -lt 60 ]; do sleep 20 & i=$((i+1)); done", timeout=20)
        line = "i=0; while [ $i -lt 20 ]; do sleep 1 & i=$((i+1)); done; wait; echo all"
        result = other.shell(line, timeout=20)
        assert result.stdout == "all\n", result


def test_D6_a_bomb_of_forks_ends_at_its_timeout(wall: str) -> None:
    mark = f"42{os.getpid()}"
    with stockade.open(wall, max_processes=128) as session:
        line = f"f() {{ setsid sleep {mark} & f & f & }}; f & exec sleep {mark}"
        assert session.shell(line, timeout=1).verdict is Verdict.TIMED_OUT
        assert gone(f"sleep {mark}")
        assert session.run(["true"]).success


def _spent(session: Session, seconds: int) -> float:
    """Cpu time for each second of three programs that only compute, as the kernel counts it."""
    line = (
        f"for i in 1 2 3; do timeout {seconds} setsid sh -c 'while :; do :; done' & done; "
        "wait; times"
    )
    began = time.monotonic()
    result = session.shell(line, timeout=60)
    elapsed = time.monotonic() - began
    parts = (part.split("m") for part in result.stdout.splitlines()[-1].split())
    return sum(float(m) * 60 + float(s.rstrip("s")) for m, s in parts) / elapsed


def test_E6_the_cpu_limit_holds_for_the_whole_tree(wall: str) -> None:
    with stockade.open(wall, cpu_limit=0.25) as session:
        assert _spent(session, 3) < 0.25 * 1.4


def test_E6_a_storm_of_short_programs_is_counted(wall: str) -> None:
    with stockade.open(wall, cpu_limit=0.25) as session:
        session.run(["true"])
        used = _used(session)
        began = time.monotonic()
        session.shell("while :; do /bin/true; done", timeout=3)
        assert (_used(session) - used) / (time.monotonic() - began) < 0.25 * 1.6


def _used(session: Session) -> float:
    """Seconds of cpu of the sandbox's first process and all that it waited for."""
    total = 0.0
    waiting = [inner(session).init_pid]
    while waiting:
        pid = waiting.pop()
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            waiting += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        except OSError:
            continue
        total += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return total


def test_a_throttled_program_goes_on_where_it_was(bubblewrap: str) -> None:
    """Stopping it for its share must not wake what stopped itself, nor lose anything."""
    with stockade.open(f"{bubblewrap}?limits=watch", cpu_limit=0.5) as session:
        code = (
            "import os, signal, time\n"
            "pid = os.fork()\n"
            "if pid == 0: os.kill(os.getpid(), signal.SIGSTOP); os._exit(7)\n"
            "total = 0\nend = time.time() + 1.5\n"
            "while time.time() < end: total += 1\n"
            "print(os.waitpid(pid, os.WNOHANG))\n"
            "os.kill(pid, signal.SIGCONT); print(os.waitpid(pid, 0)[1] >> 8)\n"
        )
        assert session.code(code, timeout=20).stdout == "(0, 0)\n7\n"


def test_limits_are_where_they_are_said_to_be(grouped: str) -> None:
    levels = {
        name: str(stockade.provider(grouped).wall.capabilities[name].level)
        for name in ("memory", "cpu", "processes", "pause")
    }
    assert set(levels.values()) == {"native"}
    with stockade.open(grouped) as session:
        name = leftover_name(session.session_id)
        assert len(groups(name)) == len(set(cgroups.parents().values()))
        group = cgroups.Group(cgroups.parents(), name)
        assert inner(session).init_pid in group.processes()
    assert not groups(name)


def test_without_a_cgroup_what_needs_one_is_refused(
    bubblewrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cgroups.parents.cache_clear()
    monkeypatch.setattr(cgroups, "_own", dict)
    try:
        assert not cgroups.parents()
        with stockade.open(bubblewrap) as session:
            have = session.provider.wall.capabilities
            assert str(have["memory"].level) == "emulated" and not have["pause"]
            assert session.code("x = bytearray(1 << 30)").verdict is Verdict.OUT_OF_MEMORY
        with pytest.raises(stockade.UnsupportedError, match="memory"):
            stockade.open(f"{bubblewrap}?limits=cgroup")
    finally:
        cgroups.parents.cache_clear()
