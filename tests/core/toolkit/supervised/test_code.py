"""Code behind a real supervisor: warm, named and cold, and what becomes of each."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockade.errors import WorkingDirectoryError
from stockade.executions._output import BoundedOutput
from stockade.results import Stream
from stockade.toolkit.supervised import SocketTransport, SupervisedSandbox
from stockade.wall import ExecRequest, Exit, Form, Running
from stockade_supervisor import binary


class Here(SupervisedSandbox):
    """A supervisor as this machine's own process, with nothing around it."""

    def __init__(self, *before: str) -> None:
        """``before``: a command that starts another one."""
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [*before, binary(), "serve"], stdin=theirs.fileno(), stdout=theirs.fileno()
            )
        super().__init__(SocketTransport(ours), startup_seconds=10)

    def destroy(self) -> None:
        self.process.wait(10)

    def begin(self, script: str, **fields: Any) -> tuple[Running, BoundedOutput]:
        fields = {"working_dir": "/", "language": "python", "form": Form.CODE, **fields}
        fields.setdefault("interpreter", sys.executable)
        output = BoundedOutput(1 << 20)
        request = ExecRequest(execution_id="x", script=script, **fields)
        return self.start(request, output), output

    def run(self, script: str, **fields: Any) -> tuple[Exit, str, str]:
        running, output = self.begin(script, **fields)
        ended = running.wait()
        out, err = (output.data(stream).decode() for stream in (Stream.STDOUT, Stream.STDERR))
        return ended, out, err


@pytest.fixture
def sandbox() -> Iterator[Here]:
    made = Here()
    yield made
    made.close()


def waiting_interpreters(above: int) -> Iterator[int]:
    """Those below a process: what a program may reach, since supervisors hide."""
    for child in Path(f"/proc/{above}/task/{above}/children").read_text().split():
        if b"run()" in Path(f"/proc/{child}/cmdline").read_bytes():
            yield int(child)
        yield from waiting_interpreters(int(child))


@pytest.mark.parametrize(("own", "programs"), [(0, 500), (700, 700)], ids=["light", "as in a pod"])
def test_D16_who_goes_for_an_interpreter_that_waits_changes_no_weight_of_the_next_code(
    own: int, programs: int
) -> None:
    """For the kernel's choice of what ends when memory is used up."""
    look = "import time; time.sleep(0.2); print(open('/proc/self/oom_score_adj').read())"
    weigh = 'echo "$0" >/proc/self/oom_score_adj; exec "$@"'
    sandbox = Here("sh", "-c", weigh, str(own))
    try:
        assert int(sandbox.run(look)[1]) == programs
        until = time.monotonic() + 10
        while not (found := list(waiting_interpreters(sandbox.process.pid))):
            assert time.monotonic() < until
            time.sleep(0.05)
        for pid in found:
            Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
        assert int(sandbox.run(look)[1]) == programs
    finally:
        sandbox.close()


def test_code_is_warm_and_each_time_clean(sandbox: Here) -> None:
    look = "import os, sys; print(os.getppid(), sys.argv, 'x' in globals()); x = 1"
    seen = [sandbox.run(look) for _ in range(4)][1:]  # the first starts cold
    parents = {out.split()[0] for _, out, _ in seen}
    assert len(parents) == 1, seen
    assert {out.split(maxsplit=1)[1] for _, out, _ in seen} == {"['-c'] False\n"}
    assert sandbox.run("import sys; print(sys.stdin.read()); sys.exit(3)", stdin=b"in") == (
        Exit(code=3),
        "in\n",
        "",
    )
    assert sandbox.run("import os; os.abort()")[0] == Exit(signal=6)
    assert sandbox.run("1 / 0")[2].splitlines()[1:3] == [
        '  File "/proc/self/fd/9", line 1, in <module>',
        "    1 / 0",
    ]


