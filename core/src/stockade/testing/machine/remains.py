"""What is left of one sandbox on this machine, whatever others do on it meanwhile (C9)."""

from __future__ import annotations

import os
import re

from stockade.testing.machine.host import Process, Survey, cgroup_is_idle, wire_ends

__all__ = ["Remains"]

#: An id in a name, such as a container's in its cgroup's.
_ID = re.compile(r"[0-9a-f]{32,}")


class Remains:
    """Made before a session is opened, shown the session once it is open, asked once it is gone."""

    def __init__(self, *folders: str, own: str = "") -> None:
        """``folders`` are looked at beside the usual ones; what is in ``own``, a folder in
        which the session's process alone puts things, is of the session."""
        self._folders = folders
        self._own = own
        self._before = Survey.take(*folders)
        self._names: set[str] = set()
        self._family: set[Process] = set()
        self._cgroups: frozenset[str] = frozenset()
        self._mounts: set[str] = set()
        self._interfaces: frozenset[str] = frozenset()
        self._devices: set[str] = set()

    def note(self, owner: int, *names: str) -> None:
        """The session stands: what of it shows, found by its owner's process id and by names
        that nothing else bears (its id, a mark in a program's arguments)."""
        now = Survey.take(*self._folders)
        new = {p for p in self._new(now) if p.pid != owner}
        self._names = set(names)
        self._family = {p for p in new if _is_below(p.pid, owner, now)}
        for _ in range(3):  # a program's cgroup has the container's id, its shim's arguments too
            self._family |= self._kin(new - self._family)
            self._names |= self._ids(now.processes[os.getpid()])
        self._cgroups = now.cgroups - self._before.cgroups
        self._interfaces = now.interfaces - self._before.interfaces
        self._mounts = set(now.mounts) - set(self._before.mounts)
        known = {line.split()[2] for line in self._before.mounts.values()}
        self._devices = {d for p in self._family for d in p.devices} - known

    def _new(self, now: Survey) -> set[Process]:
        return {p for p in now.processes.values() if self._before.processes.get(p.pid) != p}

    def _kin(self, processes: set[Process]) -> set[Process]:
        """Those that bear one of the names."""
        kin = set()
        for process in processes:
            words = process.words
            if any(name in words for name in self._names):
                kin.add(process)
        return kin

    def _ids(self, me: Process) -> set[str]:
        """Ids in the names of its cgroups, except those in which this process is."""
        mine = {word for path in me.cgroups for word in _ID.findall(path)}
        return {
            word for p in self._family for path in p.cgroups for word in _ID.findall(path)
        } - mine

    def left(self) -> list[str]:
        """What is still there."""
        now = Survey.take(*self._folders)
        self._family |= self._kin(self._new(now) - self._family)  # it may have begun since
        processes = [p for p in self._family if now.processes.get(p.pid) == p]
        living = {p.pid for p in now.processes.values()} - {p.pid for p in processes}
        folders = [path for path in now.folders - self._before.folders if self._is_its(path)]
        return [
            *(f"process {p.pid}: {p.name}" for p in processes),
            *(f"cgroup {path}" for path in self._cgroups if self._cgroup_is_left(path)),
            *(f"mount {path}" for path in self._mounts if self._mount_is_left(path, now)),
            *(
                f"network interface {name}"
                for name in self._interfaces & now.interfaces
                # Another sandbox's has that one's process at its other end.
                if not wire_ends(name) & living
            ),
            *(f"folder {path}" for path in folders),
            *(f"folder {self._own}/{name}" for name in _entries(self._own)),
        ]

    def _is_its(self, text: str) -> bool:
        return any(name in text for name in self._names)

    def _cgroup_is_left(self, path: str) -> bool:
        """Another sandbox's holds that one's processes."""
        return os.path.isdir(path) and (self._is_its(path) or cgroup_is_idle(path))

    def _mount_is_left(self, path: str, now: Survey) -> bool:
        line = now.mounts.get(path)
        if line is None:
            return False
        inside = bool(self._own) and path.startswith(f"{self._own}/")
        return inside or self._is_its(line) or line.split()[2] in self._devices


def _entries(folder: str) -> list[str]:
    return sorted(os.listdir(folder)) if folder else []


def _is_below(pid: int, above: int, now: Survey) -> bool:
    seen: set[int] = set()
    while pid in now.processes and pid not in seen:
        seen.add(pid)
        pid = now.processes[pid].parent
        if pid == above:
            return True
    return False
