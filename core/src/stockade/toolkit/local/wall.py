"""A wall whose sandboxes are processes of this machine: all of it but how one is born."""

from __future__ import annotations

import abc
import functools
import os
import resource
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from stockade.capabilities import Capabilities
from stockade.config import MIB, SandboxConfig
from stockade.errors import SandboxStartError, UnsupportedError
from stockade.toolkit.egress import WayOut, secrets_level
from stockade.toolkit.local import cgroups, host, landlock, limits
from stockade.toolkit.local.hostroot import (
    SYSTEM_PATH,
    cpu_share,
    interpreter_folders,
    python_option,
)
from stockade.toolkit.local.leftovers import Leftovers, counter_path
from stockade.toolkit.local.root import Root, check_place, shown
from stockade.toolkit.local.spec import KeeperSpec
from stockade.wall import Availability, Check, Leftover, OpenRequest, Option, Sandbox, Usage, Wall

if TYPE_CHECKING:
    from stockade.toolkit.local.process import KeeperProcess
    from stockade.toolkit.local.sandbox import Plan

__all__ = ["LocalWall"]

#: In the sandbox beside programs: the supervisor, what it has for one execution, and what it
#: keeps free for the next one (supervisor/src/keeper.c).
_OWN_PROCESSES = 4
#: Who the code is inside, unless asked otherwise.
_INSIDE = 1000


def _limits(text: str) -> str:
    if text not in ("auto", "cgroup", "watch"):
        raise ValueError("one of auto, cgroup, watch is needed")
    return text


