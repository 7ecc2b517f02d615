"""A cgroup for each session, where this process may make one: version 2 or version 1.

Groups are made beside or below this process's own, so that limits which hold for the
owner hold for its sandboxes too, and are named by their session, so that they are found.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping

__all__ = ["Group", "attempt", "group_name", "named", "parents"]

#: What the name of a group of stockade's begins with.
_PREFIX = "stockade-"
#: Where a group names its owner: what root may write everywhere, and what others may.
_ATTRIBUTES = ("trusted.stockade.owner", "user.stockade.owner")
_CONTROLLERS = ("memory", "pids", "cpu", "freezer")
_PERIOD_US = 100_000
_MIN_QUOTA_US = 1000
_TRY_SECONDS = 10.0


def group_name(wall: str, session: str) -> str:
    """What the group of a wall's session is called, in each hierarchy."""
    return f"{_PREFIX}{wall}-{session}"


def _mounts() -> Iterator[tuple[str, str, str, set[str]]]:
    """Kind, root, place and options of every cgroup hierarchy that is mounted here."""
    with open("/proc/self/mountinfo") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            kind, _, options = right.split(maxsplit=2)
            if kind in ("cgroup", "cgroup2"):
                fields = left.split()
                yield kind, fields[3], fields[4], set(options.strip().split(","))


def _own() -> dict[str, str]:
    """This process's group by controller; version 2's is named by nothing."""
    with open("/proc/self/cgroup") as file:
        rows = [line.rstrip("\n").split(":", 2) for line in file]
    return {name: path for _, names, path in rows for name in names.split(",")}


def _below(path: str, root: str, place: str) -> str | None:
    """The folder of a group under a mount that shows the hierarchy from ``root`` on."""
    inside = os.path.relpath(path, root)
    return None if inside.startswith("..") else os.path.normpath(os.path.join(place, inside))


def _first_version(own: dict[str, str]) -> dict[str, str]:
    found = {}
    for kind, root, place, options in _mounts():
        for name in _CONTROLLERS:
            if kind == "cgroup" and name in options and name in own and name not in found:
                folder = _below(own[name], root, place)
                if folder is not None and os.access(folder, os.W_OK | os.X_OK):
                    found[name] = folder
    return found


def _words(path: str) -> set[str]:
    with contextlib.suppress(OSError), open(path) as file:
        return set(file.read().split())
    return set()


def _second_version(own: dict[str, str]) -> dict[str, str]:
    """The nearest group, from this process's own upwards, that can have children with limits."""
    for kind, root, place, _ in _mounts():
        folder = _below(own.get("", "/"), root, place) if kind == "cgroup2" else None
        while folder is not None and folder.startswith(place):
            if os.access(folder, os.W_OK | os.X_OK):
                have = _enabled(folder)
                if {"memory", "pids"} <= have:
                    return {name: folder for name in _CONTROLLERS if name in have}
            folder = None if folder == place else os.path.dirname(folder)
    return {}


def _enabled(folder: str) -> set[str]:
    """The controllers of a group's children, after asking for those that are not on yet."""
    have = _words(f"{folder}/cgroup.subtree_control")
    for name in {"memory", "pids", "cpu"} & _words(f"{folder}/cgroup.controllers") - have:
        with contextlib.suppress(OSError), open(f"{folder}/cgroup.subtree_control", "w") as file:
            file.write(f"+{name}")
    return _words(f"{folder}/cgroup.subtree_control") | {"freezer"}


@functools.lru_cache(maxsize=1)
def parents() -> Mapping[str, str]:
    """By controller the folder in which sessions' groups are made; empty if none can be.

    Found out once a process, by making one.
    """
    try:
        own = _own()
        # In a hybrid set-up version 2 is mounted with no controllers: then it finds nothing.
        found = _second_version(own) or _first_version(own)
    except (OSError, ValueError):
        return {}
    return attempt(found)


def attempt(found: Mapping[str, str]) -> Mapping[str, str]:
    """Those of the folders in which a group can be made that takes a process in."""
    # Keepers import this module, and need neither.
    import subprocess

    from stockade.toolkit.processes.children import run

    usable = {}
    for name, folder in found.items():
        group = Group({name: folder}, f"{_PREFIX}try-{os.urandom(8).hex()}")
        try:
            group.make()
            join = " ".join(f"echo $$ >{path}/cgroup.procs;" for path in group.folders)
            done = run(
                ["sh", "-ec", join],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_TRY_SECONDS,
            )
            if done.returncode == 0:
                usable[name] = folder
        except (OSError, subprocess.SubprocessError):
            continue
        finally:
            with contextlib.suppress(OSError):
                group.remove(2.0)
    return usable


