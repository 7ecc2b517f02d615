"""A process killed at the steps of its session leaves no pod that gc does not remove (C9)."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from durability.test_crash import Place
from durability.victim import steps
from plugins.kubernetes.conftest import HOME

places: Any = pytest.importorskip("stockade_kubernetes.places")

_HERE = Path(__file__).parents[2] / "durability"
_AT_ONCE = 3
#: Each kill costs the start of a pod, so of the steps every so many-th is taken.
_THINNED = int(os.environ.get("STOCKADE_CRASH_THINNED", "3"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_C9_killed_at_every_step_no_pod_is_left(on_cluster: str, tmp_path: Path) -> None:
    for name in ("tmp", "state", "out"):
        (tmp_path / name).mkdir()
    env = {
        **os.environ,
        "STOCKADE_LEDGER": str(tmp_path / "state" / "ledger.sqlite"),
        "TMPDIR": str(tmp_path / "tmp"),
        "STOCKADE_GC": "off",
        "PYTHONPATH": str(_HERE.parent),
        "STOCKADE_TEST_MARK": str(10**6 + int.from_bytes(os.urandom(4), "big")),
    }
    place = Place(tmp_path, env)
    wall = on_cluster.replace("stockade-test/python", "stockade-test/busybox")
    admin = places.cluster_at(places.Where(context="admin", kubeconfig=f"{HOME}/kubeconfig"))

    def ours() -> list[str]:
        found = admin.ask("GET", admin.pods, seconds=10)["items"]
        return [
            pod["metadata"]["name"]
            for pod in found
            if pod["metadata"]["annotations"].get("io.stockade/owner") in place.owners
        ]

    chosen = steps(wall)[::_THINNED]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda step: place.kill_at(wall, step, 0.5), chosen))
    assert place.kills == len(chosen) > 3
    found = place.collect()
    assert not found["failed"]
    assert ours() == []
    owned = [one for one in place.ledger.sessions() if one.owner in place.owners]
    assert owned == []
