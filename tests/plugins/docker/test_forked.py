"""A forked child opens sessions of its own, whatever the engine's module did just then (C12)."""

from __future__ import annotations

import os
import subprocess
import sys

import docker
import pytest

_CODE = """
import contextlib, os, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forks where there are threads
import stockade
from stockade_docker import delivery, engine

string = "docker:stockade-test/busybox?pull=never"
held, go = threading.Event(), threading.Event()


def hold():
    with contextlib.ExitStack() as stack:
        for lock in (delivery._filling, engine._lock):
            stack.enter_context(lock)
        held.set()
        go.wait(60)


with stockade.open(string) as session:
    engine.forget()  # as if another thread had asked for a client for the first time
    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(5)
    pid = os.fork()
    if pid == 0:
        try:
            session.run(["true"])
        except stockade.ForkedSessionError:
            pass
        with stockade.open(string) as mine:
            print(mine.run(["echo", "child"]).stdout, end="", flush=True)
        sys.exit(0)
    until = time.monotonic() + 25
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > until:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            print("the child hangs", flush=True)
            break
        time.sleep(0.05)
    go.set()
    holder.join()
    print(session.run(["echo", "parent"]).stdout, end="", flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_C12_a_child_opens_its_own_while_locks_are_held(engine: docker.APIClient) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CODE],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "STOCKADE_LEDGER": "off"},
    )
    assert (done.stdout, done.stderr, done.returncode) == ("child\nparent\n", "", 0)
