"""``kubernetes[:image][?options]``: what it can do, and whether the cluster lets us."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from stockade.capabilities import Capabilities, Isolation
from stockade.config import SandboxConfig
from stockade.errors import ConfigError, ProviderUnavailableError
from stockade.system.installing import install
from stockade.toolkit.egress import WayOut, secrets_level
from stockade.wall import (
    AttachRequest,
    Availability,
    Check,
    Leftover,
    OpenRequest,
    Option,
    Place,
    Sandbox,
    Usage,
    Wall,
)
from stockade_kubernetes.options import DEFAULT_IMAGE, OPTIONS, check_image, read_template

if TYPE_CHECKING:
    from stockade_kubernetes.cluster import Cluster
    from stockade_kubernetes.opening import Opening
    from stockade_kubernetes.places import Where

__all__ = ["KubernetesWall"]

#: Folders that a working folder cannot be, or be in: a pod mounts something of its own there.
_TAKEN = ("/tmp", "/var/tmp", "/dev", "/proc", "/sys", "/.stockade")
_PROCESSES = "by the kernel's limit on the session's own user, whom no other session has"
_MEMORY = (
    "the container's; on cgroup version 2 the session lives on where the kubelet says "
    "singleProcessOOMKill, and ends with that verdict where it does not"
)
_ALLOW_LIST = "an HTTP proxy on loopback, carried over the session's own connection to this process"
_OTHERS = "the kubelet's (podPidsLimit)"


class KubernetesWall(Wall):
    """A pod for each session, on any cluster."""

    summary = "hardened pods of a Kubernetes cluster, with a RuntimeClass for gVisor or Kata"
    target_is_name = True
    options: ClassVar[Mapping[str, Option]] = OPTIONS
    _capabilities = Capabilities(
        {
            "argv": "native",
            "shell": "native",
            "code": "native",
            "stateful": "native",
            "notebook": "native",
            "background": "native",
            "process-hardening": "native",
            "files": ("emulated", "by the supervisor inside"),
            "watch": "native",
            "memory": ("native", _MEMORY),
            "cpu": "native",
            "processes": ("emulated", _PROCESSES),
            "disk": ("native", "a tmpfs for each folder, counted as memory"),
            "network-off": (
                "native",
                "the network plugin's; looked at from inside before anything runs",
            ),
            "network": ("native", "the cluster's own"),
            "allow-list": ("emulated", _ALLOW_LIST),
            "secrets": secrets_level(),
            "loopback": "native",
            "read-only-root": "native",
            "writable-root": ("unsupported", "a pod's root would be on the node's disk, unbounded"),
            "user": "native",
            "working-dir": "native",
            "snapshot": ("emulated", "an archive of what the supervisor brings out"),
            "pause": ("unsupported", "Kubernetes has no such call"),
            "durable": ("native", "the cluster keeps the pod, whichever processes come and go"),
            "live-input": "native",
            "signals": "native",
            "merged-output": "native",
            "terminal": "native",
            "ports": ("emulated", "carried over the session's own connection"),
            "execution-user": ("unsupported", "the supervisor is the session's own user"),
            "mounts": ("unsupported", "copy files in with session.files"),
        }
    )

    def __init__(self, target: str | None = None, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(target, options)
        self.image = check_image(target or DEFAULT_IMAGE)
        self._at: Where | None = None

    @property
    def kind(self) -> str:
        """What the kernel inside must be: gvisor, kata or node."""
        said: str | None = self.chosen["kernel"]
        if said is not None:
            return said
        name = (self.chosen["runtime_class"] or "").lower()
        if "gvisor" in name or "runsc" in name:
            return "gvisor"
        return "kata" if "kata" in name else "node"

    @property
    def isolation(self) -> Isolation:  # type: ignore[override]
        kinds = {"gvisor": Isolation.KERNEL, "kata": Isolation.VM}
        return kinds.get(self.kind, Isolation.CONTAINER)

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        if self.kind == "node":
            return self._capabilities
        found = self._capabilities.with_(
            memory=("native", "one kernel holds all: past the limit the session may end so")
        )
        if self.kind == "gvisor":
            found = found.with_(
                processes=("unsupported", _OTHERS),
                terminal=("native", "keys such as ^C make no signal in gVisor: send one (D18)"),
            )
        return found

    @property
    def fixed_elsewhere(self) -> Collection[str]:  # type: ignore[override]
        return ("max_processes",) if self.kind == "gvisor" else ()

    def has_own_loopback(self, config: SandboxConfig) -> bool:
        return True

    def warning(self, config: SandboxConfig) -> str:
        if not config.network_enabled:
            return ""
        return (
            "the code is on the cluster's network: it may reach other pods, services, nodes and "
            "the API server; name hosts (network_allow) to open these alone"
        )

    def _where(self) -> Where:
        from stockade_kubernetes.places import Where

        return self._at or Where.of(self.chosen)

    def _cluster(self) -> Cluster:
        from stockade_kubernetes.places import cluster_at

        return cluster_at(self._where())

    def _opening(self) -> Opening:
        from stockade_kubernetes.opening import Opening
        from stockade_kubernetes.pod import Shape

        chosen = self.chosen
        kind = self.kind
        shape = Shape(
            image=self.image,
            pull=chosen["pull"],
            runtime_class=chosen["runtime_class"],
            own_kernel=kind != "node",
            service_account=chosen["service_account"],
            node_selector=chosen["node_selector"],
            pull_secret=chosen["pull_secret"],
            cpu_request=chosen["cpu_request"],
            ephemeral_mb=chosen["ephemeral_mb"],
            user_namespace=chosen["user_namespace"],
            seccomp=chosen["seccomp"],
            template=read_template(chosen["template"]),
        )
        return Opening(self._cluster(), shape, kind, chosen["probe_seconds"])

    # -- the wall ---------------------------------------------------------------------

    def probe(self) -> Availability:
        if importlib.util.find_spec("kubernetes") is None:
            remedy = install("stockade-kubernetes")
            return Availability((Check("kubernetes", False, "is not installed", remedy),))
        try:
            cluster = self._cluster()
            read_template(self.chosen["template"])
        except ConfigError as error:
            remedy = "set KUBECONFIG, or kubeconfig and context in the provider string"
            return Availability((Check("configuration", False, str(error), remedy),))
        from stockade_kubernetes.rights import checks

        return Availability(checks(cluster, self.chosen["runtime_class"]))

    def open(self, request: OpenRequest) -> Sandbox:
        folder = request.config.working_dir
        if folder == "/" or folder in _TAKEN or folder.startswith(tuple(f"{p}/" for p in _TAKEN)):
            raise ConfigError(
                f"working_dir={folder!r} cannot be a folder of its own; use /workspace."
            )
        if request.config.user is not None and request.config.user.partition(":")[0] == "0":
            raise ConfigError("user='0': a pod's programs are never root; name another user.")
        return self._opening().opened(request, WayOut.of(request))

    # -- what outlives a process ------------------------------------------------------

    def place(self) -> Place:
        return self._where().place()

    def look_at(self, place: Place) -> None:
        from stockade_kubernetes.places import Where

        self._at = Where.from_place(place)

    def leftovers(self) -> Sequence[Leftover]:
        from stockade_kubernetes.cluster import ClusterError
        from stockade_kubernetes.leftovers import all_of

        try:
            return all_of(self._cluster())
        except ClusterError as error:
            raise ProviderUnavailableError(f"the cluster does not answer: {error}") from error

    def remove(self, leftover: Leftover) -> None:
        from stockade_kubernetes.sandbox import remove_pod

        name, _, uid = leftover.handle.partition("/")
        remove_pod(self._cluster(), name, uid, certain=leftover.running)

    def usage(self, leftover: Leftover) -> Usage | None:
        from stockade_kubernetes.cluster import ClusterError
        from stockade_kubernetes.leftovers import usage_of

        try:
            return usage_of(self._cluster(), leftover.handle.partition("/")[0])
        except ClusterError:
            return None

    def attach(self, request: AttachRequest) -> Sandbox:
        return self._opening().attached(request, WayOut.of(request))