class Group:
    """One session's group in each hierarchy."""

    def __init__(self, parents: Mapping[str, str], name: str) -> None:
        self._at = {
            controller: os.path.join(folder, name) for controller, folder in parents.items()
        }

    @classmethod
    def at(cls, folders: Iterable[str]) -> Group:
        """A group whose folders are known and their controllers are not."""
        group = cls({}, "")
        group._at = {folder: folder for folder in folders}
        return group

    @property
    def folders(self) -> list[str]:
        """The group's folders, one in each hierarchy that is used."""
        return sorted(set(self._at.values()))

    @property
    def counter(self) -> str | None:
        """The file in which the kernel counts kills for memory, once the group is made."""
        folder = self._at.get("memory")
        if folder is None:
            return None
        # The parent shows the version before the group is there.
        second = os.path.exists(os.path.join(os.path.dirname(folder), "cgroup.controllers"))
        return os.path.join(folder, "memory.events" if second else "memory.oom_control")

    def kills(self) -> int:
        """How many processes the kernel has ended for the group's memory."""
        if self.counter is None:
            return 0
        with contextlib.suppress(OSError), open(self.counter) as file:
            words = [line.split() for line in file]
            return sum(int(word[1]) for word in words if word[0] == "oom_kill")
        return 0

    def make(self, owner: str = "") -> None:
        """Make the folders, and write ``owner`` on them for gc. Raises OSError if one exists."""
        for folder in self.folders:
            os.mkdir(folder)
            for attribute in _ATTRIBUTES if owner else ():
                with contextlib.suppress(OSError):
                    os.setxattr(folder, attribute, owner.encode())
                    break

    def limit(self, memory_bytes: int | None, processes: int | None, cpus: float | None) -> None:
        """Set what is asked for; of the controllers that are not there nothing is asked."""
        if memory_bytes is not None:
            self._limit_memory(self._at["memory"], memory_bytes)
        if processes is not None:
            _write(f"{self._at['pids']}/pids.max", processes)
        if cpus is not None:
            quota = max(_MIN_QUOTA_US, int(cpus * _PERIOD_US))
            folder = self._at["cpu"]
            if os.path.exists(f"{folder}/cpu.max"):
                _write(f"{folder}/cpu.max", f"{quota} {_PERIOD_US}")
            else:
                _write(f"{folder}/cpu.cfs_period_us", _PERIOD_US)
                _write(f"{folder}/cpu.cfs_quota_us", quota)

    def _limit_memory(self, folder: str, size: int) -> None:
        """Without swap on top: at the limit the kernel ends a program (E5)."""
        if os.path.exists(f"{folder}/memory.max"):
            _write(f"{folder}/memory.max", size)
            if os.path.exists(f"{folder}/memory.swap.max"):
                _write(f"{folder}/memory.swap.max", 0)
            return
        _write(f"{folder}/memory.limit_in_bytes", size)
        if os.path.exists(f"{folder}/memory.kmem.tcp.limit_in_bytes"):
            # Buffers of internet sockets, which version 1 counts apart.
            _write(f"{folder}/memory.kmem.tcp.limit_in_bytes", size)
        if os.path.exists(f"{folder}/memory.memsw.limit_in_bytes"):
            _write(f"{folder}/memory.memsw.limit_in_bytes", size)
        else:
            _write(f"{folder}/memory.swappiness", 0)

    def join(self, pid: int | None = None) -> None:
        """Put a process in, by default this one. Raises OSError."""
        for folder in self.folders:
            _write(f"{folder}/cgroup.procs", os.getpid() if pid is None else pid)

    def freeze(self, yes: bool) -> None:
        """Stop everything in it, or let it go on; returns when that is so."""
        folder = self._at["freezer"]
        if os.path.exists(f"{folder}/cgroup.freeze"):
            _write(f"{folder}/cgroup.freeze", int(yes))
            until = time.monotonic() + _TRY_SECONDS
            while f"frozen {int(yes)}" not in _read(f"{folder}/cgroup.events"):
                if time.monotonic() > until:
                    raise OSError("the processes could not be frozen")
                time.sleep(0.002)
            return
        state = "FROZEN" if yes else "THAWED"
        until = time.monotonic() + _TRY_SECONDS
        while _read(f"{folder}/freezer.state").strip() != state:
            _write(f"{folder}/freezer.state", state)
            if time.monotonic() > until:
                raise OSError("the processes could not be frozen")
            time.sleep(0.002)

    def _thaw(self) -> None:
        """What is frozen does not die (version 1)."""
        for folder in self.folders:
            with contextlib.suppress(OSError):
                _write(f"{folder}/freezer.state", "THAWED")

    def processes(self) -> list[int]:
        """The processes in the group, by their ids on the host; empty if it is gone."""
        found: set[int] = set()
        for folder in self.folders:
            found |= {int(word) for word in _words(f"{folder}/cgroup.procs")}
        return sorted(found - {0, os.getpid()})  # 0: of another namespace

    def remove(self, seconds: float) -> None:
        """Kill what is in it and remove it. Raises OSError when that fails in time."""
        until = time.monotonic() + seconds
        while True:
            self._thaw()
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            left = [error for folder in self.folders if (error := _remove(folder)) is not None]
            if not left:
                return
            if time.monotonic() > until:
                raise left[0]
            time.sleep(0.005)


def named(wall: str) -> Iterator[tuple[str, str, str]]:
    """Every group of a wall's sessions on this machine, in any hierarchy: the session, the
    group's folder, and its owner."""
    prefix = group_name(wall, "")
    for _, _, place, _ in _mounts():
        for folder, below, _ in os.walk(place):
            for name in below:
                if name.startswith(prefix):
                    path = os.path.join(folder, name)
                    yield name.removeprefix(prefix), path, _owner_of(path)
            below[:] = [name for name in below if not name.startswith(_PREFIX)]


def _owner_of(folder: str) -> str:
    for attribute in _ATTRIBUTES:
        with contextlib.suppress(OSError):
            return os.getxattr(folder, attribute).decode("utf-8", "replace")
    return ""


def _remove(folder: str) -> OSError | None:
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        return error
    return None


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def _write(path: str, value: object) -> None:
    # One write call: what it refuses shows here, not at a late flush.
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, str(value).encode())
    finally:
        os.close(descriptor)
