"""The API server that is busy, restarts, or no longer knows who asks."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from plugins.kubernetes.conftest import Scripted

clusters: Any = pytest.importorskip("stockade_kubernetes.cluster")
waiting: Any = pytest.importorskip("stockade_kubernetes.waiting")
errors: Any = pytest.importorskip("stockade_kubernetes.errors")
places: Any = pytest.importorskip("stockade_kubernetes.places")
leftovers: Any = pytest.importorskip("stockade_kubernetes.leftovers")

Answer = tuple[int, dict[str, str], Any]


def in_turn(*answers: Answer) -> Any:
    left = list(answers)
    return lambda method, path, body: left.pop(0) if len(left) > 1 else left[0]


def test_who_is_busy_is_asked_again_when_it_says(scripted: Scripted, cluster: Any) -> None:
    scripted.answer = in_turn((429, {"Retry-After": "1"}, {}), (200, {}, {"kind": "Pod"}))
    begun = time.monotonic()
    assert cluster.ask("POST", "/pods", {}, seconds=10) == {"kind": "Pod"}
    assert time.monotonic() - begun >= 1 and len(scripted.asked) == 2


def test_who_is_busy_for_longer_than_there_is_time_is_not_waited_for(
    scripted: Scripted, cluster: Any
) -> None:
    scripted.answer = in_turn((429, {"Retry-After": "60"}, {"message": "slow down"}))
    with pytest.raises(clusters.ClusterError, match="slow down") as caught:
        cluster.ask("GET", "/pods", seconds=5)
    assert caught.value.status == 429 and caught.value.retry_after == 60 and caught.value.soon


def test_a_server_that_fails_for_a_moment_is_asked_again(scripted: Scripted, cluster: Any) -> None:
    scripted.answer = in_turn((500, {}, b"etcd"), (503, {}, b""), (200, {}, {"a": 1}))
    assert cluster.ask("GET", "/pods", seconds=10) == {"a": 1}
    assert len(scripted.asked) == 3


def test_what_is_refused_is_asked_once(scripted: Scripted, cluster: Any) -> None:
    said = {"message": "no such thing", "reason": "NotFound"}
    scripted.answer = in_turn((404, {}, said))
    with pytest.raises(clusters.ClusterError, match="no such thing") as caught:
        cluster.ask("GET", "/pods/x", seconds=5)
    assert caught.value.gone and caught.value.reason == "NotFound" and len(scripted.asked) == 1


def kubeconfig(folder: Path, server: str, user: dict[str, Any]) -> str:
    """A file with one context, as the client reads it."""
    found = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "here"}}],
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(found))
    return str(path)


def tokens(scripted: Scripted) -> list[str]:
    return [headers["authorization"] for headers in scripted.headers]


def test_a_token_whose_end_is_known_is_renewed_before(scripted: Scripted, tmp_path: Path) -> None:
    """By the program that the kubeconfig names, as clouds have it."""
    program = tmp_path / "login"
    program.write_text(
        f"#!/bin/sh\necho x >>{tmp_path}/count\n"
        """echo '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",'\n"""
        f"""printf '"status": {{"token": "token-%s",' $(wc -l <{tmp_path}/count)\n"""
        """echo '"expirationTimestamp": "2020-01-01T00:00:00Z"}}'\n"""
    )
    program.chmod(0o755)
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(program)}}
    where = places.Where(kubeconfig=kubeconfig(tmp_path, scripted.url, user))
    cluster = places.cluster_at(where)
    for _ in range(2):
        cluster.ask("GET", "/pods", seconds=5)
    assert tokens(scripted) == ["Bearer token-2", "Bearer token-3"]


def test_a_token_that_is_refused_is_read_anew_once(scripted: Scripted, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old")
    where = places.Where(kubeconfig=kubeconfig(tmp_path, scripted.url, {"tokenFile": str(file)}))
    cluster = places.cluster_at(where)
    scripted.answer = in_turn((200, {}, {}), (401, {}, {"message": "Unauthorized"}), (200, {}, {}))
    cluster.ask("GET", "/pods", seconds=5)
    file.write_text("new")
    assert cluster.ask("GET", "/pods", seconds=5) == {}
    assert tokens(scripted) == ["Bearer old", "Bearer old", "Bearer new"]
    scripted.answer = in_turn((401, {}, {"message": "Unauthorized"}))
    with pytest.raises(clusters.ClusterError) as caught:
        cluster.ask("GET", "/pods", seconds=5)
    assert caught.value.status == 401 and len(scripted.asked) == 5


def test_nobody_there_is_said_within_the_time(cluster: Any) -> None:
    cluster.configuration.host = "http://127.0.0.1:9"
    begun = time.monotonic()
    with pytest.raises(clusters.ClusterError) as caught:
        cluster.ask("GET", "/pods", seconds=1)
    assert caught.value.unreached and caught.value.soon and time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("status", "message", "kind", "retryable"),
    [
        (403, "pods is forbidden: exceeded quota: q, requested: pods=1", "QuotaError", True),
        (403, 'pod rejected: RuntimeClass "x" not found', "AdmissionError", False),
        (403, "User u cannot create resource pods", "SandboxStartError", False),
        (422, "spec.x: Invalid value", "AdmissionError", False),
        (503, "apiserver is shutting down", "SandboxStartError", True),
    ],
)
def test_each_refusal_has_its_error(status: int, message: str, kind: str, retryable: bool) -> None:
    found = waiting.refusal(clusters.ClusterError(message, status))
    assert type(found).__name__ == kind and message in str(found)
    assert found.retryable is retryable and not found.nothing_began


def test_what_was_never_asked_may_be_tried_by_core_itself() -> None:
    error = clusters.ClusterError("nobody", clusters.NOT_REACHED)
    error.unreached = True
    assert waiting.refusal(error).nothing_began


def test_pods_are_listed_page_by_page(scripted: Scripted, cluster: Any) -> None:
    def answer(method: str, path: str, body: Any) -> Answer:
        name = "second" if "continue=more" in path else "first"
        about = {"name": name, "uid": name, "annotations": {"io.stockade/session": f"s-{name}"}}
        found = {"items": [{"metadata": about, "status": {"phase": "Running"}}]}
        return 200, {}, {**found, "metadata": {"continue": "" if name == "second" else "more"}}

    scripted.answer = answer
    assert [one.session_id for one in leftovers.all_of(cluster)] == ["s-first", "s-second"]
