"""What an engine holds of stockade's, as any process finds it: for ``gc`` and ``top``."""

from __future__ import annotations

from typing import Any

import docker

from stockade.system.moments import read_moment
from stockade.wall import Leftover, Usage
from stockade_docker import delivery
from stockade_docker.create import HELPER, LABEL

__all__ = ["all_of", "old_volumes_of", "usage_of"]

#: So long a volume stays that no container of another version uses: that one would fill it
#: again, and who goes back and forth between versions should not wait each time.
_VOLUME_SECONDS = 86_400.0


def all_of(api: docker.APIClient) -> list[Leftover]:
    """Every container that carries the labels, whatever its state. Raises one of FAILURES."""
    found = api.containers(all=True, filters={"label": f"{LABEL}session"})
    helpers = api.containers(all=True, filters={"label": HELPER, "status": "created"})
    return [_leftover(entry) for entry in found] + [
        Leftover(
            session_id=f"helper-{entry['Id'][:12]}",
            handle=str(entry["Id"]),
            owner=entry["Labels"][HELPER],
            words=f"container {entry['Id'][:12]} (to make an image)",
        )
        for entry in helpers
        # A session of such an image bears the image's label, too.
        if f"{LABEL}session" not in entry["Labels"]
    ]


def old_volumes_of(api: docker.APIClient) -> list[Leftover]:
    """The volumes with supervisors of other versions. Raises one of FAILURES."""
    return [
        Leftover(
            session_id=name,
            handle=name,
            expires_at=made + _VOLUME_SECONDS,
            running=False,
            created_at=made,
            words=f"volume {name} (of another version)",
        )
        for name, made in delivery.old_ones(api)
    ]


def _leftover(entry: dict[str, Any]) -> Leftover:
    labels: dict[str, str] = entry.get("Labels") or {}
    state = str(entry.get("State", "")).lower()
    container = str(entry["Id"])
    return Leftover(
        session_id=labels.get(f"{LABEL}session", ""),
        handle=container,
        owner=labels.get(f"{LABEL}owner", ""),
        expires_at=read_moment(labels.get(f"{LABEL}expires", "")),
        durable=labels.get(f"{LABEL}durable") == "1",
        running=state in ("running", "paused", "restarting"),
        created_at=read_moment(labels.get(f"{LABEL}created", "")),
        words=f"container {container[:12]} ({state or 'unknown'})",
    )


def usage_of(api: docker.APIClient, container: str) -> Usage | None:
    """One look at what a container uses, as the engine counts it. Raises one of FAILURES."""
    stats: dict[str, Any] = api.stats(container, stream=False, one_shot=True)
    memory = stats.get("memory_stats") or {}
    cpu = ((stats.get("cpu_stats") or {}).get("cpu_usage") or {}).get("total_usage")
    used = memory.get("usage")
    if used is not None:
        # What the kernel would give back at once is not the programs' own.
        cache = memory.get("stats") or {}
        used -= cache.get("inactive_file", cache.get("total_inactive_file", 0))
    return Usage(
        cpu_seconds=None if cpu is None else cpu / 1e9,
        memory_bytes=used,
        processes=(stats.get("pids_stats") or {}).get("current"),
    )
