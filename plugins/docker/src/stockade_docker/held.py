"""Which limits an engine holds: not all that take one do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stockade.capabilities import Capabilities, Feature
from stockade.wall import Check

__all__ = ["buffers_check", "by_engine", "check", "unheld"]

#: What an engine says of itself, by the limit that this decides.
_FIELDS = {
    Feature.MEMORY: "MemoryLimit",
    Feature.CPU: "CpuCfsQuota",
    Feature.PROCESSES: "PidsLimit",
}
_NOTE = "the engine reports that it holds no such limit"


def unheld(info: Mapping[str, Any], *, rootless: bool) -> tuple[Feature, ...]:
    """The limits that containers of an engine would not have, by what its API reports.

    An ordinary user's engine has no cgroups of version 1 to give, or none at all. Podman's takes
    the limits there, says that it holds them, and ignores them.
    """
    none = info.get("CgroupDriver") == "none"
    if none or (rootless and str(info.get("CgroupVersion", "1")) == "1"):
        return tuple(_FIELDS)
    # An engine that is too old to report it is taken at its word.
    return tuple(feature for feature, name in _FIELDS.items() if info.get(name) is False)


def by_engine(have: Capabilities, lacking: tuple[Feature, ...]) -> Capabilities:
    """A wall's capabilities, less what this engine does not hold."""
    return have.with_(**{str(feature): ("unsupported", _NOTE) for feature in lacking})


def check(lacking: tuple[Feature, ...]) -> list[Check]:
    """What the probe says of it: nothing where all is held."""
    if not lacking:
        return []
    return [
        Check(
            "limits",
            True,
            f"this engine does not hold {', '.join(map(str, lacking))}: sessions that ask for it "
            "are refused",
            "run the engine as root, or as an ordinary user on cgroup version 2 with these "
            "controllers delegated",
        )
    ]


def buffers_check(cgroups: str) -> list[Check]:
    """What the probe says where the memory limit leaves something out, as cgroup version 1 does:
    it counts buffers of internet sockets apart, by a limit that runtimes do not set any more."""
    if cgroups != "1":
        return []
    return [
        Check(
            "buffers",
            True,
            "cgroup version 1: what internet sockets hold counts in no session's memory; all of "
            "them together have what the engine's machine allows (net.ipv4.tcp_mem and udp_mem)",
            "run the engine on cgroup version 2, or make those limits smaller there",
        )
    ]
