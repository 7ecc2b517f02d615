"""This machine as it shows to one process: what a sandbox may leave on it (C9).

Read from ``/proc`` and ``/sys``; where there is none, or it is hidden, there is less to see.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

__all__ = ["Process", "Survey", "cgroup_is_idle", "read", "wire_ends"]

_CGROUPS = "/sys/fs/cgroup"
_INTERFACES = "/sys/class/net"
#: Where walls put folders, sockets and files of their own, beside the temporary folder.
_FOLDERS = (
    "/var/tmp",
    "/dev/shm",
    "/run",
    f"/run/user/{os.getuid()}",
    "~/.cache",
    "~/.local/state",
    "~/.local/state/stockade",
    "~",
)


def read(path: str) -> str:
    """A file of the kernel's; empty if there is none, or it may not be read."""
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError:
        return ""


@attrs.frozen
class Process:
    """One living process; equal as long as it is the same."""

    pid: int
    started: str
    parent: int = attrs.field(eq=False)
    name: str = attrs.field(eq=False)

    @property
    def words(self) -> str:
        """Its command line and environment, as far as this user may read them."""
        return read(f"/proc/{self.pid}/cmdline") + "\0" + read(f"/proc/{self.pid}/environ")

    @property
    def cgroups(self) -> set[str]:
        """The paths of its cgroups, each below its controller's folder."""
        lines = read(f"/proc/{self.pid}/cgroup").splitlines()
        return {line.split(":", 2)[2] for line in lines if line.count(":") >= 2}

    @property
    def devices(self) -> set[str]:
        """The file systems that it sees mounted, by their device numbers."""
        return {mount.split()[2] for mount in read(f"/proc/{self.pid}/mountinfo").splitlines()}


@attrs.frozen
class Survey:
    """What there is at one moment."""

    processes: Mapping[int, Process]
    cgroups: frozenset[str]
    mounts: Mapping[str, str]  #: a line of mountinfo by its mount point
    interfaces: frozenset[str]
    folders: frozenset[str]  #: entries of the folders that are looked at

    @classmethod
    def take(cls, *folders: str) -> Survey:
        """Now; ``folders`` are looked at beside the usual ones."""
        usual = [os.path.expanduser(path) for path in _FOLDERS]
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        return cls(
            {process.pid: process for process in _processes()},
            frozenset(_below(_CGROUPS)),
            {line.split()[4]: line for line in read("/proc/self/mountinfo").splitlines()},
            frozenset(_names(_INTERFACES)),
            frozenset(
                os.path.join(folder, name)
                for folder in dict.fromkeys(filter(None, [*folders, *usual, runtime]))
                for name in _names(folder)
            ),
        )


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _processes() -> Iterator[Process]:
    for entry in _names("/proc"):
        if entry.isdigit():
            name, _, rest = read(f"/proc/{entry}/stat").partition("(")[2].rpartition(")")
            fields = rest.split()
            if len(fields) > 19 and fields[0] not in ("Z", "X"):
                yield Process(int(entry), fields[19], int(fields[1]), name)


def _below(folder: str) -> Iterator[str]:
    """Every folder below one."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield entry.path
                yield from _below(entry.path)


def cgroup_is_idle(path: str) -> bool:
    """Whether a cgroup is there and holds no process, nor does one below it."""
    return os.path.isdir(path) and not any(
        read(f"{folder}/cgroup.procs").strip() for folder in (path, *_below(path))
    )


def wire_ends(interface: str) -> set[int]:
    """The processes in whose network the other end of a virtual wire is; of each network one."""
    number = read(f"{_INTERFACES}/{interface}/iflink").strip()
    own = read(f"{_INTERFACES}/{interface}/ifindex").strip()
    ends = {(own, number), (number, own)}  # of a wire that begins and ends here
    here = {
        (
            read(f"{_INTERFACES}/{name}/ifindex").strip(),
            read(f"{_INTERFACES}/{name}/iflink").strip(),
        )
        for name in _names(_INTERFACES)
    }
    if not number or ends <= here:
        return set()
    mine, seen, found = _network("self"), set[str](), set[int]()
    for process in _processes():
        network = _network(str(process.pid))
        if network and network != mine and network not in seen:
            seen.add(network)
            listed = read(f"/proc/{process.pid}/net/igmp")
            if re.search(rf"^{number}\s", listed, re.MULTILINE):
                found.add(process.pid)
    return found


def _network(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return ""
