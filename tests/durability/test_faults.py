"""The clock that is set, the ledger that is held or damaged, the engine that is away: under
sessions that live. Each gives a typed error in bounded time and takes no session that lives.

How long the ledger is held: STOCKADE_HELD_SECONDS, a minute in `tox -e crash`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

import stockade
from conftest import need
from stockade.errors import LedgerError
from stockade.ledger._sqlite import SqliteLedger
from stockade.sessions._runtime import Runtime

HELD_SECONDS = float(os.environ.get("STOCKADE_HELD_SECONDS", "5"))
PLAIN = "reference-no-isolation"
DAY = 86_400
_HERE = Path(__file__).parent

pytestmark = pytest.mark.slow


@attrs.define
class Place:
    """A ledger, a temporary folder, and processes that use them."""

    env: dict[str, str]
    ledger: SqliteLedger

    def runtime(self) -> Runtime:
        return Runtime(discover_plugins=False, ledger=SqliteLedger(self.ledger.path))

    def python(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *args],
            env=self.env,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def reach_engine(self) -> None:
        """Let its processes use the engine that this one uses."""
        self.env.pop("DOCKER_HOST")
        self.env.update({k: v for k, v in os.environ.items() if k == "DOCKER_HOST"})

    def gc(self) -> dict[str, Any]:
        """What ``stockade gc`` finds, in a process of its own."""
        process = self.python("-m", "stockade.cli", "gc", "--json")
        said, errors = process.communicate(timeout=100)
        assert said, errors
        found: dict[str, Any] = json.loads(said)
        return found

    @contextlib.contextmanager
    def actor(self, *walls: str) -> Iterator[Actor]:
        """A process with a session behind each wall."""
        process = self.python(str(_HERE / "actor.py"), *walls)
        try:
            yield Actor(process)
        finally:
            process.kill()
            process.communicate()


@attrs.define
class Actor:
    process: subprocess.Popen[str]

    def does(self, what: str) -> list[Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        print(what, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        found: list[Any] = json.loads(line)
        return found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "tmp").mkdir()
    path = tmp_path / "state" / "ledger.sqlite"
    env = {
        **os.environ,
        "STOCKADE_LEDGER": str(path),
        "STOCKADE_GC": "off",
        "TMPDIR": str(tmp_path / "tmp"),
        "STOCKADE_TEST_CLOCK": str(tmp_path / "ahead"),
        "DOCKER_HOST": "unix:///nowhere",  # what others left on an engine is not ours to remove
    }
    made = Place(env, SqliteLedger(path))
    yield made
    assert list((tmp_path / "tmp").iterdir()) == []


def _gone(found: dict[str, Any]) -> set[str]:
    """The sessions that a pass removed."""
    return {entry[0] for entry in found["removed"]}


# -- the clock ------------------------------------------------------------------------------


@pytest.fixture
def clock(place: Place, tmp_path: Path) -> Path:
    """A file with the seconds that processes of the place see the clock set ahead."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("the clock is set by a library of its own, which needs Linux and cc")
    library = tmp_path / "clock.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", str(library), str(_HERE / "clock.c")], check=True
    )
    place.env["LD_PRELOAD"] = str(library)
    return Path(place.env["STOCKADE_TEST_CLOCK"])


@pytest.mark.parametrize("wall", [PLAIN, "landlock", "bubblewrap", "docker:stockade-test/busybox"])
@pytest.mark.parametrize("ahead", [DAY, -DAY], ids=["ahead", "back"])
def test_C11_a_clock_that_is_set_ends_nothing_early_and_keeps_nothing_longer(
    ahead: int, wall: str, place: Place, clock: Path
) -> None:
    need(wall.partition(":")[0])
    if wall.startswith("docker"):
        place.reach_engine()
    with place.actor(f"{wall}#600", f"{wall}#6") as actor:
        sessions = actor.does("sessions")
        actor.does("begin")  # a program of two seconds
        clock.write_text(str(ahead))
        now, programs = actor.does("now")[0], actor.does("end")
        assert abs(now - time.time() - ahead) < 60, "the clock is not set"
        for ended in programs:
            assert ended["verdict"] == "exited" and 1.5 < ended["seconds"] < 20, ended
        for late in actor.does("late"):  # a deadline of half a second
            assert late["verdict"] == "timed out" and late["seconds"] < 10, late
        until = time.monotonic() + 30
        while actor.does("states")[1] != "destroyed" and time.monotonic() < until:
            time.sleep(0.2)
        assert actor.does("states") == ["ready", "destroyed"]
        assert not _gone(place.gc()) & set(sessions)
        place.env["STOCKADE_LEDGER"] += ".lost"  # and by what stands on the sandbox alone
        assert not _gone(place.gc()) & set(sessions)
        assert actor.does("works")[0] is True
        assert actor.does("close")[0] is True


