"""A landlock session as one process tree: what its supervisors and its keeper settle."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import time
from collections.abc import Iterator

import pytest

import stockade
from plugins.landlock.processes import gone, marked
from stockade import SandboxLostError, Session, SessionStateError, Verdict
from stockade_landlock import seccomp
from stockade_landlock.session import LandlockSandbox


@pytest.fixture
def session(landlock: str) -> Iterator[Session]:
    with stockade.open(landlock, memory_mb=256, max_processes=64, disk_mb=8) as opened:
        yield opened


def lanes(session: Session) -> int:
    sandbox = session._record.sandbox
    assert isinstance(sandbox, LandlockSandbox)
    return len(sandbox._lanes)


def works(session: Session) -> bool:
    return session.run(["echo", "next"], timeout=20).stdout == "next\n"


# -- what programs find ------------------------------------------------------------


def test_signals_are_as_they_should_be_at_the_start(session: Session) -> None:
    """In the first lane, in a further one, and in warm Python."""
    busy = session.start(["sleep", "30"])
    code = "print(open('/proc/self/status').read())"
    for result in (
        session.run(["cat", "/proc/self/status"]),
        session.run(["cat", "/proc/self/status"]),
        session.code(code),
    ):
        ignored = int(result.stdout.partition("SigIgn:")[2].split()[0], 16)
        wrong = [number for number in (1, 2, 3, 14, 15) if ignored & 1 << (number - 1)]
        assert not wrong, result
    busy.cancel()


def test_D2_signals_are_named_when_the_disk_is_full_or_emptied(session: Session) -> None:
    session.shell("cat /dev/zero > /tmp/full; cat /dev/zero > full")
    assert session.shell("kill -9 $$").signal == 9
    overlapping = [session.start(["sh", "-c", "sleep 0.2; kill -9 $$"]) for _ in range(3)]
    assert [execution.result(30).signal for execution in overlapping] == [9, 9, 9]
    session.shell("rm -rf full /tmp/* /tmp/.[!.]*")
    assert session.shell("kill -SEGV $$").signal == 11


# -- trees -------------------------------------------------------------------------


def test_D12_a_cancel_that_comes_at_once(session: Session) -> None:
    for pause in (0, 0.001, 0.002, 0.003, 0.004, 0.006, 0.01, 0.02):
        execution = session.start(["sleep", "30"])
        time.sleep(pause)
        execution.cancel()
        assert execution.result(10).verdict is Verdict.CANCELLED
        assert works(session)


def test_D6_a_program_that_hides_its_mark(session: Session) -> None:
    mark = f"41{os.getpid()}"
    line = f"ulimit -d 100000; setsid sh -c 'sleep {mark} & sleep {mark}' & sleep 0.1; sleep {mark}"
    other = session.start(["sleep", f"42{os.getpid()}"])
    assert session.shell(line, timeout=1).verdict is Verdict.TIMED_OUT
    assert gone(f"sleep {mark}", 2) and marked(f"sleep 42{os.getpid()}")
    other.cancel()


def test_D7_children_stay_and_their_lane_comes_back(session: Session) -> None:
    mark = f"43{os.getpid()}"
    session.shell(f"sleep {mark} & echo $!")
    for _ in range(12):
        session.shell("sleep 0.1 &")
    assert marked(f"sleep {mark}")
    deadline = time.monotonic() + 30
    while lanes(session) > 9 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert lanes(session) <= 9  # eight to spare, and the one that the child keeps
    assert session.shell(f"pkill -f 'sleep {mark}'").success or shutil.which("pkill") is None


def test_E4_the_process_limit_is_the_sessions(session: Session) -> None:
    line = "i=0; while [ $i -lt {} ]; do sleep {} & i=$((i+1)); echo; done"
    assert session.shell(line.format(40, 60)).stdout.count("\n") == 40
    assert session.shell(line.format(60, 3)).stdout.count("\n") < 64 - 40
    assert works(session)  # as soon as some have ended


# -- memory ------------------------------------------------------------------------

_HOG = "import time\nx = bytearray({} << 20)\nprint('up', flush=True)\ntime.sleep(30)"


def test_E5_the_execution_that_uses_most_is_ended(session: Session) -> None:
    small = session.start(["python3", "-c", _HOG.format(60)])
    time.sleep(0.5)
    assert session.code(_HOG.format(400), timeout=20).verdict is Verdict.OUT_OF_MEMORY
    assert session.run(["sh", "-c", "exit 137"]).verdict is Verdict.EXITED
    assert not small.future.done()
    small.cancel()


def test_E5_what_was_left_behind_counts_and_blames_nobody(session: Session) -> None:
    mark = f"44{os.getpid()}"
    hog = f"import time; time.sleep(0.3); x = bytearray(400 << 20); time.sleep({mark})"
    session.shell(f'python3 -c "{hog}" &')
    result = session.shell("sleep 3; exit 137", timeout=20)
    assert (result.verdict, result.exit_code) == (Verdict.EXITED, 137)
    assert gone(mark, 2) and works(session)


def test_E5_a_named_interpreter(session: Session) -> None:
    session.code("x = 1", state="n")
    assert session.code("while True: pass", state="n", timeout=0.5).verdict is Verdict.TIMED_OUT
    assert session.code("x = bytearray(1 << 30)", state="n").verdict is Verdict.OUT_OF_MEMORY
    assert session.code("print('x' in dir())", state="n").stdout == "False\n"
    session.code("y = 2", state="n")
    assert session.code("print(y)", state="n").stdout == "2\n"


# -- tampering ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "kill -9 $PPID",
        "kill -STOP $PPID",
        "kill -STOP -1",
        "kill -9 -1",
        "kill 0; kill -9 0",
        "for f in /proc/$PPID/fd/*; do printf 'e\\nk\\n.\\nq\\n' > $f; done",
        "for f in /proc/$PPID/fd/*; do timeout 0.2 cat $f; done",
        "printf '\\035%032d0 0 0 0 1\\n' 0",
        "for p in /proc/[0-9]*; do [ $p = /proc/$$ ] || kill -9 ${p#/proc/}; done",
        "exec >&- 2>&- </dev/null",
    ],
    ids=["kill", "stop", "stop all", "kill all", "group", "write", "read", "forge", "one by one",
         "close"],
)  # fmt: skip
def test_who_tampers_spoils_at_most_its_own_session(landlock: str, line: str) -> None:
    mark = f"45{os.getpid()}"
    with stockade.open(landlock) as bystander, stockade.open(landlock) as session:
        other = bystander.start(["sleep", "60"])
        began = time.monotonic()
        with contextlib.suppress(SandboxLostError):
            session.shell(f"setsid sleep {mark} & {line}; sleep {mark}", timeout=1)
        with contextlib.suppress(SandboxLostError, SessionStateError):
            session.run(["true"], timeout=5)
        assert time.monotonic() - began < 20
        session.close()
        assert gone(f"sleep {mark}", 2)
        assert not other.future.done() and works(bystander)
        other.cancel()


_TAMPER_WITH = """
import ctypes, os, resource, sys
libc, pid, ours = ctypes.CDLL(None), int(sys.argv[1]), os.getpid()
tries = {
    "a limit": lambda: resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0)),
    "a priority": lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),
    "all priorities": lambda: os.setpriority(os.PRIO_USER, 0, 19),
    "a policy": lambda: os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0)),
    "an affinity": lambda: os.sched_setaffinity(pid, [0]),
    "a signal": lambda: os.kill(pid, 0),
}
for name, call in tries.items():
    try:
        call()
    except OSError:
        continue
    print(name)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
