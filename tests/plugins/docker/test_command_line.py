"""The command line over the container walls, as a person uses it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time

import docker
import pytest

from conftest import need
from plugins.docker.conftest import BUSYBOX, PYTHON, ours
from stockade import attach
from stockade.session import open_session

pytestmark = pytest.mark.engine


def stockade(engine: docker.APIClient, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end; nothing of it may be left on the engine."""
    with subprocess.Popen(
        [sys.executable, "-m", "stockade.cli", *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=100)
        except BaseException:
            process.kill()
            raise
    assert not ours(engine, process.pid)
    return subprocess.CompletedProcess(argv, process.returncode, out, err)


@pytest.mark.parametrize("wall", ["docker", "gvisor"])
def test_run(wall: str, engine: docker.APIClient) -> None:
    need(wall)
    done = stockade(engine, "run", "-p", f"{wall}:{PYTHON}", "--", "python3", "-c", "print(6*7)")
    assert (done.stdout, done.stderr, done.returncode) == ("42\n", "", 0)
    done = stockade(engine, "run", "-p", f"{wall}:{BUSYBOX}", "--timeout", "1", "--", "sleep", "30")
    assert done.returncode == 137 and "timed out" in done.stderr
    done = stockade(engine, "run", "-p", f"{wall}:stockade-test/nowhere?pull=never", "--", "true")
    assert done.returncode == 125 and "pull=never" in done.stderr


def test_an_order_of_preference(engine: docker.APIClient) -> None:
    """Kata's runtime is not there, or is a shim: neither is an error before it is used."""
    string = f"gvisor:{BUSYBOX} | docker:{BUSYBOX}"
    done = stockade(engine, "run", "-p", string, "--json", "--", "true")
    assert json.loads(done.stdout)["provider"] in ("gvisor", "docker")


@pytest.mark.parametrize(
    ("first", "why"),
    [
        ("docker:stockade-test/nowhere?pull=never", "pull=never"),
        (f"gvisor:{BUSYBOX}?runtime=runc", "runc"),
    ],
    ids=["no such image", "a runtime that only bears the name"],
)
def test_A7_what_shows_at_the_start_is_passed_over(
    engine: docker.APIClient, first: str, why: str
) -> None:
    done = stockade(
        engine, "run", "-p", first, "-p", f"docker:{BUSYBOX}", "--json", "--", "echo", "hi"
    )
    answer = json.loads(done.stdout)
    assert (answer["provider"], answer["stdout"]) == ("docker", "hi\n"), done.stderr
    (passed,) = answer["passed_over"]
    assert why in passed["reason"] and passed["name"] == first.partition("?")[0]


@pytest.mark.slow
def test_doctor_measures(engine: docker.APIClient) -> None:
    done = stockade(engine, "doctor", "--probe", "-p", f"docker:{PYTHON}")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_doctor_measures_gvisor(engine: docker.APIClient) -> None:
    """All holds but what the wall says itself: past the process limit the session ends."""
    need("gvisor")
    done = stockade(engine, "doctor", "--probe", "--json", "-p", f"gvisor:{BUSYBOX}")
    (report,) = json.loads(done.stdout)["walls"]
    assert len(report["measured"]) > 15, done.stdout + done.stderr
    broken = [row["name"] for row in report["measured"] if row["broken"]]
    assert set(broken) <= {"process limit"}, done.stdout


def typed_at(argv: list[str], line: bytes) -> tuple[int, bytes, int]:
    """A command on a terminal that gets this line at its prompt: exit code, what it showed, pid."""
    control, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "stockade.cli", *argv],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    typed = False
    deadline = time.monotonic() + 40
    while process.poll() is None and time.monotonic() < deadline:
        try:
            shown += os.read(control, 4096)
        except OSError:
            break
        if not typed and b"$" in shown:
            os.write(control, line)
            typed = True
    os.close(control)
    return process.wait(20), shown, process.pid


@pytest.mark.parametrize("wall", ["docker", "gvisor"])
def test_shell_is_a_terminal(wall: str, engine: docker.APIClient) -> None:
    need(wall)
    line = b"[ -t 0 ] && [ -t 1 ] && echo $((6*7)); exit 9\n"
    code, shown, pid = typed_at(["shell", "-p", f"{wall}:{BUSYBOX}"], line)
    assert code == 9
    assert b"42" in shown
    assert not ours(engine, pid)


def test_a_terminal_in_a_durable_session(engine: docker.APIClient) -> None:
    opened = open_session(f"docker:{BUSYBOX}", durable=True, lifetime_seconds=120)
    opened.detach()
    with attach(opened.session_id) as session:
        line = b"[ -t 0 ] && echo $((6*7)) > seen; exit 9\n"
        code, _, _ = typed_at(["session", "shell", opened.session_id], line)
        assert code == 9
        assert session.files.read("seen") == b"42\n", "it goes on when the person leaves"
        done = stockade(engine, "session", "shell", opened.session_id)
        assert done.returncode == 2 and "stockade session exec" in done.stderr


def test_a_shell_needs_a_terminal(engine: docker.APIClient) -> None:
    done = stockade(engine, "shell", "-p", f"docker:{BUSYBOX}")
    assert done.returncode == 2 and "no terminal" in done.stderr
