"""A server killed by SIGKILL at random moments under load (C9): after gc nothing of its sandboxes
is left, and the next start finds each durable one again that a caller was handed.

It dies ``STOCKADE_SERVER_KILLS`` times (3 here, 50 in `tox -e crash`), each time while five clients
make sandboxes, start programs in them, write files and end them.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import attrs
import pytest

from plugins.server.conftest import need
from plugins.server.serving import Caller, Made, Served, made_key, serving, start
from stockade.ledger._sqlite import SqliteLedger

pytest.importorskip("starlette", reason="stockade-server is not installed (tox -e server)")
pytest.importorskip("uvicorn", reason="stockade-server is not installed (tox -e server)")

KILLS = int(os.environ.get("STOCKADE_SERVER_KILLS", "3"))
_CLIENTS = 5
_BOX = "docker:stockade-test/busybox?pull=never&memory_mb=64&lifetime_seconds=3000"


@attrs.define
class Load:
    """Clients that go on until the server is gone, and what they were handed."""

    mark: str
    made: dict[str, tuple[str, Made]] = attrs.field(factory=dict)
    #: Those of which a caller asked for the end: they may be there or not.
    doubtful: set[str] = attrs.field(factory=set)
    _lock: threading.Lock = attrs.field(factory=threading.Lock)

    def run(self, served: Served, chance: random.Random, seconds: float) -> None:
        """Load it for a while, and kill it in the middle of that."""
        caller = Caller(served.url, served.key)
        seeds = [chance.random() for _ in range(_CLIENTS)]
        threads = [
            threading.Thread(target=self._client, args=(caller, random.Random(seed)), daemon=True)
            for seed in seeds
        ]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        served.process.send_signal(signal.SIGKILL)
        served.process.wait(30)
        for thread in threads:
            thread.join(40)
            assert not thread.is_alive()

    def _client(self, caller: Caller, chance: random.Random) -> None:
        try:
            while True:
                self._turn(caller, chance)
        except (OSError, http.client.HTTPException):
            return  # the server is gone

    def _turn(self, caller: Caller, chance: random.Random) -> None:
        template = chance.choice(("embedded", "box", "kept"))
        body = {"templateID": template, "timeout": 2000}
        status, found = caller.ask("POST", "/v2/sandboxes", body)
        if status == 429:  # as many as a key may have
            time.sleep(0.1)
            return
        assert status == 201, found
        made = Made(caller, found["sandboxID"], found["envdAccessToken"])
        with self._lock:
            self.made[made.sandbox_id] = (template, made)
        written = caller.ask("POST", "/files?path=kept", made.sandbox_id.encode(), **_octets(made))
        assert written[0] == 200, written
        with self._lock:
            self.made[made.sandbox_id] = (f"{template} with its file", made)
        made.stream("process.Process/Start", start(f"sleep {self.mark} >/dev/null 2>&1 &"))
        if chance.random() < 0.7:
            with self._lock:
                self.doubtful.add(made.sandbox_id)
            assert caller.ask("DELETE", f"/sandboxes/{made.sandbox_id}")[0] == 204
            with self._lock:
                del self.made[made.sandbox_id]

    def promised(self) -> dict[str, tuple[str, Made]]:
        """The durable ones that a caller was handed and did not end."""
        return {
            name: (kind, made)
            for name, (kind, made) in self.made.items()
            if kind.startswith("kept") and name not in self.doubtful
        }


def _octets(made: Made) -> dict[str, str]:
    return {"content_type": "application/octet-stream", **made.headers}


def containers(label: str) -> set[str]:
    listing = ["docker", "ps", "-aq", "--filter", f"label=io.stockade.label.test={label}"]
    return set(subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split())


def running(mark: str) -> list[str]:
    """Processes of this machine that a sandbox's program is or was."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"sleep\0{mark}\0".encode() == (entry / "cmdline").read_bytes():
                found.append(entry.name)
        except OSError:
            continue
    return found


