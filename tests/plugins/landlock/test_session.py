"""A landlock session as one process tree: what its supervisor and its keeper settle."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator

import pytest

import stockade
from plugins.landlock.processes import gone, marked
from stockade import SandboxLostError, Session, SessionStateError, Verdict
from stockade.toolkit.local import LocalSandbox


@pytest.fixture
def session(landlock: str) -> Iterator[Session]:
    with stockade.open(landlock, memory_mb=256, max_processes=64, disk_mb=8) as opened:
        yield opened


@pytest.fixture
def watched(landlock: str) -> Iterator[Session]:
    with stockade.open(f"{landlock}?limits=watch", memory_mb=256) as opened:
        yield opened


def works(session: Session) -> bool:
    return session.run(["echo", "next"], timeout=20).stdout == "next\n"


# -- what programs find ------------------------------------------------------------


def test_signals_are_as_they_should_be_at_the_start(session: Session) -> None:
    """Beside another execution, and in warm Python."""
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


def test_D7_children_stay(session: Session) -> None:
    mark = f"43{os.getpid()}"
    session.shell(f"sleep {mark} & echo $!")
    for _ in range(12):
        session.shell("sleep 0.1 &")
    assert marked(f"sleep {mark}")
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


def test_E5_what_was_left_behind_counts_and_blames_nobody(watched: Session) -> None:
    """A kernel that ends programs by itself only counts them; the watch knows which."""
    session = watched
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
    ids=[
        "kill",
        "stop",
        "stop all",
        "kill all",
        "group",
        "write",
        "read",
        "forge",
        "one by one",
        "close",
    ],
)
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
    "the supervisor's limit": lambda: resource.prlimit(1, resource.RLIMIT_CORE, (0, 0)),
    "the supervisor's priority": lambda: os.setpriority(os.PRIO_PROCESS, 1, 19),
    "the supervisor": lambda: os.kill(1, 9) or os.kill(1, 0) or open("/proc/1/mem", "rb"),
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
os.setpriority(os.PRIO_PROCESS, 0, 19)
print("its own")
"""


def test_E8_limits_and_priorities_of_others_stay(session: Session, landlock: str) -> None:
    """Same user, so the kernel would let them; but they are in no sight."""
    with stockade.open(landlock) as other:
        sandbox = other._record.sandbox
        assert isinstance(sandbox, LocalSandbox)
        result = session.run(["python3", "-c", _TAMPER_WITH, str(sandbox.keeper.pid)])
    assert result.stdout == "its own\n", result