def _megabytes(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1 << 20:
        raise ValueError("a whole number of MiB is needed")
    return int(text)


class LocalWall(Wall):
    """``name[:rootfs][?options]``; a rootfs is a folder that becomes ``/``, read-only.

    A wall's author states ``name``, ``isolation`` and ``summary``, and writes ``checks`` and
    ``launch``. Limits, the root's plan, the way out, leftovers and the session itself are here.
    """

    #: The wall's own, as its entry point has it; leftovers are found by it.
    name: ClassVar[str]
    #: Parents between the program that ``launch`` starts and the supervisor
    #: (KeeperSpec.depth); they are outside of the sandbox, and in its cgroup.
    depth: ClassVar[int] = 0
    #: Whether the keeper of root's becomes the code's user before it starts the program, which
    #: then walks to what it shows as that user. Else the program's start is what does it.
    as_user: ClassVar[bool] = False

    options: ClassVar[Mapping[str, Option]] = {
        "python": python_option(),
        "limits": Option(
            _limits,
            "auto",
            "what holds memory, cpu and processes: cgroup (refused where none can be made), watch "
            "(from outside), or auto (a cgroup where one can be made)",
        ),
        "shm_mb": Option(_megabytes, 64, "MiB of /dev/shm"),
    }

    # -- what a wall's author gives ------------------------------------------------

    @abc.abstractmethod
    def checks(self) -> Sequence[Check]:
        """What the wall needs here, in the order in which it can be looked at; called by
        ``probe``, which adds the target's."""

    @abc.abstractmethod
    def launch(self, plan: Plan) -> KeeperProcess:
        """Start a keeper whose program makes the sandbox that is planned and becomes the
        supervisor in it, with ``serve``, on the keeper's streams; called in ``open``.

        Raises SandboxStartError, ConfigError, and then leaves nothing."""

    def modes(self, root: Root) -> Sequence[tuple[Sequence[str], int]]:
        """Files and folders of the sandbox's own, and their modes, where ``launch`` cannot
        set them; the keeper does it before any program starts, and before ``remounts``."""
        return ()

    def remounts(self, root: Root) -> Sequence[tuple[Sequence[str], str]]:
        """Places of the sandbox's own file systems and all their options, for what ``launch``
        cannot set as it mounts them; the keeper does it before any program starts."""
        return ()

    def separate_user(self) -> bool:
        """Whether programs may see themselves as another user than they are on the host."""
        return True

    # -- what it can do ------------------------------------------------------------

    # Found out once: every execution asks, and what cgroups there are is kept as well.
    @functools.cached_property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        none = f"no cgroup can be made here, and limits={self.chosen['limits']}"
        return Capabilities(
            {
                "argv": "native",
                "shell": "native",
                "code": "native",
                "stateful": "native",
                "notebook": "native",
                "background": "native",
                "live-input": "native",
                "signals": "native",
                "merged-output": "native",
                "terminal": "native",
                "process-hardening": "native",
                "files": "native",
                "watch": "native",
                "snapshot": ("emulated", "an archive made inside"),
                "memory": self._level("memory", "watched 100 times a second over the session"),
                "cpu": self._level(
                    "cpu", "whole cpus by affinity; fractions by stopping the session's programs"
                ),
                "processes": self._processes(),
                "disk": ("native", "a tmpfs for each folder"),
                "network-off": "native",
                "loopback": "native",
                "network": self._network(),
                "allow-list": ("emulated", "an HTTP proxy on loopback, carried by this process"),
                "secrets": secrets_level(),
                "read-only-root": "native",
                "writable-root": ("unsupported", "the root is a folder of the host's"),
                "user": self._user(),
                "working-dir": "native",
                "ports": ("emulated", "on this machine's loopback, carried by this process"),
                "mounts": ("native", "what is written there is the caller's"),
                "pause": "native" if "freezer" in self._cgroups() else ("unsupported", none),
                "durable": ("unsupported", "a session ends with the process that opened it"),
            }
        )

    def _cgroups(self) -> Mapping[str, str]:
        return {} if self.chosen["limits"] == "watch" else cgroups.parents()

    def _level(self, controller: str, watched: str) -> str | tuple[str, str]:
        if controller in self._cgroups():
            return ("native", "a cgroup for the session")
        if self.chosen["limits"] == "cgroup":
            return ("unsupported", f"no cgroup with {controller} can be made here")
        return ("emulated", watched)

    def _network(self) -> tuple[str, str]:
        """The host's own, where none of its services comes along that no network leads to, and
        where what its connections keep is counted (E3, E5)."""
        if not landlock.has_scopes(landlock.abi()):
            return (
                "unsupported",
                "before Linux 6.12 (Landlock 6) abstract unix sockets of this machine come along",
            )
        if "memory" not in self._cgroups():
            return (
                "unsupported",
                "it is this machine's, and without a cgroup what connections keep is not counted",
            )
        return ("native", "this machine's own, with its loopback")

    def _processes(self) -> tuple[str, str]:
        if "pids" in self._cgroups():
            return ("native", "a cgroup for the session")
        if self.chosen["limits"] == "cgroup":
            return ("unsupported", "no cgroup with pids can be made here")
        if not host.counts_by_namespace():
            return ("unsupported", "before Linux 5.14 sessions of one user are counted together")
        return ("native", "RLIMIT_NPROC, counted for the session's own user")

    def _user(self) -> tuple[str, str]:
        if self.separate_user():
            return ("native", "as it is seen inside; outside it is an id of no rights")
        return ("unsupported", "there are no user namespaces, and inside they would be others' ids")

    def probe(self) -> Availability:
        found = [host.linux_check()]
        if found[0].ok:
            found += [*self.checks(), host.target_check(self.target, by_path=self.as_user)]
        return Availability(tuple(found))

    def warning(self, config: SandboxConfig) -> str:
        if not config.network_enabled:
            return ""
        return (
            "the code is on this machine's own network: it reaches services of this machine's "
            "loopback, your local network and a cloud's metadata as you do, other sessions "
            "included; name hosts (network_allow) to open these alone"
        )

    # -- one session ---------------------------------------------------------------

    def open(self, request: OpenRequest) -> Sandbox:
        from stockade.toolkit.local.sandbox import LocalSandbox

        problem = None
        if self.target is not None:
            problem = host.target_problem(self.target, by_path=self.as_user)
        if problem is not None:
            raise SandboxStartError(f"the target cannot be used: {problem}.", retryable=False)
        return LocalSandbox.begin(self._plan(request), self.launch)

    def _plan(self, request: OpenRequest) -> Plan:
        from stockade.toolkit.local.sandbox import Plan

        config = request.config
        check_place(config.working_dir)
        if config.ports and config.network_enabled:
            raise UnsupportedError(
                f"{self.name} publishes ports={config.ports!r} of a network of the sandbox's own, "
                "and network_enabled=True is this machine's, where a server is reached at its own "
                "port; leave network_enabled=False, since ports need no network."
            )
        uid, _, gid = (config.user or str(_INSIDE)).partition(":")
        inside, outside = (int(uid), int(gid or uid)), host.outside_ids()
        python = self._python(outside[0])
        spec = self._spec(request, outside, python)
        watched = config.memory_mb is not None and "memory" not in spec.held
        root = self._root(spec, config, inside if self.separate_user() else outside, python)
        return Plan(
            spec=spec,
            root=root,
            modes=self.modes(root),
            remounts=self.remounts(root),
            inside=inside,
            outside=outside,
            filter=limits.session_filter(
                watched=watched,
                pinned=bool(spec.cpus) and "cpu" not in spec.held,
                writes=any(not mount.read_only for mount in spec.mounts),
            ),
            limits=_resources(config.max_processes),
            settings={**limits.USERS, **(limits.NETWORK if watched else {}), **host.quotas()},
            way_out=WayOut.of(request),
            network=config.network_enabled,
            ports=config.ports,
        )

    def _python(self, uid: int) -> list[str]:
        if self.target is not None:
            return []
        return interpreter_folders(
            self.chosen["python"], lambda path: host.reachable(path, uid, by_path=self.as_user)
        )

    def _spec(
        self, request: OpenRequest, ids: tuple[int, int], python: Sequence[str]
    ) -> KeeperSpec:
        config = request.config
        held = self._cgroups()
        share, cpus = cpu_share(config.cpu_limit)
        return KeeperSpec(
            wall=self.name,
            session=request.session_id,
            owner=request.owner,
            argv=(),
            env={
                "PATH": ":".join([SYSTEM_PATH, *(f"{folder}/bin" for folder in python)]),
                "HOME": config.working_dir,
                "TMPDIR": "/tmp",
                "LANG": "C.UTF-8",
            },
            ids=ids if self.as_user and os.geteuid() == 0 else None,
            cgroups=held,
            memory_bytes=None if config.memory_mb is None else config.memory_mb * MIB,
            max_processes=config.max_processes,
            own_processes=_OWN_PROCESSES + self.depth,
            cpu_limit=config.cpu_limit,
            cpu_share=share,
            cpus=cpus,
            counter=None if "memory" in held else counter_path(self.name, request.session_id),
            depth=self.depth,
            mounts=shown(config.mounts),
            seen_as=ids if os.geteuid() == 0 else None,
            expires_at=request.expires_at,
            startup_seconds=config.startup_timeout_seconds,
        )

    def _root(
        self, spec: KeeperSpec, config: SandboxConfig, shown: tuple[int, int], python: Sequence[str]
    ) -> Root:
        group = cgroups.Group(spec.cgroups, cgroups.group_name(self.name, spec.session))
        return Root(
            target=None if self.target is None else os.path.realpath(self.target),
            working_dir=config.working_dir,
            disk_mb=config.disk_mb,
            shm_mb=self.chosen["shm_mb"],
            uid=shown[0],
            gid=shown[1],
            extra=python,
            network=config.network_enabled,
            counter=group.counter or spec.counter,
            mounts=spec.mounts,
        )

    # -- what outlives a process ---------------------------------------------------

    def leftovers(self) -> Sequence[Leftover]:
        return Leftovers(self.name).all_of()

    def remove(self, leftover: Leftover) -> None:
        Leftovers(self.name).remove(leftover.session_id)

    def usage(self, leftover: Leftover) -> Usage | None:
        return Leftovers(self.name).usage(leftover.session_id)


def _resources(processes: int | None) -> list[tuple[int, int]]:
    """The process limit as the kernel counts it by user and user namespace. With a cgroup,
    too: of this one the supervisor keeps some for itself, so that a full session stays usable
    (E4)."""
    if processes is None or not host.counts_by_namespace():
        return list(limits.LIMITS)
    return [(resource.RLIMIT_NPROC, processes + _OWN_PROCESSES), *limits.LIMITS]
