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

pytestmark = pytest.mark.engine


def stockade(*argv: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stockade.cli", *argv], capture_output=True, text=True, timeout=100,
        check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.parametrize("wall", ["docker", "gvisor"])
def test_run(wall: str, engine: docker.APIClient) -> None:
    need(wall)
    before = ours(engine)
    done = stockade("run", "-p", f"{wall}:{PYTHON}", "--", "python3", "-c", "print(6*7)")
    assert (done.stdout, done.stderr, done.returncode) == ("42\n", "", 0)
    done = stockade("run", "-p", f"{wall}:{BUSYBOX}", "--timeout", "1", "--", "sleep", "30")
    assert done.returncode == 137 and "timed out" in done.stderr
    done = stockade("run", "-p", f"{wall}:stockade-test/nowhere?pull=never", "--", "true")
    assert done.returncode == 125 and "pull=never" in done.stderr
    assert ours(engine) == before


def test_an_order_of_preference(engine: docker.APIClient) -> None:
    """Kata's runtime is not there, or is a shim: neither is an error before it is used."""
    string = f"gvisor,docker:{BUSYBOX}"
    done = stockade("run", "-p", string, "--json", "--", "true")
    assert json.loads(done.stdout)["provider"] in ("gvisor", "docker")


@pytest.mark.slow
def test_doctor_measures(engine: docker.APIClient) -> None:
    done = stockade("doctor", "--probe", f"docker:{PYTHON}")
    assert done.returncode == 0, done.stdout + done.stderr


def test_shell_is_a_terminal(engine: docker.APIClient) -> None:
    before = ours(engine)
    control, terminal = pty.openpty()
    argv = [sys.executable, "-m", "stockade.cli", "shell", f"docker:{BUSYBOX}"]
    process = subprocess.Popen(argv, stdin=terminal, stdout=terminal, stderr=terminal)
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
            os.write(control, b"tty; echo $((6*7)); exit 9\n")
            typed = True
    os.close(control)
    assert process.wait(20) == 9
    assert b"/dev/pts/" in shown and b"42" in shown
    assert ours(engine) == before
    done = stockade("shell", f"docker:{BUSYBOX}")
    assert done.returncode == 2 and "no terminal" in done.stderr
