"""The Landlock wall: namespaces, a root made of mounts, Landlock and seccomp.

No daemon, no image and no program of anybody else's: the kernel's calls are made from here.
Every session has a keeper process (keeper.py), a fork of which becomes the sandbox's first
process, the supervisor (birth.py).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import ClassVar

from stockade.capabilities import Capabilities, Isolation
from stockade.config import MIB
from stockade.errors import ConfigError, SandboxStartError
from stockade.hostroot import SYSTEM_PATH, cpu_share, interpreter_folders, python_option
from stockade.toolkit.egress import Names
from stockade.toolkit.local import Order, cgroups, seccomp
from stockade.toolkit.local.leftovers import Leftovers, counter_path
from stockade.wall import Availability, Leftover, OpenRequest, Option, Sandbox, Usage, Wall
from stockade_landlock import host, kernel, landlock
from stockade_landlock.birth import Birth
from stockade_landlock.root import Root, check_place

__all__ = ["LandlockWall"]

_NAME = "landlock"
_LEFTOVERS = Leftovers(_NAME)
#: The supervisor, what it has for one execution, and what it keeps free for the next one; the
#: limit is the program's beside them.
_OWN_PROCESSES = 4
#: Who the code is inside, unless asked otherwise.
_INSIDE = 1000
#: Refused where memory is watched: what is nobody's page, or no page at all, escapes a watch.
_UNWATCHED_MEMORY = ("memfd_create", "msgget", "semget", "shmget")


def _limits(text: str) -> str:
    if text not in ("auto", "cgroup", "watch"):
        raise ValueError("one of auto, cgroup, watch is needed")
    return text


def _megabytes(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1 << 20:
        raise ValueError("a whole number of MiB is needed")
    return int(text)


class LandlockWall(Wall):
    """``landlock[:rootfs][?options]``; a rootfs is a folder that becomes ``/``, read-only."""

    isolation = Isolation.PROCESS
    summary = "namespaces, Landlock and seccomp on the host's kernel; no daemon, no image"
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

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        held = self._cgroups()
        none = f"no cgroup can be made here, and limits={self.chosen['limits']}"
        return Capabilities(
            {
                "argv": "native",
                "shell": "native",
                "code": "native",
                "stateful": "native",
                "background": "native",
                "terminal": "native",
                "process-hardening": "native",
                "files": "native",
                "snapshot": ("emulated", "an archive made inside"),
                "memory": self._level("memory", "watched 100 times a second over the session"),
                "cpu": self._level(
                    "cpu", "whole cpus by affinity; fractions by stopping the session's programs"
                ),
                "processes": self._processes(),
                "disk": ("native", "a tmpfs for each folder"),
                "network-off": "native",
                "loopback": "native",
                "network": ("unsupported", "this wall has no network of its own to give"),
                "allow-list": ("emulated", "an HTTP proxy on loopback, carried by this process"),
                "read-only-root": "native",
                "writable-root": ("unsupported", "the root is a folder of the host's"),
                "user": self._user(),
                "working-dir": "native",
                "mounts": ("unsupported", "copy files in with session.files"),
                "pause": "native" if "freezer" in held else ("unsupported", none),
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

    def _processes(self) -> tuple[str, str]:
        if "pids" in self._cgroups():
            return ("native", "a cgroup for the session")
        if self.chosen["limits"] == "cgroup":
            return ("unsupported", "no cgroup with pids can be made here")
        if not host.counts_by_namespace():
            return ("unsupported", "before Linux 5.14 sessions of one user are counted together")
        return ("native", "RLIMIT_NPROC, counted for the session's own user")

    def _user(self) -> tuple[str, str]:
        if kernel.has_user_namespaces():
            return ("native", "as it is seen inside; outside it is an id of no rights")
        return ("unsupported", "there are no user namespaces, and inside they would be others' ids")

    def probe(self) -> Availability:
        return Availability(tuple(host.checks(self.target)))

    def open(self, request: OpenRequest) -> Sandbox:
        from stockade_landlock.sandbox import LandlockSandbox

        problem = None if self.target is None else host.target_problem(self.target)
        if problem is not None:
            raise SandboxStartError(f"the target cannot be used: {problem}.", retryable=False)
        names = _names(request.config.network_allow)
        return LandlockSandbox.start_session(self._order(request), names)

    # -- what outlives a process ----------------------------------------------

    def leftovers(self) -> Sequence[Leftover]:
        return _LEFTOVERS.all_of()

    def remove(self, leftover: Leftover) -> None:
        _LEFTOVERS.remove(leftover.session_id)

    def usage(self, leftover: Leftover) -> Usage | None:
        return _LEFTOVERS.usage(leftover.session_id)

    # -- what a session is made of ----------------------------------------------

    def _order(self, request: OpenRequest) -> Order:
        config = request.config
        held = self._cgroups()
        share, cpus = cpu_share(config.cpu_limit)
        python: list[str] = []
        if self.target is None:
            python = interpreter_folders(self.chosen["python"], host.interpreter_shown)
        return Order(
            wall=_NAME,
            session=request.session_id,
            owner=request.owner,
            argv=["stockade-supervisor", "serve"],
            env={
                "PATH": ":".join([SYSTEM_PATH, *(f"{folder}/bin" for folder in python)]),
                "HOME": config.working_dir,
                "TMPDIR": "/tmp",
                "LANG": "C.UTF-8",
            },
            cgroups=held,
            memory_bytes=None if config.memory_mb is None else config.memory_mb * MIB,
            max_processes=config.max_processes,
            own_processes=_OWN_PROCESSES,
            cpu_limit=config.cpu_limit,
            cpu_share=share,
            cpus=cpus,
            counter=counter_path(_NAME, request.session_id),
            expires_at=request.expires_at,
            startup_seconds=config.startup_timeout_seconds,
            extra=self._birth(request, held, cpus, python).to_message(),
        )

    def _birth(
        self,
        request: OpenRequest,
        held: Mapping[str, str],
        cpus: Sequence[int],
        python: Sequence[str],
    ) -> Birth:
        config = request.config
        check_place(config.working_dir)
        outside = host.outside_ids()
        separate = kernel.has_user_namespaces()
        uid, _, gid = (config.user or str(_INSIDE)).partition(":")
        inside = (int(uid), int(gid or uid))
        shown = inside if separate else outside
        root = Root(
            target=None if self.target is None else os.path.realpath(self.target),
            working_dir=config.working_dir,
            disk_mb=config.disk_mb,
            shm_mb=self.chosen["shm_mb"],
            uid=shown[0],
            gid=shown[1],
            extra=python,
        )
        return Birth(
            as_root=os.geteuid() == 0,
            user_namespace=separate,
            inside=inside,
            outside=outside,
            root=root.plan(),
            limits=self._resources(config.max_processes),
            cpus=() if "cpu" in held else cpus,
            working_dir=config.working_dir,
            abi=landlock.abi(),
            # The supervisor has the programs' user: its limits and priority are its own (D16).
            filter=seccomp.program(forbidden=_forbidden(held), rules=seccomp.OWN_PROCESS).hex(),
        )

    def _resources(self, processes: int | None) -> dict[str, int]:
        limits = {"RLIMIT_CORE": 0}
        if processes is not None and host.counts_by_namespace():
            # Where a cgroup holds it too: of this one the supervisor keeps some for itself.
            limits["RLIMIT_NPROC"] = processes + _OWN_PROCESSES
        return limits


def _forbidden(held: Mapping[str, str]) -> Sequence[str]:
    """System calls that what is watched, not held, does not see."""
    memory = () if "memory" in held else _UNWATCHED_MEMORY
    cpu = () if "cpu" in held else ("sched_setaffinity",)
    return (*memory, *cpu)


def _names(allowed: Sequence[str]) -> Names | None:
    if not allowed:
        return None
    try:
        return Names.of(allowed)
    except ValueError as error:
        raise ConfigError(f"network_allow={allowed!r} is not allowed: {error}.") from error