def test_a_named_interpreter_keeps_its_variables(sandbox: Here) -> None:
    """D20"""
    assert sandbox.run("x = 41", state="a")[0] == Exit(code=0)
    assert sandbox.run("x += 1; print(x)", state="a")[1] == "42\n"
    assert "NameError" in sandbox.run("print(x)", state="b")[2]
    assert sandbox.run("exit(5)", state="a")[0] == Exit(code=5)
    assert "NameError" in sandbox.run("print(x)", state="a")[2]


def test_both_end_at_once_and_alone(sandbox: Here) -> None:
    """D6, D11"""
    sandbox.run("x = 1", state="a")
    sandbox.run("x = 2", state="b")
    for state in (None, "a"):
        running, _ = sandbox.begin("import time; time.sleep(300)", state=state)
        beside, output = sandbox.begin("import time; time.sleep(0.5); print(1)")
        threading.Timer(0.2, running.kill).start()
        began = time.monotonic()
        assert running.wait() == Exit(signal=9)
        assert time.monotonic() - began < 5
        assert beside.wait() == Exit(code=0)
        assert output.data(Stream.STDOUT) == b"1\n"
    assert sandbox.run("print('x' in globals())", state="a")[1] == "False\n"
    assert sandbox.run("print(x)", state="b")[1] == "2\n"


def test_a_folder_that_is_missing_is_named(sandbox: Here) -> None:
    """D9"""
    for state in (None, "a"):
        with pytest.raises(WorkingDirectoryError, match="/no/such"):
            sandbox.run("1", working_dir="/no/such", state=state)
        assert sandbox.run("print(1)", state=state)[1] == "1\n"


def test_an_interpreter_that_cannot_be_warm_starts_cold(sandbox: Here, tmp_path: Path) -> None:
    """A Python without sockets; once one was asked for in vain it is known."""
    python = tmp_path / "python"
    log = tmp_path / "log"
    python.write_text(
        f'#!/bin/sh\necho . >> {log}\ncase $3 in *"exec(source)"*) exit 1;; esac\n'
        f'case $2 in *"exec(source)"*) exit 1;; esac\nexec {sys.executable} "$@"\n'
    )
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    starts = []
    for _ in range(5):
        seen = sandbox.run("print(1); exit(3)", interpreter=str(python))
        assert seen == (Exit(code=3), "1\n", "")
        starts.append(log.read_text().count("."))
    # The first starts cold, and one that waits; where that has ended before the second asks
    # for it, the second starts another.
    assert starts[1] in (3, 4)
    assert starts[2:] == [starts[1] + more for more in (1, 2, 3)]
    named = sandbox.run("1", interpreter=str(python), state="a")
    assert named[0] == Exit(code=126)
    assert named[2] == "stockade: the interpreter does not start: no reason was given\n"


def test_a_missing_interpreter_is_a_missing_program(sandbox: Here) -> None:
    """D2"""
    assert sandbox.run("1", interpreter="/no/such/python")[0] == Exit(code=127)


def test_a_program_that_ends_interpreters_costs_no_code(sandbox: Here) -> None:
    """D16: whatever it ends, later code runs, and is reported as it was."""
    end = "import os; os.kill(os.getppid(), 9); print('ended', flush=True); os._exit(0)"
    for _ in range(3):
        sandbox.run(end)
        assert sandbox.run("print(1); exit(4)") == (Exit(code=4), "1\n", "")
    waiting = "for p in /proc/[0-9]*; do read -r line < $p/stat && echo $line; done 2>/dev/null"
    sandbox.run("1")
    time.sleep(0.1)
    lines = sandbox.run(waiting, form=Form.SHELL, interpreter=None)[1].splitlines()
    stats = [line.split(") ")[0].split(" (") + line.split(") ")[1].split() for line in lines]
    mine = {pid for pid, _, _, parent, *_ in stats if parent == str(sandbox.process.pid)}
    for _ in range(3):
        mine |= {pid for pid, _, _, parent, *_ in stats if parent in mine}
    for pid in mine:
        try:
            if b"exec(source)" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(int(pid), 9)
        except OSError:
            pass
    assert sandbox.run("print(1); exit(4)") == (Exit(code=4), "1\n", "")
