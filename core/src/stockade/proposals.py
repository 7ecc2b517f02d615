"""What policies see, what they may answer, and the check that they only tighten."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from stockade.config import Mount, OutputPolicy, SandboxConfig
from stockade.wall import ExecRequest

__all__ = ["ExecutionProposal", "Refuse", "SessionProposal", "Tighten", "loosened"]


@attrs.frozen
class Refuse:
    """A policy's no; the reason reaches the caller in PolicyRefusedError."""

    reason: str


@attrs.frozen(kw_only=True)
class SessionProposal:
    """A session that is about to be created."""

    agent_id: str
    provider: str  #: the entry-point name
    target: str | None
    config: SandboxConfig


@attrs.frozen(kw_only=True)
class ExecutionProposal:
    """A request that is about to be executed, script, arguments and environment included."""

    agent_id: str
    provider: str
    session_id: str
    request: ExecRequest
    output_limit_bytes: int


@attrs.frozen(kw_only=True)
class Tighten:
    """What an execution policy may change; larger values than proposed are refused."""

    timeout_seconds: float | None = None
    output_limit_bytes: int | None = None


_LIMITS = (
    "timeout_seconds",
    "memory_mb",
    "cpu_limit",
    "disk_mb",
    "max_processes",
    "output_limit_bytes",
    "lifetime_seconds",
    "idle_seconds",
    "startup_timeout_seconds",
)


def _network(config: SandboxConfig) -> int:
    """How open it is: closed, some hosts, everything."""
    return 2 if config.network_enabled else 1 if config.network_allow else 0


def _subset(new: Mapping[str, str], old: Mapping[str, str]) -> bool:
    return all(name in old and old[name] == value for name, value in new.items())


def _mount_allowed(mount: Mount, old: tuple[Mount, ...]) -> bool:
    return mount in old or (mount.read_only and attrs.evolve(mount, read_only=False) in old)


def loosened(new: SandboxConfig, old: SandboxConfig) -> list[str]:
    """The fields of ``new`` that allow more than ``old`` does."""
    found = []
    for name in _LIMITS:
        before, after = getattr(old, name), getattr(new, name)
        if before is not None and (after is None or after > before):
            found.append(name)
    hosts_grew = _network(new) == 1 == _network(old) and not (
        set(new.network_allow) <= set(old.network_allow)
    )
    checks = {
        "network_enabled": _network(new) > _network(old) and _network(new) == 2,
        "network_allow": hosts_grew or (_network(new) == 1 and _network(old) == 0),
        "read_only_fs": old.read_only_fs and not new.read_only_fs,
        "env_vars": not _subset(new.env_vars, old.env_vars),
        "mounts": not all(_mount_allowed(mount, old.mounts) for mount in new.mounts),
        "user": new.user != old.user,
        "working_dir": new.working_dir != old.working_dir,
        "output_policy": old.output_policy is OutputPolicy.END
        and new.output_policy is OutputPolicy.DRAIN,
    }
    return found + [name for name, looser in checks.items() if looser]
