"""The end of a program is known in a process that ignores SIGCHLD, too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import need
from stockade.toolkit.processes import children
from stockade.toolkit.processes.children import Child, run


@pytest.fixture(params=["default", "ignored"])
def sigchld(request: pytest.FixtureRequest) -> Iterator[str]:
    before = signal.getsignal(signal.SIGCHLD)
    if request.param == "ignored":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        yield request.param
    finally:
        signal.signal(signal.SIGCHLD, before)


@pytest.mark.parametrize(
    ("line", "code"),
    [("exit 7", 7), ("exit 137", 137), ("kill -9 $$", -9), ("kill -PIPE $$", -13), ("true", 0)],
)
def test_codes_and_signals(sigchld: str, line: str, code: int) -> None:
    assert run(["sh", "-c", line], timeout=20).returncode == code


def test_streams_folder_and_signals_of_the_child(sigchld: str, tmp_path: Path) -> None:
    line = "cat; pwd; grep SigIgn /proc/self/status >&2"
    with Child(
        ["sh", "-c", line],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        out, err = process.communicate(b"in\n", timeout=20)
    assert out.decode().splitlines() == ["in", str(tmp_path)] and process.returncode == 0
    ignored = int(err.split()[1], 16)
    assert not ignored >> (signal.SIGCHLD - 1) & 1, "it waits for children of its own"


def test_a_missing_program(sigchld: str) -> None:
    try:
        assert run(["/no/such/program"], timeout=20).returncode == 127
    except FileNotFoundError:
        assert sigchld == "default"


def test_poll_kill_and_a_timeout_leave_nothing(sigchld: str, tmp_path: Path) -> None:
    process = Child(["sh", "-c", "sleep 60 & echo $! > pid; wait"], cwd=tmp_path)
    assert process.poll() is None
    deadline = time.monotonic() + 10
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    assert process.wait(10) == -9 and process.poll() == -9
    with pytest.raises(subprocess.TimeoutExpired):
        run(["sleep", "60"], timeout=0.2)


def test_without_an_interpreter_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "ignores_ends", lambda: True)
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(OSError, match=r"signal\.SIG_DFL"):
        Child(["true"])


PROGRAM = """
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
import stockade
with stockade.open({wall!r}) as session:
    print(session.run(["sh", "-c", "exit 7"]).exit_code)
    print(session.shell("kill -9 $$").signal_name)
    print(session.run(["no-such-program"]).exit_code)
    print(session.shell("sleep 30", timeout=0.5).verdict)
    print(session.shell("sleep 30 & echo left").stdout)
"""


@pytest.mark.parametrize("wall", ["reference-no-isolation", "landlock", "bubblewrap"])
def test_walls_of_this_machine_in_a_host_that_ignores_it(wall: str) -> None:
    if wall != "reference-no-isolation":
        need(wall)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM.format(wall=wall))],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.stdout.split("\n")[:5] == ["7", "SIGKILL", "127", "timed out", "left"], done.stderr


def test_the_command_line_listens_to_it_again() -> None:
    need("bubblewrap")
    program = "trap '' CHLD; exec \"$@\""
    line = [sys.executable, "-m", "stockade.cli", "run", "-p", "bubblewrap", "--", "sh", "-c"]
    done = subprocess.run(
        ["bash", "-c", program, "bash", *line, "exit 7"],
        capture_output=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 7, done.stderr
