"""What a container is created with: every wall of it stated."""

from __future__ import annotations

import math
import time
from typing import Any

import attrs
import docker
from docker.types import LogConfig, Mount, Ulimit

from stockade.deadlines import moment
from stockade.wall import OpenRequest
from stockade_docker.delivery import COMMAND, HELPER
from stockade_docker.delivery import mount as supervisor
from stockade_docker.identity import NOBODY
from stockade_docker.mounts import checked

__all__ = ["HELPER", "LABEL", "Shape", "arguments", "name_of", "user"]

#: Labels are this and a word: session, agent (a hash), owner, created, expires, durable.
LABEL = "io.stockade."
#: The supervisor, a keeper, and one that waits; the limit is the programs' beside them. The
#: keepers of executions that overlap take from it, since what is kept free for them programs
#: could use.
_OWN_PROCESSES = 3
_OPEN_FILES = 4096
#: Seconds by which the deadline inside comes after the owner's own.
_INSIDE_LATER = 3.0


@attrs.frozen
class Shape:
    """What a wall and its options add to the configuration."""

    image: str
    machine: str = "x86_64"  #: the image's architecture, as the kernel calls it
    runtime: str | None = None
    #: A profile as the engine takes it (JSON, a path of its own, a word); None: its own one.
    seccomp: str | None = None
    apparmor: str | None = None  #: a profile that the engine's machine has loaded
    shm_mb: int | None = None
    #: Processes of the engine's machine for one inside, and beside them all.
    processes_each: tuple[int, int] = (1, 0)
    #: Whether the engine sees what is written to the root (a kernel inside may keep that).
    sees_root: bool = True
    local_engine: bool = True
    podman: bool = False
    #: Whether the engine is known to give no network where it is asked for none this way.
    knows_network_disabled: bool = False


def arguments(api: docker.APIClient, request: OpenRequest, shape: Shape) -> dict[str, Any]:
    """The keyword arguments of docker-py's ``create_container``."""
    config = request.config
    entry = _durable_entry(request) if config.durable else [COMMAND, "serve"]
    return {
        "image": shape.image,
        "name": name_of(request.session_id),
        "entrypoint": entry,
        "command": [],
        "hostname": "sandbox",
        "user": user(request),
        "working_dir": config.working_dir,
        # Of the execution's environment nothing stands here: anybody who may ask the
        # engine can read a container's configuration (B4).
        "environment": {"HOME": config.working_dir, "LANG": "C.UTF-8"},
        "labels": _labels(request),
        "stdin_open": not config.durable,
        "tty": False,
        "detach": False,
        # The same empty network namespace as network_mode=none, 100 ms sooner: the
        # engine's network is not asked at all. Podman ignores it (see _host_config).
        "network_disabled": not config.network_enabled,
        "ports": list(config.ports) or None,
        "host_config": _host_config(api, request, shape),
    }


def user(request: OpenRequest) -> str:
    """Its user and group, in numbers: the wall's own choice stands there too by now."""
    chosen = request.config.user or NOBODY
    return chosen if ":" in chosen else f"{chosen}:{chosen}"


def _ulimits(shape: Shape) -> list[Ulimit]:
    limits = {"core": 0, "nofile": _OPEN_FILES}
    if shape.podman:
        # It would set one of its own where this is left out, above what a machine
        # without CAP_SYS_RESOURCE may set. The limit that counts is the cgroup's.
        limits["nproc"] = _OPEN_FILES
    return [Ulimit(name=name, soft=value, hard=value) for name, value in limits.items()]


def name_of(session_id: str) -> str:
    return f"stockade-{session_id}"


def _durable_entry(request: OpenRequest) -> list[str]:
    """What holds a durable container and ends it at its deadline (C11), whoever lives then.

    Each process that uses it starts a supervisor of its own by the engine's exec.
    """
    if request.expires_at is None:
        return [COMMAND, "hold"]
    left = max(1, math.ceil(request.expires_at - time.time() + _INSIDE_LATER))
    return [COMMAND, "hold", str(left)]


def _labels(request: OpenRequest) -> dict[str, str]:
    """What ``gc`` finds it by, and judges it by where the ledger is lost."""
    labels = {
        f"{LABEL}session": request.session_id,
        f"{LABEL}agent": request.agent_hash,
        f"{LABEL}owner": request.owner,
        f"{LABEL}created": f"{time.time():.0f}",
    }
    if request.expires_at is not None:
        labels[f"{LABEL}expires"] = moment(request.expires_at)
    if request.config.durable:
        labels[f"{LABEL}durable"] = "1"
    labels.update({f"{LABEL}label.{name}": text for name, text in request.config.labels.items()})
    return labels


def _host_config(api: docker.APIClient, request: OpenRequest, shape: Shape) -> Any:
    config = request.config
    owner = user(request).partition(":")
    folder = "rw,exec,nosuid,nodev"
    if shape.podman:
        # It knows no owner of a tmpfs, so everybody inside may write there; and it would
        # copy what the image has at that place, its mode too.
        folder += ",notmpcopyup"
    else:
        folder += f",uid={owner[0]},gid={owner[2]}"
    if config.disk_mb is not None:
        folder += f",size={config.disk_mb}m"
    security = ["no-new-privileges"]
    if shape.seccomp is not None:
        security.append(f"seccomp={shape.seccomp}")
    if shape.apparmor is not None:
        security.append(f"apparmor={shape.apparmor}")
    more: dict[str, Any] = {}
    if not config.network_enabled and not shape.knows_network_disabled:
        more.update(network_mode="none")  # what every engine understands
    if config.memory_mb is not None:
        # With both equal there is no swap on top.
        more.update(mem_limit=f"{config.memory_mb}m", memswap_limit=f"{config.memory_mb}m")
    if config.cpu_limit is not None:
        more.update(nano_cpus=int(config.cpu_limit * 1e9))
    if config.max_processes is not None:
        each, beside = shape.processes_each
        own = _OWN_PROCESSES + config.durable  # what holds it
        more.update(pids_limit=(config.max_processes + own) * each + beside)
    if shape.runtime is not None:
        more.update(runtime=shape.runtime)
    if shape.shm_mb is not None:
        more.update(shm_size=f"{shape.shm_mb}m", ipc_mode="private")
    else:
        more.update(ipc_mode="none")  # private too, and without a writable /dev/shm (E2)
    if config.ports:
        # On loopback alone, the host's number free to choose; nothing else is published.
        more.update(port_bindings=dict.fromkeys(config.ports, ("127.0.0.1", None)))
    mounts = [
        Mount(target=mount.target, source=mount.source, type="bind", read_only=mount.read_only)
        for mount in checked(config.mounts, local=shape.local_engine)
    ]
    mounts.append(supervisor(shape.machine))
    return api.create_host_config(
        cap_drop=["ALL"],
        security_opt=security,
        read_only=config.read_only_fs,
        tmpfs={
            config.working_dir: folder + (",mode=1777" if shape.podman else ",mode=0755"),
            "/tmp": folder + ",mode=1777",
        },
        log_config=LogConfig(type="none"),
        privileged=False,
        publish_all_ports=False,
        mounts=mounts,
        ulimits=_ulimits(shape),
        **more,
    )
