"""What the API server says of a pod, and the error that callers get for it."""

from __future__ import annotations

from typing import Any

import pytest

from stockade.errors import SandboxLostError

deaths: Any = pytest.importorskip("stockade_kubernetes.deaths")
errors: Any = pytest.importorskip("stockade_kubernetes.errors")


def pod(status: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", **metadata}, "status": status}


def ended(**terminated: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "sandbox", "state": {"terminated": terminated}}]}


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (
            {"phase": "Failed", "reason": "Evicted", "message": "low on memory"},
            "EvictedError",
            "low on memory",
        ),
        ({"phase": "Failed", "reason": "Preempting"}, "EvictedError", "evicted"),
        ({"phase": "Unknown"}, "NodeLostError", "does not answer"),
        ({"phase": "Running", "reason": "NodeLost"}, "NodeLostError", "does not answer"),
        (
            {
                "phase": "Running",
                "conditions": [
                    {
                        "type": "DisruptionTarget",
                        "status": "True",
                        "reason": "EvictionByEvictionAPI",
                        "message": "drained",
                    }
                ],
            },
            "EvictedError",
            "drained",
        ),
    ],
)
def test_each_end_has_its_error_and_may_be_tried_again(
    status: dict[str, Any], kind: str, words: str
) -> None:
    found = deaths.death_of(pod(status))
    assert found.error is getattr(errors, kind) and words in found.reason
    assert not found.out_of_memory and found.error.retryable
    assert issubclass(found.error, SandboxLostError)


def test_a_pod_that_is_gone_or_goes_was_deleted() -> None:
    assert deaths.death_of(None).error is errors.PodDeletedError
    going = pod({"phase": "Running"}, deletionTimestamp="2026-01-01T00:00:00Z")
    assert deaths.death_of(going).error is errors.PodDeletedError


def test_out_of_memory_is_told_from_an_exit_that_looks_like_it() -> None:
    assert deaths.death_of(pod(ended(reason="OOMKilled", exitCode=137))).out_of_memory
    found = deaths.death_of(pod(ended(reason="Error", exitCode=137)))
    assert not found.out_of_memory and "137" in found.reason
    other = {
        "containerStatuses": [{"name": "other", "state": {"terminated": {"reason": "OOMKilled"}}}]
    }
    assert deaths.death_of(pod({**other, "phase": "Running"})) is None


def test_one_that_runs_lives() -> None:
    running = {
        "containerStatuses": [{"name": "sandbox", "state": {"running": {}}}],
        "phase": "Running",
    }
    assert deaths.death_of(pod(running)) is None
