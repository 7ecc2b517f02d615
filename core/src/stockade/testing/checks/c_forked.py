"""Checks of C12: what a forked child does with its parent's session, and with its own."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from stockade.testing.base import expect
from stockade.testing.processes import START, OtherProcesses
from stockade.testing.programs import say, sleep

#: Opens a session, forks, and says what came of it in the child and in the parent. The child
#: leaves as a program does: its interpreter ends in order.
_PARENT = (
    START
    + """
import atexit, os, select, signal, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forks where there are threads
atexit.register(runtime.shutdown)
session = stockade.open(given["string"], agent_id="parent", runtime=runtime)
running = session.stream(**given["sleep"], timeout=given["seconds"] * 4)
running.take()
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    seen = {}
    began = time.monotonic()
    try:
        result = session.start(**given["say"], timeout=given["seconds"]).result()
        seen["use"] = f"a result: {result.stdout!r}"
    except BaseException as error:
        seen["use"] = type(error).__name__
    seen["took"] = time.monotonic() - began
    try:
        with stockade.open(given["string"], agent_id="child", runtime=runtime) as mine:
            done = mine.start(**given["say"], timeout=given["seconds"]).result()
            seen["new"] = done.stdout
    except BaseException as error:
        seen["new"] = f"{type(error).__name__}: {error}"
    os.write(writing, json.dumps(seen).encode())
    sys.exit(0)
os.close(writing)
seen = {}
if select.select([reading], [], [], given["seconds"] * 2)[0]:
    seen = json.loads(os.read(reading, 65536) or b"{}")
else:
    seen["use"] = "nothing: the child hangs"
seen["end"] = "none: it hangs"
until = time.monotonic() + given["seconds"]
while time.monotonic() < until:
    pid, status = os.waitpid(child, os.WNOHANG)
    if pid:
        seen["end"] = status
        break
    time.sleep(0.02)
else:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
try:
    done = session.start(**given["say"], timeout=given["seconds"]).result()
    seen["after"] = done.stdout
except Exception as error:
    seen["after"] = f"{type(error).__name__}: {error}"
seen["running"] = not running.future.done()
print(json.dumps(seen), flush=True)
session.close()
"""
)


class Forked(OtherProcesses):
    """C12: a session belongs to the process that opened it."""

    def test_C12_a_session_stays_with_its_process(self) -> None:
        if not hasattr(os, "fork"):
            pytest.skip("there is no fork here")
        seen = self._forked()
        expect(
            seen["use"] == "ForkedSessionError",
            "C12",
            "ForkedSessionError for the parent's session in the child",
            seen,
        )
        expect(seen["took"] < self.scaled(2), "C12", "that error at once", seen)
        expect(seen["new"] == "there\n", "C12", "a new session in the child", seen)
        expect(seen["end"] == 0, "C12", "the child's end in order", seen)
        expect(
            seen["after"] == "there\n" and seen["running"],
            "C12",
            "the parent's session and what runs in it, as they were",
            seen,
        )

    def _forked(self) -> dict[str, Any]:
        with self.shared() as session:
            given: dict[str, Any] = {
                "say": self._form(session, say("there\n")),
                "sleep": self._form(session, sleep(120, after="begun")),
                "seconds": self.scaled(12),
            }
        with (
            self._ledger() as (_, string, path),
            self._process(_PARENT, string=string, ledger=path, **given) as process,
        ):
            out, err = process.communicate(timeout=self.scaled(58))
            expect(process.returncode == 0, "C12", "a process that ends well", err[-800:])
        seen: dict[str, Any] = {"took": 0.0, "new": "", **json.loads(out)}
        return seen
