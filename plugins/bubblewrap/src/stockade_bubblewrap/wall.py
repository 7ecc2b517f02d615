"""The bubblewrap wall: namespaces, a root of its own and seccomp on the host's kernel."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import stockade_supervisor
from stockade.capabilities import Capabilities, Isolation
from stockade.config import MIB
from stockade.errors import ConfigError
from stockade.hostroot import SYSTEM_PATH, cpu_share, interpreter_folders, python_option
from stockade.toolkit.egress import Names
from stockade.toolkit.local import Order, cgroups, limits, seccomp
from stockade.toolkit.local.leftovers import Leftovers, counter_path
from stockade.wall import Availability, Leftover, OpenRequest, Option, Sandbox, Usage, Wall
from stockade_bubblewrap import host
from stockade_bubblewrap.root import Root, check_place

if TYPE_CHECKING:
    from stockade_bubblewrap.sandbox import Plan

__all__ = ["BubblewrapWall"]

_NAME = "bubblewrap"
_LEFTOVERS = Leftovers(_NAME)
#: In the sandbox beside programs: the supervisor, what it has for one execution, and what it
#: keeps free for the next one (supervisor/src/keeper.c); outside there is bwrap.
_OWN_PROCESSES, _OUTSIDE = 4, 1
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
                "terminal": "native",
                "allow-list": ("emulated", "an HTTP proxy on loopback, carried by this process"),
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
        if not host.counts_processes():
            return ("unsupported", "before Linux 5.14 sessions of one user are counted together")
        return ("native", "RLIMIT_NPROC, counted in the session's own user namespace")

    def probe(self) -> Availability:
        return Availability(tuple(host.checks(self.target)))

    def open(self, request: OpenRequest) -> Sandbox:
        from stockade_bubblewrap.sandbox import BubblewrapSandbox

        return BubblewrapSandbox.start_session(self._plan(request))

    # -- what outlives a process ----------------------------------------------

    def leftovers(self) -> Sequence[Leftover]:
        return _LEFTOVERS.all_of()

    def remove(self, leftover: Leftover) -> None:
        _LEFTOVERS.remove(leftover.session_id)

    def usage(self, leftover: Leftover) -> Usage | None:
        return _LEFTOVERS.usage(leftover.session_id)

    def _plan(self, request: OpenRequest) -> Plan:
        """Everything that the session is made of."""
        from stockade_bubblewrap.sandbox import Plan

        config = request.config
        check_place(config.working_dir)
        names = _names(config.network_allow)
        ids = host.outside_ids()
        python: list[str] = []
        if self.target is None:
            chosen = self.chosen["python"]
            python = interpreter_folders(chosen, lambda path: host.reachable(path, ids[0]))
        order = self._order(request, ids, python)
        group = cgroups.Group(order.cgroups, cgroups.group_name(_NAME, request.session_id))
        root = self._root(request, group.counter or order.counter, python)
        watched = config.memory_mb is not None and "memory" not in order.held
        return Plan(
            bwrap=host.require(self.target),
            arguments=root.arguments(),
            filter=_filter(watched, pinned=bool(order.cpus) and "cpu" not in order.held),
            order=order,
            limits=self._limits(config.max_processes),
            bounds=root.bounds(),
            settings={**(limits.NETWORK if watched else {}), **host.shares()},
            names=names,
        )

    def _order(self, request: OpenRequest, ids: tuple[int, int], python: Sequence[str]) -> Order:
        config = request.config
        held = self._cgroups()
        share, cpus = cpu_share(config.cpu_limit)
        own_count = counter_path(_NAME, request.session_id)
        return Order(
            wall=_NAME,
            session=request.session_id,
            owner=request.owner,
            argv=(),
            env={
                "PATH": ":".join([SYSTEM_PATH, *(f"{folder}/bin" for folder in python)]),
                "HOME": config.working_dir,
                "TMPDIR": "/tmp",
                "LANG": "C.UTF-8",
            },
            ids=ids if os.geteuid() == 0 else None,
            cgroups=held,
            memory_bytes=None if config.memory_mb is None else config.memory_mb * MIB,
            max_processes=config.max_processes,
            own_processes=_OWN_PROCESSES + _OUTSIDE,
            cpu_limit=config.cpu_limit,
            cpu_share=share,
            cpus=cpus,
            counter=None if "memory" in held else own_count,
            depth=1,  # bwrap stays outside
            expires_at=request.expires_at,
            startup_seconds=config.startup_timeout_seconds,
        )

    def _root(self, request: OpenRequest, counter: str | None, python: Sequence[str]) -> Root:
        config = request.config
        inside = (config.user or str(_INSIDE)).partition(":")
        return Root(
            target=None if self.target is None else os.path.realpath(self.target),
            working_dir=config.working_dir,
            disk_mb=config.disk_mb,
            shm_mb=self.chosen["shm_mb"],
            uid=int(inside[0]),
            gid=int(inside[2] or inside[0]),
            supervisor=stockade_supervisor.content(),
            counter=counter,
            extra=python,
        )

    def _limits(self, processes: int | None) -> list[tuple[int, int]]:
        """The process limit as the kernel counts it by user and user namespace: each sandbox
        has one of its own, in which bwrap's outer part is not. With a cgroup, too: of this
        one the supervisor keeps some for itself, so that a full session stays usable (E4)."""
        if processes is None or not host.counts_processes():
            return list(limits.LIMITS)
        return [(resource.RLIMIT_NPROC, processes + _OWN_PROCESSES), *limits.LIMITS]


def _filter(watched: bool, pinned: bool) -> bytes:
    """Of system calls: on top of what nobody may, what would escape the watch where no cgroup
    holds the memory, and what would leave the cpus where those hold the cpu limit."""
    return seccomp.program(
        forbidden=[
            *(limits.UNOWNED if watched else ()),
            *(["sched_setaffinity"] if pinned else ()),
        ],
        rules=limits.unowned_rules() if watched else {},
    )


def _names(words: Sequence[str]) -> Names | None:
    try:
        return Names.of(words) if words else None
    except ValueError as error:
        raise ConfigError(f"network_allow: {error}.") from None
