"""Waiting until a pod runs, and the words for one that does not."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from stockade.errors import SandboxStartError
from stockade_kubernetes.cluster import Cluster, ClusterError
from stockade_kubernetes.errors import AdmissionError, ImageError, QuotaError, UnschedulableError
from stockade_kubernetes.pod import CONTAINER

__all__ = ["events_of", "look", "refusal", "until_runs"]

#: How long a watch lasts before the pod's events are looked at.
_LOOK_SECONDS = 3.0
_ASK_SECONDS = 10.0
#: Of a container that waits: nothing that is left alone comes right.
_HOPELESS_IMAGE = ("ErrImageNeverPull", "InvalidImageName")
_IMAGE = (*_HOPELESS_IMAGE, "ErrImagePull", "ImagePullBackOff", "ImageInspectError")
_CONTAINER = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_MOST_EVENTS = 5
_NEEDS = " The image must hold sh, head, tail, uname, rm and chmod."


def until_runs(cluster: Cluster, pod: Mapping[str, Any], container: str, until: float) -> Any:
    """The pod as it is once that container runs. ``until``: as time.monotonic
    says it. Raises SandboxStartError and ClusterError."""
    name, version = pod["metadata"]["name"], pod["metadata"]["resourceVersion"]
    seen: Any = pod
    while True:
        left = until - time.monotonic()
        if left <= 0:
            raise _too_late(cluster, seen)
        for seen in _changes(cluster, name, version, min(_LOOK_SECONDS, left)):
            if _runs(seen, container):
                return seen
            _raise_hopeless(cluster, seen, patient=True)
        _raise_hopeless(cluster, seen, patient=False)
        left = until - time.monotonic()
        seen = cluster.ask("GET", f"{cluster.pods}/{name}", seconds=max(1.0, min(10.0, left)))
        version = seen["metadata"]["resourceVersion"]
        if _runs(seen, container):
            return seen


def _changes(cluster: Cluster, name: str, version: str, seconds: float) -> Iterator[Any]:
    """The pod after each change, for so long at most; it ends early where the API server is
    busy, restarts, or no longer knows that version. Raises SandboxStartError, ClusterError."""
    query = {"fieldSelector": f"metadata.name={name}", "resourceVersion": version}
    try:
        with contextlib.closing(cluster.lines(cluster.pods, query, seconds)) as events:
            for event in events:
                if event.get("type") == "ERROR":  # too old a version, say
                    return
                if event.get("type") == "DELETED":
                    raise SandboxStartError("somebody deleted the pod while it started.")
                yield event.get("object") or {}
    except ClusterError as error:
        if not (error.gone or error.soon):
            raise
        # The request that follows is made again as often as it must be.
        time.sleep(min(seconds, error.retry_after or 0.0))


def _runs(pod: Mapping[str, Any], container: str) -> bool:
    for one in _statuses(pod):
        if one["name"] == container:
            return "running" in (one.get("state") or {})
    return False


def _statuses(pod: Mapping[str, Any]) -> list[Any]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def look(cluster: Cluster, name: str) -> None:
    """Raise SandboxStartError where a pod cannot come up any more; ClusterError."""
    pod = cluster.ask("GET", f"{cluster.pods}/{name}", seconds=_ASK_SECONDS)
    _raise_hopeless(cluster, pod, patient=True)


def _raise_hopeless(cluster: Cluster, pod: Mapping[str, Any], *, patient: bool) -> None:
    status = pod.get("status") or {}
    if status.get("phase") == "Failed" and status.get("reason"):
        why = f"{status.get('reason') or 'it failed'}: {status.get('message') or ''}"
        said = events_of(cluster, pod)
        if str(status.get("reason")).startswith(("OutOf", "NodeAffinity", "UnexpectedAdmission")):
            raise UnschedulableError(f"its node did not take the pod: {why}.{said}")
        raise SandboxStartError(f"the pod ended before it was up: {why.strip(': ')}.{said}")
    for one in _statuses(pod):
        ended = (one.get("state") or {}).get("terminated") or {}
        if ended and (one["name"] == CONTAINER or ended.get("exitCode")):
            raise _ended(cluster, pod, one, ended)
        waiting = (one.get("state") or {}).get("waiting") or {}
        reason, message = waiting.get("reason", ""), waiting.get("message", "")
        if reason in _HOPELESS_IMAGE or (reason in _IMAGE and not patient):
            missing = any(word in message for word in ("not found", "denied", "NotFound"))
            raise ImageError(
                f"no node can start {one.get('image')}: {reason}: {message}."
                f"{events_of(cluster, pod)}",
                retryable=reason not in _HOPELESS_IMAGE and not missing,
            )
        if reason in _CONTAINER:
            needs = "" if "/bin/sh" not in message else _NEEDS
            raise ImageError(
                f"nothing can be started from {one.get('image')}: {reason}: {message}.{needs}"
                f"{events_of(cluster, pod)}",
                retryable=False,
            )
    if not patient:
        said = events_of(cluster, pod)
        if "no runtime for" in said or "RuntimeHandler" in said:
            raise AdmissionError(
                f"the node has no runtime for the pod's RuntimeClass.{said}", retryable=False
            )


def _ended(
    cluster: Cluster, pod: Mapping[str, Any], one: Mapping[str, Any], ended: Mapping[str, Any]
) -> SandboxStartError:
    """A container that ended although nobody has sent it anything."""
    reason, message = ended.get("reason") or "", ended.get("message") or ""
    said = events_of(cluster, pod)
    if reason == "OOMKilled":
        return SandboxStartError(
            "the memory limit ended the pod before it was up; raise memory_mb.", retryable=False
        )
    if reason in ("StartError", "ContainerCannotRun"):
        needs = "" if "/bin/sh" not in message else _NEEDS
        return ImageError(
            f"nothing can be started from {one.get('image')}: {message}.{needs}{said}",
            retryable=False,
        )
    words = f"{reason} {message}".strip()
    return SandboxStartError(
        f"the pod ended before it was up, with code {ended.get('exitCode')} ({words}).{said}"
    )


def _too_late(cluster: Cluster, pod: Mapping[str, Any]) -> SandboxStartError:
    said = events_of(cluster, pod)
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return UnschedulableError(
                f"no node took the pod in time: {condition.get('message')}.{said}"
            )
    if not (pod.get("spec") or {}).get("nodeName"):
        return UnschedulableError(f"no scheduler gave the pod a node in time.{said}")
    return SandboxStartError(f"the pod did not run in time (startup_timeout_seconds).{said}")


def events_of(cluster: Cluster, pod: Mapping[str, Any]) -> str:
    """The newest of the pod's events, as a sentence that follows another; empty where there is
    none, or who asks may not see them. Never raises."""
    query = {"fieldSelector": f"involvedObject.uid={pod['metadata'].get('uid', '')}"}
    path = f"/api/v1/namespaces/{cluster.namespace}/events"
    with contextlib.suppress(ClusterError, KeyError):
        found = cluster.ask("GET", path, query=query, seconds=_ASK_SECONDS, again=False)
        warned = [one for one in found["items"] if one.get("type") == "Warning"]
        warned.sort(key=lambda one: str(one.get("lastTimestamp") or one.get("eventTime") or ""))
        texts = dict.fromkeys(
            f"{one.get('reason')}: {one.get('message')}" for one in warned[-_MOST_EVENTS:]
        )
        if texts:
            return f" The cluster's events: {'; '.join(texts)}."
    return ""


def refusal(error: ClusterError) -> SandboxStartError:
    """What the caller is to know of a pod that the API server did not take."""
    words = str(error)
    low = words.lower()
    if error.status == 403 and "exceeded quota" in low:
        return QuotaError(
            f"the namespace's quota is used up: {words}.", retryable=True, nothing_began=False
        )
    if error.status == 403 and "runtimeclass" in low:
        return AdmissionError(f"the cluster has no such RuntimeClass: {words}.", retryable=False)
    if error.status in (401, 403):
        return SandboxStartError(
            f"the cluster refused the pod: {words}. `stockade doctor kubernetes` says which right "
            "is missing.",
            retryable=False,
        )
    if error.status in (400, 409, 413, 422):
        return AdmissionError(f"the cluster refused the pod: {words}.", retryable=False)
    return SandboxStartError(
        f"the pod could not be made: {words}.", retryable=True, nothing_began=error.unreached
    )
