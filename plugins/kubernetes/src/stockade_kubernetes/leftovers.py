"""What a cluster holds of stockade's, as any process finds it: for ``gc`` and ``top``."""

from __future__ import annotations

from typing import Any

from stockade.system.moments import read_moment
from stockade.wall import Leftover, Usage
from stockade_kubernetes.cluster import Cluster, ClusterError
from stockade_kubernetes.minding import listed
from stockade_kubernetes.pod import LABEL

__all__ = ["all_of", "usage_of"]

_ASK_SECONDS = 10.0


def all_of(cluster: Cluster) -> list[Leftover]:
    """Every pod of the namespace that bears the labels, whatever its state. Raises
    ClusterError."""
    return [_leftover(pod) for pod in listed(cluster, f"{LABEL}session")]


def _leftover(pod: Any) -> Leftover:
    about = pod["metadata"]
    marks: dict[str, str] = about.get("annotations") or {}
    phase = (pod.get("status") or {}).get("phase", "Unknown")
    return Leftover(
        session_id=marks.get(f"{LABEL}session", ""),
        handle=f"{about['name']}/{about['uid']}",
        owner=marks.get(f"{LABEL}owner", ""),
        expires_at=read_moment(marks.get(f"{LABEL}expires", "")),
        durable=marks.get(f"{LABEL}durable") == "1",
        running=phase in ("Pending", "Running", "Unknown"),
        created_at=read_moment(marks.get(f"{LABEL}created", "")),
        words=f"pod {about['name']} ({phase.lower()})",
    )


def usage_of(cluster: Cluster, name: str) -> Usage | None:
    """As the metrics server says; None where the cluster has none. Raises ClusterError."""
    path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{cluster.namespace}/pods/{name}"
    try:
        found = cluster.ask("GET", path, seconds=_ASK_SECONDS, again=False)
    except ClusterError as error:
        if error.status in (403, 404):
            return None
        raise
    from kubernetes.utils import parse_quantity

    used = [one["usage"] for one in found.get("containers") or ()]
    return Usage(memory_bytes=int(sum(parse_quantity(one["memory"]) for one in used)))