def test_C10_a_durable_session_is_found_by_a_clock_that_was_set(place: Place, clock: Path) -> None:
    with place.actor(f"{PLAIN}?durable=true#600") as actor:
        (session_id,) = actor.does("sessions")
        actor.does("detach")
    for ahead in (DAY, -DAY):
        clock.write_text(str(ahead))
        assert session_id not in _gone(place.gc())
        with place.actor(f"attach:{session_id}") as again:
            assert again.does("works") == [True]
            again.does("detach")
    with place.actor(f"attach:{session_id}") as last:
        assert last.does("close") == [True]


# -- the ledger ------------------------------------------------------------------------------


_HOLD = """
import sqlite3, sys
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.mark.timeout(300)
def test_C9_a_ledger_that_another_process_holds(place: Place) -> None:
    """Whoever opens gets a typed error in time; what lives works, and ends; then all is written."""
    runtime = place.runtime()
    live, short = (stockade.open(PLAIN, agent_id="a", runtime=runtime) for _ in range(2))
    assert runtime.ledger is not None and runtime.ledger.flush()
    holder = place.python("-c", _HOLD, place.ledger.path)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    began = time.monotonic()
    try:
        while time.monotonic() - began < HELD_SECONDS:
            asked = time.monotonic()
            with pytest.raises(LedgerError, match="held by another process") as caught:
                stockade.open(PLAIN, agent_id="a", runtime=runtime)
            assert caught.value.retryable and time.monotonic() - asked < 15
            asked = time.monotonic()
            assert live.run(["echo", "hi"]).stdout == "hi\n"
            assert time.monotonic() - asked < 5
        asked = time.monotonic()
        short.close()
        assert str(short.status) == "destroyed" and time.monotonic() - asked < 25
        assert not _gone(place.gc()) & {live.session_id}
    finally:
        holder.communicate("\n", timeout=10)
    with stockade.open(PLAIN, agent_id="a", runtime=runtime) as again:
        assert again.run(["echo", "hi"]).stdout == "hi\n"
    live.close()
    until = time.monotonic() + 30
    while place.ledger.sessions() and time.monotonic() < until:
        time.sleep(0.1)
    assert place.ledger.sessions() == []


def _damage(path: str, table: str) -> None:
    """Overwrite one page of the file: the one that the table begins with."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (size,) = db.execute("PRAGMA page_size").fetchone()
        (page,) = db.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)
        ).fetchone()
    with open(path, "r+b") as file:
        file.seek((page - 1) * size)
        file.write(os.urandom(size))


@pytest.mark.parametrize("table", ["sessions", "attachments"])
def test_C9_a_damaged_page_of_the_ledger(table: str, place: Place) -> None:
    with place.actor(PLAIN) as dead:
        (left,) = dead.does("sessions")
    with place.actor(PLAIN, f"{PLAIN}?durable=true") as actor:
        ours = actor.does("sessions")
        _damage(place.ledger.path, table)
        before = Path(place.ledger.path).read_bytes()
        began = time.monotonic()
        with pytest.raises(LedgerError, match="damaged") as caught:
            stockade.open(f"{PLAIN}?durable=true", agent_id="a", runtime=place.runtime())
        assert not caught.value.retryable and time.monotonic() - began < 15
        found = place.gc()  # what is left over stands on it, too
        reported = {session_id for session_id, _ in found["failed"]}
        assert left in _gone(found) | reported and found["skipped"], found
        assert not _gone(found) & set(ours)
        assert actor.does("works") == [True, True]
        began = time.monotonic()
        assert actor.does("close") == [True, True]
        assert time.monotonic() - began < 20
        assert Path(place.ledger.path).read_bytes() == before, "it is never written to"
    assert not _gone(place.gc()) & set(ours), "they have ended"


# -- the engine ------------------------------------------------------------------------------


def test_C10_a_durable_session_outlives_its_engine(place: Place) -> None:
    """While the engine is away nothing is forgotten; once it is back the session works."""
    need("docker")
    import docker

    from plugins.docker.own_engine import own_engine

    with (
        contextlib.closing(docker.APIClient(version="auto")) as usual,
        own_engine(usual, "--live-restore") as engine,
    ):
        runtime = place.runtime()
        assert runtime.ledger is not None
        session = stockade.open(engine.string, agent_id="a", durable=True, runtime=runtime)
        session.files.write("/workspace/mark", b"made")
        session.detach()
        engine.kill(signal.SIGTERM)
        began = time.monotonic()
        found = place.gc()
        assert found["skipped"] and not found["forgotten"] and time.monotonic() - began < 60
        assert [entry.session_id for entry in place.ledger.sessions()] == [session.session_id]
        with pytest.raises(stockade.StockadeError):
            stockade.attach(session.session_id, agent_id="a", runtime=place.runtime())
        engine.start()
        assert session.session_id not in _gone(place.gc())
        again = stockade.attach(session.session_id, agent_id="a", runtime=place.runtime())
        assert again.files.read("/workspace/mark") == b"made"
        again.close()
        assert place.ledger.sessions() == []
