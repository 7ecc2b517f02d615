"""A process killed at every step of its session leaves nothing that gc does not remove (C9).

Each step dies ``STOCKADE_CRASH_ROUNDS`` times (1 here, and of gvisor's and durable containers'
only some; 20 in `tox -e crash`), each time in a process of its own; after each wall's, gc runs
in a new process. Counted is what is left then: containers, networks, volumes, processes,
cgroups, files, records. A second process holds sessions all the while, which must still work.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import pytest

from conftest import need
from durability.victim import Step, steps
from stockade.ledger._sqlite import SqliteLedger

ROUNDS = int(os.environ.get("STOCKADE_CRASH_ROUNDS", "1"))
#: Which part of the steps: "1/3" takes every third, so that a long run can be cut.
SLICE = os.environ.get("STOCKADE_CRASH_SLICE", "1/1")
WALLS = {
    "landlock": "landlock",
    "docker": "docker:stockade-test/busybox",
    "gvisor": "gvisor:stockade-test/python",
    "durable": "docker:stockade-test/busybox?durable=true",
}
#: Where each step dies but once, only every so many-th does: a start behind them takes long.
_THINNED = {"gvisor": 3, "durable": 2}
_HERE = Path(__file__).parent
_AT_ONCE = 3


@attrs.define
class Place:
    """One ledger, one temporary folder, and the processes that use them."""

    folder: Path
    env: dict[str, str]
    owners: set[str] = attrs.field(factory=set)
    kills: int = 0

    @property
    def ledger(self) -> SqliteLedger:
        return SqliteLedger(self.env["STOCKADE_LEDGER"])

    def python(self, *args: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *args],
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            cwd=self.folder,
            **options,
        )

    def kill_at(self, wall: str, step: Step, share: float) -> None:
        """One process that dies at a step."""
        victim = self.python(
            str(_HERE / "victim.py"), wall, *step, str(share), str(self.folder / "out")
        )
        said, _ = victim.communicate(timeout=60)
        assert victim.returncode == -9, f"{step}: {victim.returncode}: {said}"
        self.owners.add(said.splitlines()[0])
        self.kills += 1

    def collect(self) -> dict[str, Any]:
        gc = self.python("-m", "stockade.cli", "gc", "--json")
        said, _ = gc.communicate(timeout=120)
        found: dict[str, Any] = json.loads(said)
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    for name in ("tmp", "state", "out"):
        (tmp_path / name).mkdir()
    env = {
        **os.environ,
        "STOCKADE_LEDGER": str(tmp_path / "state" / "ledger.sqlite"),
        "TMPDIR": str(tmp_path / "tmp"),
        "STOCKADE_GC": "off",  # here it is run when the test says so
        "PYTHONPATH": str(_HERE.parent),
        # How long a daemon inside sleeps, by which it is found in this machine's processes.
        "STOCKADE_TEST_MARK": str(10**6 + int.from_bytes(os.urandom(4), "big")),
    }
    return Place(tmp_path, env)


@attrs.define
class Witness:
    process: subprocess.Popen[str]
    sessions: list[str]

    def says(self) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("?\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


def _witness(place: Place, walls: list[str]) -> Iterator[Witness]:
    process = place.python(str(_HERE / "witness.py"), *walls, stdin=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    words = process.stdout.readline().split()
    assert words and words[0] == "up"
    try:
        yield Witness(process, words[1:])
        process.stdin.close()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@pytest.mark.parametrize("name", list(WALLS))
@pytest.mark.timeout(1800)
def test_C9_killed_at_every_step_nothing_is_left(
    name: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    need("docker" if name == "durable" else name)
    wall = WALLS[name]
    part, parts = map(int, SLICE.split("/"))
    chosen = steps(wall)[part - 1 :: parts]
    if ROUNDS == 1:
        chosen = chosen[:: _THINNED.get(name, 1)]
    kills = [(step, (turn + 0.5) / ROUNDS) for step in chosen for turn in range(ROUNDS)]
    for witness in _witness(place, [wall.partition("?")[0]]):
        began = time.monotonic()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda kill: place.kill_at(wall, *kill), kills))
        seconds = time.monotonic() - began
        time.sleep(1)  # what an engine was asked for as its client died may still come
        made, found = _collect_all(place)
        # At once, before any other process's gc could have helped.
        still = [f"container {entry['Names']}" for entry in _containers(place)]
        left = still + _left(place, made)
        with capsys.disabled():
            print(
                f"\n{name}: {place.kills} kills at {len(chosen)} steps in {seconds:.0f} s; gc "
                f"removed {len(found['removed'])} and forgot {len(found['forgotten'])}; "
                f"left over: {len(left)}"
            )
        assert not left
        assert not found["failed"] and found["kept"] >= 1
        assert witness.says() == "works"
        kept = {record.session_id for record in place.ledger.sessions()}
        assert kept == set(witness.sessions)
    assert place.ledger.sessions() == []
    assert [entry.name for entry in (place.folder / "tmp").iterdir()] == []


def _collect_all(place: Place) -> tuple[list[str], dict[str, Any]]:
    """The containers that there were, and what gc says, which runs again for late ones alone.

    A slow engine can make a container seconds after the client that asked for it died. What was
    there before gc looked must be gone after it.
    """
    made = [entry["Id"] for entry in _containers(place)]
    found = place.collect()
    until = time.monotonic() + 30
    while late := [entry["Id"] for entry in _containers(place) if entry["Id"] not in made]:
        assert time.monotonic() < until, f"the engine still makes containers: {late}"
        made += late
        more = place.collect()
        for key in ("removed", "forgotten", "failed"):
            found[key] = [*found[key], *more[key]]
    return made, found


def _left(place: Place, made: list[str]) -> list[str]:
    """Everything else of the killed processes' that still is there."""
    until = time.monotonic() + 10
    while True:
        left = [
            *_engine_things(),
            *_processes(place),
            *(f"cgroup {path}" for path in _cgroups(made)),
            *(f"record {r.session_id}" for r in place.ledger.sessions() if r.owner in place.owners),
            *(f"file {entry}" for entry in (place.folder / "tmp").iterdir()),
            *(
                f"file {entry}"
                for entry in (place.folder / "state").iterdir()
                if not entry.name.startswith("ledger.sqlite")
            ),
        ]
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.2)  # an end that was ordered takes its moment