def collect() -> dict[str, Any]:
    command = [sys.executable, "-m", "stockade.cli", "gc", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found: dict[str, Any] = json.loads(done.stdout)
    assert not found["failed"], found
    return found


@attrs.frozen
class Place:
    """Where its files are, and by what its sandboxes are known."""

    folder: Path
    mark: str
    key: str

    def serving(self) -> Any:
        return serving("--config", str(self.folder / "stockade.toml"), key=self.key)

    def check_nothing_is_left(self) -> None:
        """Of those that are not durable, once gc has run."""
        there = containers(f"{self.mark}-box")
        collect()
        assert not there & containers(f"{self.mark}-box")
        until = time.monotonic() + 30
        while containers(f"{self.mark}-box"):  # a slow engine makes them after their client's end
            assert time.monotonic() < until
            time.sleep(0.2)
            collect()
        kept = len(containers(f"{self.mark}-kept"))
        until = time.monotonic() + 10
        while True:
            ledger = SqliteLedger(str(self.folder / "ledger.sqlite"))
            records, left = len(ledger.sessions()), list((self.folder / "tmp").iterdir())
            # Durable ones run on, with their own programs.
            if records <= kept and not left and len(running(self.mark)) <= kept:
                return
            assert time.monotonic() < until, (records, kept, left, running(self.mark))
            time.sleep(0.2)

    def check_they_are_found(self, served: Served, load: Load) -> int:
        """Each that was promised, by its own token, with its file."""
        caller, promised = Caller(served.url, served.key), load.promised()
        for name, (kind, old) in promised.items():
            made = attrs.evolve(old, caller=caller)
            status, found = caller.ask("GET", f"/sandboxes/{name}")
            assert status == 200 and found["state"] == "running", (kind, found)
            status, content = caller.ask("GET", "/files?path=kept", **made.headers)
            assert kind == "kept" or (status, content) == (200, name.encode()), (kind, content)
            _, body = made.stream("process.Process/Start", start("echo again"))
            assert b"YWdhaW4K" in body, body
        listed = {one["sandboxID"] for one in caller.ask("GET", "/v2/sandboxes?limit=100")[1]}
        assert set(promised) <= listed
        until = time.monotonic() + 30
        while len(containers(f"{self.mark}-kept")) > len(listed):  # those of nobody are ended
            assert time.monotonic() < until
            time.sleep(0.2)
        for name in listed:
            if name in load.doubtful or random.random() < 0.5:  # leave some for the next round
                assert caller.ask("DELETE", f"/sandboxes/{name}")[0] == 204
        left = {one["sandboxID"] for one in caller.ask("GET", "/v2/sandboxes?limit=100")[1]}
        load.made = {name: found for name, found in load.made.items() if name in left}
        return len(promised)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    need("local")
    need(_BOX)
    mark = str(10**6 + uuid.uuid4().int % 10**9)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("STOCKADE_LEDGER", str(tmp_path / "ledger.sqlite"))
    monkeypatch.setenv("STOCKADE_GC", "off")  # here it is run when the test says so
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    file = tmp_path / "stockade.toml"
    file.write_text(
        f'[serve]\nstate = "{tmp_path / "state"}"\nmax_sandboxes = 12\n'
        f'[serve.templates.embedded]\nprovider = "local?lifetime_seconds=3000"\n'
        f'[serve.templates.box]\nprovider = "{_BOX}&labels=test={mark}-box"\n'
        f'[serve.templates.kept]\nprovider = "{_BOX}&labels=test={mark}-kept&durable=1"\n'
    )
    file.chmod(0o600)
    yield Place(tmp_path, mark, made_key(file, "one"))
    left = [*containers(f"{mark}-box"), *containers(f"{mark}-kept")]
    if left:
        subprocess.run(["docker", "rm", "-f", *left], check=True, capture_output=True)


@pytest.mark.timeout(120 + 120 * KILLS)
def test_C9_a_server_killed_under_load_leaves_nothing_and_finds_durable_ones(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    chance, load, found, made = random.Random(16), Load(place.mark), 0, 0
    for _ in range(KILLS):
        with place.serving() as served:
            found += place.check_they_are_found(served, load)
            before = len(load.made)
            load.run(served, chance, chance.uniform(0.3, 6))
            made += len(load.made) - before
        place.check_nothing_is_left()
    with place.serving() as served:
        found += place.check_they_are_found(served, load)
        caller = Caller(served.url, served.key)
        for one in caller.ask("GET", "/v2/sandboxes?limit=100")[1]:
            assert caller.ask("DELETE", f"/sandboxes/{one['sandboxID']}")[0] == 204
    assert not containers(f"{place.mark}-kept")
    assert made and found, "it died before it had made anything"
    with capsys.disabled():
        print(f"\n{KILLS} kills, {made} sandboxes lived then; {found} durable ones found again")
