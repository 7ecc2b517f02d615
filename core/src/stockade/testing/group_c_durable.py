"""Checks of C, second part: what outlives a process (C9 to C11)."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import stockade
from stockade.capabilities import Feature
from stockade.errors import SessionNotFoundError, StockadeError
from stockade.gc import collect
from stockade.ledger import SqliteLedger
from stockade.providers import WallProvider
from stockade.runtime import Runtime
from stockade.session import Session
from stockade.testing.base import ConformanceBase, expect
from stockade.testing.group_b import host_command_lines
from stockade.testing.programs import say, unique

_START = """
import json, sys, time
import stockade
from stockade.ledger import SqliteLedger
from stockade.runtime import Runtime
told = json.load(sys.stdin)
runtime = Runtime(discover_plugins=False, ledger=SqliteLedger(told["ledger"]))
"""

#: Opens a session, starts a program in it, says so, and waits for its own death.
_OWNER = (
    _START
    + """
session = stockade.open(told["string"], agent_id="owner", runtime=runtime)
execution = session.stream(shell=f"echo begun; sleep {told['mark']}", timeout=300)
execution.take()
print(session.session_id, flush=True)
time.sleep(300)
"""
)

#: Opens a durable session, and leaves it.
_LEAVER = (
    _START
    + """
session = stockade.open(told["string"], agent_id="owner", runtime=runtime)
session.detach()
runtime.ledger.flush()
print(session.session_id, flush=True)
"""
)

#: Attaches to a session, reads what is in it, and ends it.
_ATTACHER = (
    _START
    + """
try:
    stockade.attach(told["session"], agent_id="thief", runtime=runtime)
except stockade.SessionNotFoundError:
    print("thief refused")