os.setpriority(os.PRIO_PROCESS, 0, 1)
print("its own")
"""


def test_E8_limits_and_priorities_of_others_stay(session: Session, landlock: str) -> None:
    """Same user, so the kernel lets them; Landlock keeps signals alone."""
    with stockade.open(landlock) as other:
        sandbox = other._record.sandbox
        assert isinstance(sandbox, LandlockSandbox)
        result = session.run(["python3", "-c", _TAMPER_WITH, str(sandbox.keeper_pid)])
    assert result.stdout == "its own\n", result


def test_the_keepers_filter_is_what_it_should_be() -> None:
    """Interpreted here, since the kernel of the other machine is not."""
    for machine in seccomp.SUPPORTED:
        arch, refused, guarded = seccomp._MACHINES[machine]
        limits, *others = guarded
        for number in range(470):
            answer = _filter(machine, arch, number, 0, 0)
            assert answer is not (number in refused) or number in others
            assert not _filter(machine, arch ^ 1, number) and not _filter(machine, arch, 1 << 30)
        assert _filter(machine, arch, limits, 7, 1, 0) and _filter(machine, arch, limits, 0, 1, 9)
        assert not _filter(machine, arch, limits, 7, 1, 9)
        assert not _filter(machine, arch, limits, 7, 1, 9 << 32)
        for number in others:
            assert not _filter(machine, arch, number, 7, 7)


def _filter(machine: str, arch: int, number: int, *arguments: int) -> bool:
    """Whether the filter allows the call."""
    code = seccomp._program(machine)
    lines = [struct.unpack_from("=HBBI", code, at) for at in range(0, len(code), 8)]
    call = struct.pack("<IIQ6Q", number, arch, 0, *(*arguments, *([0] * 6))[:6])
    at, held = 0, 0
    while True:
        kind, yes, no, value = lines[at]
        at += 1
        if kind == seccomp._LOAD:
            (held,) = struct.unpack_from("<I", call, value)
        elif kind == seccomp._JUMP:
            at += value
        elif kind == seccomp._JUMP_EQUAL:
            at += yes if held == value else no
        elif kind == seccomp._JUMP_AT_LEAST:
            at += yes if held >= value else no
        else:
            return bool(value == seccomp._ALLOW)
