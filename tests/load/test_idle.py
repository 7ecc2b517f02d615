"""An idle session behind a wall of this machine's processes: what it costs, which is little."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import stockade
from conftest import need
from stockade.toolkit.local import LocalSandbox, cgroups, tree

WALLS = ("landlock", "bubblewrap")
_SETTLE_SECONDS = 30.0
_LOOK_SECONDS = 1.5
#: Of an idle session that ran one command: its keeper, its supervisor, and the process that waits
#: for the next program.
MOST_PROCESSES = 3
MOST_BYTES = 4 << 20


def processes(session: stockade.Session) -> list[int]:
    """The keeper and everything below it."""
    sandbox = session._record.sandbox
    assert isinstance(sandbox, LocalSandbox)
    return [sandbox.keeper.pid, *tree.descendants(sandbox.keeper.pid)]


def switches(pids: list[int]) -> int:
    """How often they went to sleep, and were taken from a cpu: what waits for good adds none."""
    found = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            found += int(line.split()[1]) if "ctxt_switches" in line else 0
    return found


def bytes_of(pids: list[int]) -> int:
    """Their proportional shares of the memory that they use."""
    found = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            found += int(line.split()[1]) << 10 if line.startswith("Pss:") else 0
    return found


def resting(find: Callable[[], list[int]]) -> list[int]:
    """The processes, once they do nothing at all and stay the same."""
    until = time.monotonic() + _SETTLE_SECONDS
    while time.monotonic() < until:
        try:
            pids = find()
            before = switches(pids)
            time.sleep(_LOOK_SECONDS)
            if find() == pids and switches(pids) == before:
                return pids
        except OSError:
            continue  # one of them ended meanwhile
    raise AssertionError("its processes do not rest")


@pytest.mark.parametrize("limits", ["auto", "watch"])
@pytest.mark.parametrize("wall", WALLS)
def test_an_idle_session_waits_and_does_nothing(wall: str, limits: str) -> None:
    need(wall)
    with stockade.open(f"{wall}?limits={limits}") as session:
        assert session.run(["true"]).success
        assert len(resting(lambda: processes(session))) <= MOST_PROCESSES


@pytest.mark.parametrize("wall", WALLS)
def test_an_idle_session_is_small(wall: str) -> None:
    """Where cgroups hold its limits; else a keeper that watches them is an interpreter."""
    need(wall)
    if not {"memory", "cpu"} <= set(cgroups.parents()):
        pytest.skip("no cgroup can be made here")
    with stockade.open(wall) as session:
        assert session.run(["true"]).success
        assert bytes_of(resting(lambda: processes(session))) <= MOST_BYTES


@pytest.mark.parametrize("wall", WALLS)
def test_what_makes_sessions_rests_too(wall: str) -> None:
    need(wall)
    with stockade.open(wall):
        assert len(resting(_children)) >= 2


def _children() -> list[int]:
    """Of this process, those that are stockade's: keepers, and what forks them."""
    below = tree.children(os.getpid())
    return [pid for pid in below if "stockade" in Path(f"/proc/{pid}/cmdline").read_text()]