listed = [record.session_id for record in runtime.ledger.sessions()]
print("listed" if told["session"] in listed else "not listed")
session = stockade.attach(told["session"], agent_id="owner", runtime=runtime)
print(session.shell(f"cat {told['mark']}").stdout, end="")
session.close()
print("closed")
"""
)


class Durability(ConformanceBase):
    """What becomes of sessions whose process dies, and other processes' way to them."""

    def test_C9_what_a_killed_process_left_is_collected(self) -> None:
        self.need(Feature.SHELL)
        mark = f"47.{secrets.randbelow(10**9):09d}"
        with self._ledger() as (runtime, string, path):
            mine = stockade.open(string, agent_id="alive", runtime=runtime)
            with mine, self._process(_OWNER, string=string, ledger=path, mark=mark) as owner:
                assert owner.stdout is not None
                session_id = owner.stdout.readline().strip()
                expect(session_id, "C9", "a process with a session", owner.poll())
                owner.kill()
                owner.wait()
                gone = self.until(lambda: not self._left(runtime, string, session_id, mark), 20)
                left = self._left(runtime, string, session_id, mark)
                _end_programs(mark)
                if left and not self.claims(Feature.DURABLE):
                    self._unclaimed = True
                    pytest.skip(f"durable is unsupported, and a killed process leaves: {left}")
                expect(gone, "C9", "nothing left once it was collected", left,
                       "Wall.leftovers and Wall.remove")  # fmt: skip
                expect(self.run(mine, say("x")).success, "C9", "a living owner's session, as it was",
                       mine.status)  # fmt: skip

    def _left(self, runtime: Runtime, string: str, session_id: str, mark: str) -> list[str]:
        """Collect once, and say what is still there of the session."""
        done = collect(runtime=runtime, strings=[string])
        wall = stockade.provider(string, runtime=runtime).wall
        left = [found.words for found in wall.leftovers() if found.session_id == session_id]
        left += [line for line in host_command_lines() if f"sleep\0{mark}" in line]
        if runtime.ledger is not None:
            left += [r.string for r in runtime.ledger.sessions() if r.session_id == session_id]
        return left + [f"{name}: {why}" for name, why in done.failed if name == session_id]

    def test_C10_another_process_attaches_and_destroys(self) -> None:
        if not self.claims(Feature.DURABLE):
            provider = self.make_provider()
            config = provider.config.with_(durable=True)
            self.refused("C10", lambda: provider.create_session("a", config), Feature.DURABLE)
            return
        self.need(Feature.SHELL)
        name = unique("mine")
        with self._ledger(durable="true") as (runtime, string, path):
            with stockade.open(string, agent_id="owner", runtime=runtime) as session:
                session.shell(f"echo of the first > {name}", timeout=self.scaled(20))
                seen = self._attach(string=string, ledger=path, mark=name, session=session)
                right = "thief refused\nlisted\nof the first\nclosed\n"
                expect(seen == right, "C10", repr(right), seen)
                with contextlib.suppress(StockadeError):
                    result = self.run(session, say("x"), timeout=self.scaled(10))
                    expect(not result.success, "C10", "no execution in a destroyed one", result)
            wall = stockade.provider(string, runtime=runtime).wall
            left = [f.words for f in wall.leftovers() if f.session_id == session.session_id]
            expect(not left, "C10", "a session that is gone for all", left)

    def _attach(self, *, session: Session, **told: str) -> str:
        with self._process(_ATTACHER, session=session.session_id, **told) as process:
            out, err = process.communicate(timeout=self.scaled(50))
            expect(process.returncode == 0, "C10", "a process that attaches", err[-800:])
            return out

    def test_C10_a_session_is_left_and_found_again(self) -> None:
        self.need(Feature.DURABLE, Feature.SHELL)
        name = unique("mine")
        with self._ledger(durable="true") as (runtime, string, _):
            first = stockade.open(string, agent_id="owner", runtime=runtime)
            first.shell(f"echo of the first > {name}")
            first.detach()
            with pytest.raises(SessionNotFoundError):
                stockade.attach(first.session_id, agent_id="thief", runtime=runtime)
            with stockade.attach(first.session_id, agent_id="owner", runtime=runtime) as again:
                seen = again.shell(f"cat {name}").stdout
                expect(seen == "of the first\n", "C10", "the same session", seen)

    def test_C11_a_lifetime_holds_with_no_process_at_all(self) -> None:
        self.need(Feature.DURABLE)
        life = self.scaled(4.0)
        with self._ledger(durable="true", lifetime_seconds=f"{life:g}") as (runtime, string, path):
            began = time.monotonic()
            with self._process(_LEAVER, string=string, ledger=path) as process:
                out, err = process.communicate(timeout=self.scaled(50))
            expect(process.returncode == 0, "C11", "a process that leaves a session", err[-800:])
            session_id = out.strip()
            wall = stockade.provider(string, runtime=runtime).wall

            def left() -> list[str]:
                collect(runtime=runtime, strings=[string])
                return [f.words for f in wall.leftovers() if f.session_id == session_id]

            there = left() or time.monotonic() - began >= life
            expect(there, "C11", "a durable session, with its process dead", "none")
            expect(self.until(lambda: not left(), 15), "C11", "nothing left of it", left())

    # -- the way there ---------------------------------------------------------

    @contextlib.contextmanager
    def _ledger(self, **options: str) -> Iterator[tuple[Runtime, str, str]]:
        """A runtime with a ledger of its own, the provider's string with these options, and
        the ledger's path; all that is left at the end is removed."""
        if not self.provider:
            pytest.skip("the suite was given a provider object, not a string")
        made = self.make_provider()
        string = self._string(made, options)
        with tempfile.TemporaryDirectory(prefix="stockade-ledger-") as folder:
            path = str(Path(folder, "ledger.sqlite"))
            runtime = Runtime(discover_plugins=False, ledger=SqliteLedger(path))
            try:
                yield runtime, string, path
            finally:
                assert runtime.ledger is not None
                with contextlib.suppress(StockadeError):
                    ours = [record.session_id for record in runtime.ledger.sessions()]
                    collect(runtime=runtime, strings=[string], force=ours)
                runtime.close_all()

    def _string(self, made: WallProvider, options: dict[str, str]) -> str:
        """The provider's string, without what the wall cannot hold (see ``make_provider``)."""
        given = self.provider.partition("?")[2]
        plain = stockade.provider(self.provider).config
        for name in ("memory_mb", "cpu_limit", "max_processes", "disk_mb"):
            if getattr(made.config, name) is None and getattr(plain, name) is not None:
                options[name] = "none"
        for name in ("network_enabled", "read_only_fs"):
            if getattr(made.config, name) is not getattr(plain, name):
                options[name] = str(getattr(made.config, name)).lower()
        seconds = made.config.startup_timeout_seconds * self.time_factor
        options.setdefault("startup_timeout_seconds", f"{min(seconds, 86_400):g}")
        added = "&".join(f"{k}={v}" for k, v in options.items() if f"{k}=" not in given)
        return f"{self.provider}{'&' if given else '?'}{added}"

    @contextlib.contextmanager
    def _process(self, code: str, **told: str) -> Iterator[subprocess.Popen[str]]:
        """Another Python that runs ``code`` and is told these on its standard input."""
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )  # fmt: skip
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(told))
            process.stdin.close()
            process.stdin = None  # communicate would flush it
            yield process
        finally:
            process.kill()
            process.wait()
            for file in (process.stdout, process.stderr):
                if file is not None:
                    file.close()


def _end_programs(mark: str) -> None:
    """What a wall left running on this machine of a check's own program, whose mark is random."""
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            if f"sleep\0{mark}\0".encode() in file.read():
                os.kill(int(path.split("/")[2]), signal.SIGKILL)
