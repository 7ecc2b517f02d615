"""What became of a pod, read from what the API server says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from stockade.errors import SandboxLostError
from stockade.toolkit.supervised import Death
from stockade_kubernetes.errors import EvictedError, NodeLostError, PodDeletedError
from stockade_kubernetes.pod import CONTAINER

__all__ = ["PodDeath", "death_of"]


@attrs.frozen
class PodDeath(Death):
    """With the error that callers get for it."""

    error: type[SandboxLostError] = SandboxLostError


def death_of(pod: Mapping[str, Any] | None) -> PodDeath | None:
    """Why it has died; None where it seems to live. ``pod`` None: there is none any more."""
    if pod is None:
        return PodDeath("its pod was deleted by somebody else", error=PodDeletedError)
    status = pod.get("status") or {}
    reason, message = str(status.get("reason") or ""), str(status.get("message") or "")
    said = f" ({message})" if message else ""
    state = _state(status)
    ended = state.get("terminated")
    if ended and ended.get("reason") == "OOMKilled":
        return PodDeath("the memory limit ended it", out_of_memory=True)
    for condition in status.get("conditions") or ():
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            word = condition.get("reason")
            return PodDeath(
                f"its node gave it up: {word}: {condition.get('message')}", False, EvictedError
            )
    if reason in ("Evicted", "Preempting", "Preempted"):
        return PodDeath(f"its node evicted it{said}", error=EvictedError)
    if reason == "NodeLost" or status.get("phase") == "Unknown":
        return PodDeath(f"its node does not answer the cluster any more{said}", error=NodeLostError)
    if reason == "DeadlineExceeded":
        return PodDeath("its deadline has passed")
    if pod["metadata"].get("deletionTimestamp"):
        return PodDeath(
            "its pod is being deleted: somebody drains its node, or removed it",
            error=PodDeletedError,
        )
    if ended:
        code, word = ended.get("exitCode"), ended.get("reason") or ""
        return PodDeath(f"its container has ended with code {code} {word}".rstrip())
    if status.get("phase") in ("Failed", "Succeeded"):
        return PodDeath(f"its pod has ended: {reason or status['phase']}{said}")
    return None


def _state(status: Mapping[str, Any]) -> Mapping[str, Any]:
    for one in status.get("containerStatuses") or ():
        if one.get("name") == CONTAINER:
            found: Mapping[str, Any] = one.get("state") or {}
            return found
    return {}
