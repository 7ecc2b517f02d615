"""The bubblewrap wall: namespaces, a root of its own and seccomp on the host's kernel."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from stockade.capabilities import Capabilities, Isolation
from stockade.config import MIB
from stockade.hostroot import SYSTEM_PATH, cpu_share, interpreter_folders, python_option
from stockade.toolkit.local import cgroups, seccomp
from stockade.toolkit.local.leftovers import Leftovers, counter_path
from stockade.wall import Availability, Leftover, OpenRequest, Option, Sandbox, Usage, Wall
from stockade_bubblewrap import host
from stockade_bubblewrap.root import Root, check_place

__all__ = ["BubblewrapWall"]

_NAME = "bubblewrap"
_LEFTOVERS = Leftovers(_NAME)
#: Refused where no cgroup holds the limits: memory that is a file of nobody's escapes the
#: watch, and affinity is what holds the cpu limit.
_WATCHED = ("memfd_create", "sched_setaffinity", "shmget")
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


class BubblewrapWall(Wall):
    """``bubblewrap[:rootfs][?options]``; a rootfs is a folder that becomes ``/``, read-only."""

    isolation = Isolation.CONTAINER
    summary = "namespaces, a root of its own and seccomp, by bubblewrap; no daemon, no image"
    options: ClassVar[Mapping[str, Option]] = {
        "python": python_option(),
        "limits": Option(
            _limits,
            "auto",
            "what holds memory, cpu and processes: cgroup (refused where none can be made), watch "
            "(from outside), or auto (a cgroup where one can be made)",
        ),
        "shm_mb": Option(_megabytes, None, "MiB of /dev/shm; it is read-only unless asked for"),
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
                "process-hardening": "native",
                "files": ("emulated", "by programs inside"),
                "snapshot": ("emulated", "an archive made by a program inside"),
                "memory": self._level("memory", "watched 100 times a second over the session"),
                "cpu": self._level(
                    "cpu", "whole cpus by affinity; fractions by stopping the session's programs"
                ),
                "processes": self._processes(),
                "disk": ("native", "a tmpfs for each folder"),
                "network-off": "native",
                "loopback": "native",
                "network": ("unsupported", "this wall has no network of its own to give"),
                "read-only-root": "native",
                "writable-root": ("unsupported", "the root is a folder of the host's"),
                "user": ("native", "as it is seen inside; outside it is an id of no rights"),
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
        if host.linux_version() < host.COUNTING_LINUX:
            return ("unsupported", "before Linux 5.14 sessions of one user are counted together")
        return ("native", "RLIMIT_NPROC, counted in the session's own user namespace")

    def probe(self) -> Availability:
        return Availability(tuple(host.checks(self.target)))

    def open(self, request: OpenRequest) -> Sandbox:
        from stockade_bubblewrap.sandbox import BubblewrapSandbox

        return BubblewrapSandbox.start_session(self._order(request))

    # -- what outlives a process ----------------------------------------------

    def leftovers(self) -> Sequence[Leftover]:
        return _LEFTOVERS.all_of()

    def remove(self, leftover: Leftover) -> None:
        _LEFTOVERS.remove(leftover.session_id)

    def usage(self, leftover: Leftover) -> Usage | None:
        return _LEFTOVERS.usage(leftover.session_id)

    def _order(self, request: OpenRequest) -> dict[str, Any]:
        """Everything the keeper is told of a session, but for what runs in it."""
        config = request.config
        check_place(config.working_dir)
        uid, gid = host.outside_ids()
        python: list[str] = []
        if self.target is None:
            chosen = self.chosen["python"]
            python = interpreter_folders(chosen, lambda path: host.reachable(path, uid))
        inside = (config.user or str(_INSIDE)).partition(":")
        root = Root(
            target=None if self.target is None else os.path.realpath(self.target),
            working_dir=config.working_dir,
            disk_mb=config.disk_mb,
            shm_mb=self.chosen["shm_mb"],
            uid=int(inside[0]),
            gid=int(inside[2] or inside[0]),
            extra=python,
        )
        held = dict(self._cgroups())
        watched = not {"memory", "cpu"} <= set(held)
        share, cpus = cpu_share(config.cpu_limit)
        return {
            "session": request.session_id,
            "name": cgroups.group_name(_NAME, request.session_id),
            "owner": os.getpid(),
            "owner_mark": request.owner,
            "bwrap": host.require(self.target),
            "arguments": root.arguments(),
            "working_dir": config.working_dir,
            "folders": root.folders(),
            "env": {
                "PATH": ":".join([SYSTEM_PATH, *(f"{folder}/bin" for folder in python)]),
                "HOME": config.working_dir,
                "TMPDIR": "/tmp",
                "LANG": "C.UTF-8",
            },
            "uid": uid,
            "gid": gid,
            "cgroups": held,
            "filter": seccomp.program(forbidden=_WATCHED if watched else ()).hex(),
            "counter": counter_path(_NAME, request.session_id),
            "memory_bytes": None if config.memory_mb is None else config.memory_mb * MIB,
            "max_processes": config.max_processes,
            "cpu_limit": config.cpu_limit,
            "cpu_share": share,
            "cpus": cpus,
            "expires_at": request.expires_at,
            "startup_seconds": config.startup_timeout_seconds,
        }