def _client() -> Any:
    import docker

    return docker.APIClient(version="auto")


def _containers(place: Place) -> list[dict[str, Any]]:
    try:
        api = _client()
    except Exception:
        return []
    try:
        found = api.containers(all=True, filters={"label": "io.stockade.session"})
    finally:
        api.close()
    return [c for c in found if c["Labels"].get("io.stockade.owner") in place.owners]


def _engine_things() -> list[str]:
    try:
        api = _client()
    except Exception:
        return []
    try:
        networks = [f"network {n['Name']}" for n in api.networks() if "stockade" in n["Name"]]
        volumes = api.volumes().get("Volumes") or []
    finally:
        api.close()
    # The supervisor's own stays, as an image does.
    names = [str(v["Name"]) for v in volumes]
    ours = [n for n in names if "stockade" in n and not n.startswith("stockade-supervisor-")]
    return networks + [f"volume {name}" for name in ours]


def _processes(place: Place) -> list[str]:
    """Keepers of the killed owners, by their environment; daemons inside, by their mark."""
    found = []
    mark = place.env["STOCKADE_TEST_MARK"].encode()
    wanted = {f"STOCKADE_OWNER={owner}".encode() for owner in place.owners}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = set((entry / "environ").read_bytes().split(b"\0"))
            argv = (entry / "cmdline").read_bytes().split(b"\0")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in "ZX" and (words & wanted or mark in argv):
            found.append(f"process {entry.name} {argv!r:.60}")
    return found


def _cgroups(containers: list[str]) -> list[str]:
    """Cgroups of these containers, on either version; others come and go meanwhile."""
    found = []
    for parent, names, _ in os.walk("/sys/fs/cgroup"):
        found += [f"{parent}/{name}" for name in names if any(one in name for one in containers)]
    return found
