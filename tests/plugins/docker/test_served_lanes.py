"""Lanes that their zygote serves alone (gVisor): as the shell's own, and as hard to break."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest

import stockade
from conftest import need
from plugins.docker.conftest import BUSYBOX, PYTHON, is_lost, until
from stockade.errors import SandboxLostError, SessionStateError, WorkingDirectoryError
from stockade.resident.lane import Lane
from stockade.results import SandboxResult, Verdict
from stockade.session import Session

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("engine")]

FILES = r"""
printf 'echo shebang-less $0 $*\n' >plain; printf '#!/nope\n' >bad; : >mode; mkdir -p folder
chmod +x plain bad
"""
#: What must be the same whichever serves the lane.
CASES: dict[str, Callable[[Session], SandboxResult]] = {
    "environment": lambda s: s.run(["env"], env={"B": "x\ny='z", "EMPTY": ""}),
    "elsewhere": lambda s: s.run(["env"], working_dir="/tmp"),
    "its PATH": lambda s: s.run(["plain", "a b"], env={"PATH": "/nope:/workspace:/bin"}),
    "no PATH": lambda s: s.run(["/usr/bin/env"], env={"PATH": ""}),
    "missing": lambda s: s.run(["nope"]),
    "missing file": lambda s: s.run(["./nope"]),
    "a folder": lambda s: s.run(["./folder"]),
    "no shebang": lambda s: s.run(["./plain", "a", "b c"]),
    "a shebang of nothing": lambda s: s.run(["./bad"]),
    "no mode": lambda s: s.run(["./mode"]),
    "no mode in PATH": lambda s: s.run(["mode"], env={"PATH": "/workspace"}),
    "a shell's own word": lambda s: s.run(["echo", "-n", "", "x"]),
    "an argument too long": lambda s: s.run(["echo", "y" * 200_000]),
    "limits": lambda s: s.shell("ulimit -a; umask"),
    "descriptors": lambda s: s.run(["sh", "-c", "for n in 3 4 5 6 7 8 9; do : <&$n; done"]),
    "a handled signal": lambda s: s.run(["sh", "-c", "trap 'echo got' INT; kill -2 $$"]),
    "a pipe that ends": lambda s: s.shell("yes | head -n 1"),
    "killed": lambda s: s.run(["sh", "-c", "kill -9 $$"]),
    "a killed child": lambda s: s.shell("sh -c 'kill -9 $$'; exit $?"),
    "its own 137": lambda s: s.run(["sh", "-c", "exit 137"]),
    "input": lambda s: s.run(["cat"], stdin=b"abc\n" * 20_000),
    "input of nobody": lambda s: s.run(["true"], stdin=b"abc\n" * 50_000),
    "no input": lambda s: s.run(["cat"]),
    "a line": lambda s: s.shell("echo $0 $#; cat", stdin=b"in"),
    "a long line": lambda s: s.shell(f"x={'y' * 200_000}; echo ${{#x}}; cat", stdin=b"in"),
    "a line that is none": lambda s: s.shell("if"),
    "another language": lambda s: s.code("echo hi; exit 4", language="sh"),
}  # fmt: skip


@pytest.fixture
def unserved() -> Iterator[Session]:
    need("gvisor")
    with stockade.open(f"gvisor:{PYTHON}", env_vars={"A": "1 2"}) as opened:
        yield opened


@pytest.fixture
def session(unserved: Session) -> Session:
    """One whose lane is served."""
    hand_over(unserved)
    return unserved


def lane_of(session: Session) -> Lane:
    sandbox: Any = session._record.sandbox
    lane: Lane = sandbox._lanes[0]
    assert until(lambda: lane in sandbox._idle)  # else another would be opened and taken
    return lane


def hand_over(session: Session) -> None:
    lane = lane_of(session)
    lane._due = 0
    assert until(lambda: session.run(["true"]).success and lane.served)


def told(result: SandboxResult) -> tuple[Any, ...]:
    lines = sorted(result.stdout.splitlines())
    # A syntax error's line is the only thing a here-document moves.
    return result.verdict, result.exit_code, lines, result.stderr.replace("sh: 2:", "sh: 1:")


def test_all_is_as_in_the_shells_own(unserved: Session) -> None:
    session = unserved
    lane_of(session)._due = None
    session.shell(FILES)
    before = {}
    for name, run in CASES.items():
        assert not lane_of(session).served
        before[name] = told(run(session))
    hand_over(session)
    for _ in range(2):
        for name, run in CASES.items():
            lane_of(session)
            assert (name, told(run(session))) == (name, before[name])
    with pytest.raises(WorkingDirectoryError):
        session.run(["true"], working_dir="/nope")


def pid_inside(session: Session) -> int:
    lane = lane_of(session)
    assert lane.hello is not None
    return lane.hello.zygote


def test_a_lane_is_handed_over_in_a_pause(unserved: Session) -> None:
    """Nobody waits for that: it needs no execution, and none is delayed by it."""
    lanes = unserved._record.sandbox._lanes  # type: ignore[union-attr]
    assert until(lambda: lanes[0].served, 5)
    assert unserved.run(["true"]).success and list(lanes) == [0]


def test_code_finds_nothing_of_what_ran_before(session: Session) -> None:
    session.code("1")
    leak = "import os, sys; os.environ['LEAK'] = '1'; os.chdir('/tmp'); sys.LEAK = 1"
    look = "import os, sys; print('LEAK' in os.environ, os.getcwd(), hasattr(sys, 'LEAK'), "
    look += "os.environ['PATH'], sys.stdin.read(), sys.argv, __name__)"
    for pause in (0.0, 0.2, 0.0):  # forked when it is asked for, and ahead
        time.sleep(pause)
        assert session.code(leak, env={"PATH": "/x"}).success
        session.run(["true"], env={"PATH": "/usr/bin:/bin:/y"})
        time.sleep(pause)
        seen = session.code(look, stdin=b"in").stdout
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        assert seen == f"False /workspace False {path} in ['-c'] __main__\n"
    with pytest.raises(WorkingDirectoryError):
        session.code("1", working_dir="/nope")


def test_a_named_interpreter_beside_code(session: Session) -> None:
    for number in range(3):
        time.sleep(0.1)
        assert session.code(f"n = {number}; print(n)", state="a").stdout == f"{number}\n"
        time.sleep(0.1)
        assert session.code("print('n' in globals())", stdin=b"x").stdout == "False\n"
    late = session.code("import time; time.sleep(60)", state="a", timeout=0.5)
    assert late.verdict is Verdict.TIMED_OUT
    assert session.code("print('n' in globals())", state="a").stdout == "False\n"


@pytest.mark.parametrize("signal", ["KILL", "STOP"])
def test_who_ends_what_waits_for_code_harms_nothing(session: Session, signal: str) -> None:
    zygote = pid_inside(session)
    line = f"""
    for p in /proc/[0-9]*; do p=${{p#/proc/}}
      read -r _ _ _ parent _ </proc/$p/stat
      [ $parent != {zygote} ] || [ $p = $$ ] || {{ kill -%s $p; echo $p; }}
    done"""
    assert until(lambda: len(session.shell(line % 0).stdout.split()) == 3)
    assert len(session.shell(line % signal).stdout.split()) == 3
    result = session.code("print(6 * 7)", timeout=2)
    # What is stopped may be in the way of one, and no longer than that may take.
    assert result.stdout == "42\n" if signal == "KILL" else result.verdict is Verdict.TIMED_OUT
    assert session.code("print(6 * 7)", timeout=30).stdout == "42\n"


def test_who_ends_the_zygote_ends_the_session(session: Session) -> None:
    with pytest.raises(SandboxLostError):
        session.shell(f"kill -9 {pid_inside(session)}; sleep 60", timeout=50)
    with pytest.raises(SessionStateError):
        session.run(["true"])


def test_a_stopped_zygote_costs_its_own_session(session: Session) -> None:
    line = f"kill -STOP {pid_inside(session)}; sleep 60"
    assert session.shell(line, timeout=1).verdict is Verdict.TIMED_OUT
    with pytest.raises(SandboxLostError):
        session.run(["true"], timeout=10)


def test_who_hides_in_the_place_of_what_waits_for_code_is_missed(session: Session) -> None:
    """gVisor lets a program take off its mark (D6); the count of processes tells. One that
    ends the child forked ahead does not make up for itself by that."""
    time.sleep(0.2)
    hide = f"""
    for p in /proc/[0-9]*; do p=${{p#/proc/}}
      read -r _ _ _ parent _ </proc/$p/stat
      [ $parent != {pid_inside(session)} ] || [ $p = $$ ] || kill -9 $p
    done
    (echo 0 >/proc/self/oom_score_adj; exec setsid sleep 611) & exec sleep 60"""
    assert session.shell(hide, timeout=2).verdict is Verdict.TIMED_OUT
    assert until(lambda: is_lost(session), 10)


def test_programs_that_were_left_are_found_among_served_lanes(session: Session) -> None:
    """Their late output is nobody's (D7), though the lanes' shells have ended."""
    session.code("1")
    session.shell("(sleep 0.4; echo late) & exit 0")
    outs = set()
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        outs.add(session.shell("echo mine").stdout)
    assert outs == {"mine\n"}


def test_many_at_once_in_served_lanes(session: Session) -> None:
    session.code("1")
    handles = [session.stream(["sh", "-c", f"sleep 0.3; echo {n}"]) for n in range(4)]
    codes = [session.code(f"print({n})").stdout for n in range(4)]
    assert codes == [f"{n}\n" for n in range(4)]
    assert [handle.result().stdout for handle in handles] == [f"{n}\n" for n in range(4)]
    late = session.shell("setsid sleep 60 & sleep 60", timeout=0.5)
    assert late.verdict is Verdict.TIMED_OUT
    assert "sleep" not in session.shell("cat /proc/[0-9]*/comm").stdout


@pytest.fixture
def broken(engine: docker.APIClient) -> Iterator[str]:
    """An image whose interpreter does not work."""
    name = "stockade-test/broken"
    write = "printf '#!/bin/sh\\nexit 1\\n' >/bin/python3; chmod 755 /bin/python3"
    made = engine.create_container(BUSYBOX, ["sh", "-c", write])["Id"]
    try:
        engine.start(made)
        assert engine.wait(made)["StatusCode"] == 0
        engine.commit(made, name)
    finally:
        engine.remove_container(made, force=True)
    yield name
    engine.remove_image(name, force=True)


@pytest.mark.parametrize("wall", ["docker", "gvisor"])
def test_an_interpreter_that_does_not_work_is_in_nobodys_way(wall: str, broken: str) -> None:
    need(wall)
    with stockade.open(f"{wall}:{broken}") as session:
        for _ in range(4):
            assert session.run(["echo", "on"]).stdout == "on\n"
            time.sleep(0.4)
        assert not lane_of(session).served
        result = session.code("print(1)", stdin=b"in", timeout=30)
        assert (result.exit_code, result.verdict) == (126, Verdict.EXITED)
        assert "does not work here" in result.stderr
        assert session.run(["cat"], stdin=b"on").stdout == "on"
