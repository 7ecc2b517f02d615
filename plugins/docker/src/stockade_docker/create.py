"""What a container is created with: every wall of it stated."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import attrs
import docker
from docker.types import LogConfig, Mount, Ulimit

from stockade.config import Mount as Shown
from stockade.system.moments import moment
from stockade.toolkit.mounts import checked
from stockade.wall import OpenRequest
from stockade_docker.delivery import COMMAND, HELPER
from stockade_docker.delivery import mount as supervisor
from stockade_docker.identity import NOBODY

__all__ = ["HELPER", "LABEL", "SHM_MB", "Shape", "arguments", "name_of", "user"]

#: Labels are this and a word: session, agent (a hash), owner, created, expires, durable.
LABEL = "io.stockade."
#: The supervisor, a keeper, and one that waits; the limit is the programs' beside them. The
#: keepers of executions that overlap take from it, since what is kept free for them programs
#: could use.
_OWN_PROCESSES = 3
_OPEN_FILES = 4096
#: MiB of /dev/shm, as engines have it.
SHM_MB = 64
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
    shm_mb: int = SHM_MB
    #: Processes of the engine's machine for one inside, and beside them all.
    processes_each: tuple[int, int] = (1, 0)
    #: Whether programs have a kernel of their own: the engine sees nothing then of what is
    #: written to the root, nor, on its connection to a program, that all ended at once.
    own_kernel: bool = False
    local_engine: bool = True
    podman: bool = False
    #: Whether the engine is known to give no network where it is asked for none this way.
    knows_network_disabled: bool = False
    #: What the user is called, where it is the wall's choice.
    user_name: str | None = None
    #: Files that are mounted, read-only: by their places inside, where the engine finds them.
    files: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def disables_network(self) -> bool:
        """Whether a container without a network is asked for in the quick way: the engine's
        network is not asked at all, which saves 100 ms, but it makes no /etc/hosts then."""
        return self.knows_network_disabled and "/etc/hosts" in self.files


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
        "environment": _environment(request, shape),
        "labels": _labels(request),
        "stdin_open": not config.durable,
        "tty": False,
        "detach": False,
        # The same empty network namespace as network_mode=none (see _host_config).
        "network_disabled": not config.network_enabled and shape.disables_network,
        # Without a network they are carried over the link.
        "ports": list(config.ports) if config.network_enabled and config.ports else None,
        "host_config": _host_config(api, request, shape),
    }


def user(request: OpenRequest) -> str:
    """Its user and group, in numbers: the wall's own choice stands there too by now."""
    chosen = request.config.user or NOBODY
    return chosen if ":" in chosen else f"{chosen}:{chosen}"


def _environment(request: OpenRequest, shape: Shape) -> dict[str, str]:
    """Of the execution's environment nothing stands here: anybody who may ask the engine can
    read a container's configuration (B4)."""
    found = {"HOME": request.config.working_dir, "LANG": "C.UTF-8"}
    if shape.user_name is not None:
        found.update(USER=shape.user_name, LOGNAME=shape.user_name)
    return found


def _ulimits(request: OpenRequest, shape: Shape) -> list[Ulimit]:
    limits = {"core": 0, "nofile": _OPEN_FILES}
    most = _processes(request)
    if shape.podman:
        # It would set one of its own where this is left out, above what a machine
        # without CAP_SYS_RESOURCE may set. The limit that counts is the cgroup's.
        limits["nproc"] = _OPEN_FILES
    elif most is not None and shape.user_name is not None and shape.processes_each == (1, 0):
        # The cgroup's limit holds for all alike. Of this one, which counts the session's own
        # user, the supervisor leaves programs a little less: so that the next one can start.
        limits["nproc"] = most
    return [Ulimit(name=name, soft=value, hard=value) for name, value in limits.items()]


def _processes(request: OpenRequest) -> int | None:
    """How many there may be inside, with the supervisor's own and what holds a durable one."""
    limit = request.config.max_processes
    return None if limit is None else limit + _OWN_PROCESSES + request.config.durable


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


def _tmpfs(request: OpenRequest, shape: Shape) -> dict[str, str]:
    """What can be written to beside /dev/shm, each of a bounded size (E2)."""
    config = request.config
    user_id, _, group_id = user(request).partition(":")
    options = "rw,exec,nosuid,nodev"
    if shape.podman:
        # It knows no owner of a tmpfs, so everybody inside may write there; and it would
        # copy what the image has at that place, its mode too.
        options += ",notmpcopyup"
    else:
        options += f",uid={user_id},gid={group_id}"
    if config.disk_mb is not None:
        options += f",size={config.disk_mb}m"
    places = dict.fromkeys(("/tmp", "/var/tmp"), f"{options},mode=1777")
    places[config.working_dir] = options + (",mode=1777" if shape.podman else ",mode=0755")
    mounted = {mount.target for mount in config.mounts}
    return {path: text for path, text in places.items() if path not in mounted}


def _host_config(api: docker.APIClient, request: OpenRequest, shape: Shape) -> Any:
    config = request.config
    security = ["no-new-privileges"]
    if shape.seccomp is not None:
        security.append(f"seccomp={shape.seccomp}")
    if shape.apparmor is not None:
        security.append(f"apparmor={shape.apparmor}")
    more: dict[str, Any] = {}
    if not config.network_enabled and not shape.disables_network:
        more.update(network_mode="none")  # what every engine understands
    if config.memory_mb is not None:
        # With both equal there is no swap on top.
        more.update(mem_limit=f"{config.memory_mb}m", memswap_limit=f"{config.memory_mb}m")
    if config.cpu_limit is not None:
        more.update(nano_cpus=int(config.cpu_limit * 1e9))
    most = _processes(request)
    if most is not None:
        each, beside = shape.processes_each
        more.update(pids_limit=most * each + beside)
    if shape.runtime is not None:
        more.update(runtime=shape.runtime)
    if config.ports and config.network_enabled:
        # On loopback alone, the host's number free to choose; nothing else is published.
        more.update(port_bindings=dict.fromkeys(config.ports, ("127.0.0.1", None)))
    mounts = [
        Mount(target=mount.target, source=mount.source, type="bind", read_only=mount.read_only)
        for mount in [
            *checked(config.mounts, local=shape.local_engine),
            *(Shown(source, target) for target, source in shape.files.items()),
        ]
    ]
    mounts.append(supervisor(shape.machine))
    return api.create_host_config(
        cap_drop=["ALL"],
        security_opt=security,
        read_only=config.read_only_fs,
        tmpfs=_tmpfs(request, shape),
        ipc_mode="private",
        shm_size=f"{shape.shm_mb}m",
        log_config=LogConfig(type="none"),
        privileged=False,
        publish_all_ports=False,
        mounts=mounts,
        ulimits=_ulimits(request, shape),
        **more,
    )
