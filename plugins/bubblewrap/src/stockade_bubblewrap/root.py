"""What the sandbox has for a root: bwrap's arguments that make it."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from stockade.config import MIB, Mount
from stockade.errors import ConfigError
from stockade.hostroot import SYSTEM_FOLDERS

__all__ = ["ISOLATION", "Root", "check_place"]

#: Everything unshared, nothing kept; the probe tries the same.
ISOLATION = (
    "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net",
    "--unshare-cgroup-try", "--disable-userns", "--die-with-parent", "--new-session",
    "--cap-drop", "ALL", "--hostname", "sandbox",
)  # fmt: skip

#: Made by bwrap, whatever a target has there.
_MADE = ("/dev", "/proc", "/sys", "/tmp")
#: Parts of /proc that tell of the machine what no program needs.
_HIDDEN_FILES = (
    "/proc/kcore", "/proc/key-users", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
    "/proc/timer_list", "/proc/timer_stats",
)  # fmt: skip
_HIDDEN_FOLDERS = ("/proc/acpi", "/proc/asound", "/proc/scsi")
#: Where the supervisor looks for the count of kills for memory.
_COUNTER = "/sys/fs/cgroup/memory.events"
#: Files that a folder of a size may hold, for each MiB.
_FILES_EACH = 64
_MIN_FILES = 1024

#: One of bwrap's words, or what the keeper puts in for it (see box.py).
Argument = str | dict[str, Any]


@attrs.frozen(kw_only=True)
class Root:
    """A sandbox's files."""

    target: str | None  #: the folder that becomes the root; None shows the host's programs
    working_dir: str
    disk_mb: int | None
    shm_mb: int | None = None
    uid: int  #: inside
    gid: int
    extra: Sequence[str] = ()  #: further folders of the host, shown where they are
    mounts: Sequence[Mount] = ()  #: checked

    def arguments(self) -> list[Argument]:
        """Raises ConfigError for places that can't be made, OSError for a target that
        can't be looked at."""
        return [
            *ISOLATION,
            "--uid", str(self.uid), "--gid", str(self.gid),
            *(self._target(self.target) if self.target is not None else self._host()),
            "--proc", "/proc", *_hidden(),
            "--dev", "/dev", *self._shared_memory(), "--remount-ro", "/dev",
            *self._folder("/tmp", "1777"), *self._folder(self.working_dir, "0700"),
            *self._mounted(),
            "--perms", "0755", "--dir", "/sys", {"counter": _COUNTER},
            "--remount-ro", "/", "--chdir", self.working_dir,
        ]  # fmt: skip

    def folders(self) -> dict[str, Any] | None:
        """The writable folders and their bounds, for the keeper."""
        if self.disk_mb is None:
            return None
        return {
            "paths": ["/tmp", self.working_dir],
            "bytes": self.disk_mb * MIB,
            "files": max(_MIN_FILES, self.disk_mb * _FILES_EACH),
        }

    # -- the parts ---------------------------------------------------------------

    def _host(self) -> list[Argument]:
        arguments: list[Argument] = ["--perms", "0755", "--dir", "/etc"]
        for path in dict.fromkeys((*SYSTEM_FOLDERS, *self.extra)):
            if os.path.lexists(path) and not _within(path, self._places()):
                arguments += self._show(path, path)
        for path, text in self._texts().items():
            if not _within(path, self._places()):
                arguments += ["--perms", "0444", "--file", {"text": text}, path]
        return arguments

    def _target(self, target: str) -> list[Argument]:
        arguments: list[Argument] = []
        for name in sorted(os.listdir(target)):
            place = f"/{name}"
            if place not in _MADE and place not in self._places():
                arguments += self._show(os.path.join(target, name), place)
        return arguments

    def _texts(self) -> dict[str, str]:
        """What programs ask of /etc, in place of the host's own."""
        return {
            "/etc/passwd": f"sandbox:x:{self.uid}:{self.gid}::{self.working_dir}:/bin/sh\n",
            "/etc/group": f"sandbox:x:{self.gid}:\n",
            "/etc/hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
            "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
        }

    def _places(self) -> list[str]:
        """Where something is mounted over what the root has."""
        return [self.working_dir, *(mount.target for mount in self.mounts)]

    def _show(self, source: str, place: str) -> list[Argument]:
        """The host's file or folder, read-only; what is to be mounted below it and is not
        there needs a folder that bwrap can make, so then its parts are shown one by one.

        A link stays a link, so that it leads to where it says inside, never on the host.
        """
        mode = os.lstat(source).st_mode
        below = [path for path in self._places() if path.startswith(place + "/")]
        if stat.S_ISLNK(mode):
            if below:
                raise ConfigError(
                    f"{below[0]!r} lies behind the link {place!r} of the sandbox's root; "
                    "choose a folder that no link leads to."
                )
            return ["--symlink", os.readlink(source), place]
        if stat.S_ISREG(mode) or (stat.S_ISDIR(mode) and not below):
            return ["--ro-bind", source, place]
        if not stat.S_ISDIR(mode):
            return []  # sockets, fifos and devices of the host have no place here
        arguments: list[Argument] = ["--perms", "0755", "--dir", place]
        for name in sorted(os.listdir(source)):
            inner = f"{place}/{name}"
            if inner not in self._places():
                arguments += self._show(os.path.join(source, name), inner)
        return arguments

    def _folder(self, path: str, mode: str) -> list[Argument]:
        size = [] if self.disk_mb is None else ["--size", str(self.disk_mb * MIB)]
        return [*size, "--perms", mode, "--tmpfs", path]

    def _shared_memory(self) -> list[Argument]:
        if self.shm_mb is None:
            return []
        return ["--size", str(self.shm_mb * MIB), "--perms", "1777", "--tmpfs", "/dev/shm"]

    def _mounted(self) -> list[Argument]:
        return [
            word
            for mount in self.mounts
            for word in ("--ro-bind" if mount.read_only else "--bind", mount.source, mount.target)
        ]


def _hidden() -> list[Argument]:
    arguments: list[Argument] = []
    for path in _HIDDEN_FILES:
        if os.path.exists(path):
            arguments += ["--ro-bind", "/dev/null", path]
    for path in _HIDDEN_FOLDERS:
        if os.path.isdir(path):
            arguments += ["--size", "4096", "--perms", "0555", "--tmpfs", path]
            arguments += ["--remount-ro", path]
    return arguments


def _within(path: str, places: Iterable[str]) -> bool:
    return any(path == place or path.startswith(place + "/") for place in places)


def check_place(path: str) -> None:
    """Refuse a working folder that covers what the sandbox itself needs. Raises ConfigError."""
    top = "/" + path.split("/")[1]
    if path == "/" or top in _MADE or posixpath.normpath(path) != path:
        raise ConfigError(
            f"working_dir={path!r} cannot be a folder of its own; use /workspace or another "
            "place outside of /tmp, /proc, /sys and /dev."
        )
