"""Waiting for a pod over watches that end, break off, or begin with what is no longer known."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from plugins.kubernetes.conftest import Scripted
from stockade.errors import SandboxStartError

waiting: Any = pytest.importorskip("stockade_kubernetes.waiting")
clusters: Any = pytest.importorskip("stockade_kubernetes.cluster")

Answer = tuple[int, dict[str, str], Any]


def pod(version: str, *, runs: bool = False) -> dict[str, Any]:
    state = {"running": {}} if runs else {"waiting": {"reason": "ContainerCreating"}}
    about = {"name": "a-pod", "uid": "u", "resourceVersion": version}
    status = {"containerStatuses": [{"name": "sandbox", "state": state}]}
    return {"metadata": about, "spec": {"nodeName": "n"}, "status": status}


def event(kind: str, thing: Any) -> bytes:
    return json.dumps({"type": kind, "object": thing}).encode() + b"\n"


#: Of a version that etcd has thrown away.
EXPIRED = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}


def serve(scripted: Scripted, watches: list[Answer], looks: list[Any]) -> None:
    """Watches and looks, each answered in its turn."""

    def answer(method: str, path: str, body: Any) -> Answer:
        if "watch=1" in path:
            return watches.pop(0)
        if "/events" in path:
            return 200, {}, {"items": []}
        return 200, {}, looks.pop(0)

    scripted.answer = answer


def wait(cluster: Any) -> Any:
    return waiting.until_runs(cluster, pod("1"), "sandbox", time.monotonic() + 10)


def versions(scripted: Scripted) -> list[str]:
    """Of the watches that were asked for."""
    asked = [path for _, path, _ in scripted.asked if "watch=1" in path]
    return [path.partition("resourceVersion=")[2].partition("&")[0] for path in asked]


RUNS: Answer = (200, {}, event("MODIFIED", pod("9", runs=True)))


@pytest.mark.parametrize(
    "broken",
    [
        (200, {}, event("ERROR", EXPIRED)),
        (410, {}, EXPIRED),
        (503, {}, {"message": "the server is shutting down"}),
        (200, {}, b""),
        (200, {}, event("MODIFIED", pod("2")) + b'{"type": "MODI'),
    ],
    ids=["expired", "gone", "unavailable", "ended", "broken off"],
)
def test_a_watch_that_is_over_is_begun_again_from_what_is_there_now(
    scripted: Scripted, cluster: Any, broken: Answer
) -> None:
    serve(scripted, [broken, RUNS], [pod("5")])
    assert wait(cluster)["metadata"]["resourceVersion"] == "9"
    assert versions(scripted) == ["1", "5"]


def test_a_pod_that_runs_by_then_needs_no_second_watch(scripted: Scripted, cluster: Any) -> None:
    serve(scripted, [(410, {}, EXPIRED)], [pod("5", runs=True)])
    assert wait(cluster)["metadata"]["resourceVersion"] == "5"


def test_a_busy_server_is_watched_again_when_it_says(scripted: Scripted, cluster: Any) -> None:
    serve(scripted, [(429, {"Retry-After": "1"}, {"message": "slow down"}), RUNS], [pod("5")])
    begun = time.monotonic()
    wait(cluster)
    assert time.monotonic() - begun >= 1


def test_who_may_not_watch_is_not_made_to_wait(scripted: Scripted, cluster: Any) -> None:
    serve(scripted, [(403, {}, {"message": "pods is forbidden"})], [])
    with pytest.raises(clusters.ClusterError, match="forbidden"):
        wait(cluster)


def test_a_pod_that_goes_while_it_starts_is_not_waited_for(
    scripted: Scripted, cluster: Any
) -> None:
    serve(scripted, [(200, {}, event("DELETED", pod("2")))], [])
    with pytest.raises(SandboxStartError, match="deleted the pod while it started"):
        wait(cluster)
