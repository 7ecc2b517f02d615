"""SIGTERM and the interpreter's end, of real programs with real sandboxes: nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import need
from stockade import ConfigError, end_on_sigterm

#: Opens three sessions, has something run in each, says so, and waits.
PROGRAM = """
import signal, sys, threading, time
import stockade
{before}
sessions = [stockade.open({string!r}) for _ in range(3)]
running = [s.start(["sleep", "{mark}"]) for s in sessions]
threads = [threading.Thread(target=r.result, daemon={daemon}) for r in running]
for thread in threads:
    thread.start()
time.sleep(0.3)
print(*(s.session_id for s in sessions), flush=True)
{after}
"""
WALLS = ["landlock", "docker:stockade-test/busybox"]


def left_by(mark: str) -> list[str]:
    """Processes of the machine whose command line holds the mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"sleep {mark}" in words and "stockade.open" not in words:
            found.append(words)
    return found


def containers(sessions: list[str]) -> list[str]:
    """Those of the sessions, running or not."""
    done = subprocess.run(
        ["docker", "ps", "-a", "--format", "{{.Names}}"], capture_output=True, text=True, check=True
    )
    return [name for name in done.stdout.split() if name.removeprefix("stockade-") in sessions]


def run(
    string: str,
    after: str,
    act: Callable[[subprocess.Popen[str]], None],
    *,
    before: str = "assert stockade.end_on_sigterm()",
    daemon: bool = False,
) -> int:
    """The program's end, once nothing of its sandboxes is left; the test fails else.

    Its threads are no daemons unless made so: the interpreter waits for those before it
    ends sessions, so that the signal must have ended what they wait for.
    """
    need(string.partition(":")[0])
    mark = f"{os.getpid()}{time.monotonic_ns() % 10**6}"
    code = PROGRAM.format(string=string, before=before, after=after, mark=mark, daemon=daemon)
    said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed below
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=said,
        text=True,
    )
    assert process.stdout is not None and process.stdin is not None
    docker = string.startswith("docker")
    try:
        sessions = process.stdout.readline().split()
        said.seek(0)
        assert len(sessions) == 3, said.read()
        assert not docker or len(containers(sessions)) == 3
        act(process)
        process.wait(40)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
        said.close()
    deadline = time.monotonic() + 5
    while left_by(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left_by(mark) == []
    assert not docker or containers(sessions) == []
    return process.returncode


def terminate(process: subprocess.Popen[str]) -> None:
    time.sleep(0.3)  # it has said that it is up, and now gets to where it waits
    process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("string", WALLS)
def test_sigterm_ends_everything(string: str) -> None:
    code = run(string, "time.sleep(60)", terminate)
    assert code in (143, -signal.SIGTERM)


@pytest.mark.parametrize("string", WALLS)
def test_so_does_the_interpreters_end(string: str) -> None:
    def go_on(process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()

    assert run(string, "input(); sys.exit(7)", go_on, before="", daemon=True) == 7


def test_sigterm_while_an_asyncio_program_runs() -> None:
    after = (
        "import asyncio\n"
        "async def main():\n"
        f"    async with stockade.aio.open('{WALLS[0]}') as session:\n"
        "        await session.run(['sleep', '60'])\n"
        "asyncio.run(main())\n"
    )
    code = run(WALLS[0], after, terminate)
    assert code in (143, -signal.SIGTERM)


def test_a_program_that_swallows_the_exit_is_ended_all_the_same() -> None:
    after = (
        "while True:\n    try:\n        time.sleep(60)\n    except BaseException:\n        pass\n"
    )
    assert run(WALLS[0], after, terminate) in (143, -signal.SIGTERM)


def test_a_second_sigterm_does_not_wait() -> None:
    def twice(process: subprocess.Popen[str]) -> None:
        terminate(process)
        time.sleep(1.0)
        terminate(process)

    after = "\ntry:\n    time.sleep(60)\nfinally:\n    time.sleep(60)\n"
    began = time.monotonic()
    code = run(WALLS[0], after, twice)
    assert code == -signal.SIGTERM and time.monotonic() - began < 30


def test_a_handler_of_the_programs_own_stays() -> None:
    before = (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))\n"
        "assert not stockade.end_on_sigterm()\n"
    )
    assert run(WALLS[0], "time.sleep(60)", terminate, before=before, daemon=True) == 9


def test_only_the_main_thread_may_ask() -> None:
    import threading

    errors: list[BaseException] = []

    def work() -> None:
        try:
            end_on_sigterm()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert isinstance(errors[0], ConfigError)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # nobody asked in this process
