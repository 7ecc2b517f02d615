"""What a sandbox has for a root: the steps that make it, decided before anything starts.

Nothing is copied: the host's programs and libraries are bound where they are, its links are
made anew, and of /etc there is what common programs look for (E7). How the steps are taken
is the wall's.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from stockade.config import MIB, Mount
from stockade.errors import ConfigError
from stockade.toolkit.local.hostroot import SYSTEM_FOLDERS, accounts
from stockade.toolkit.local.spec import Shown
from stockade.toolkit.mounts import checked

__all__ = ["HOSTNAME", "Root", "Step", "Writable", "check_place", "shown"]

#: What a sandbox's host is called.
HOSTNAME = "sandbox"
#: Made for each sandbox, whatever a target has there.
_MADE = ("/dev", "/proc", "/sys", "/tmp")
#: Empty folders that programs expect to find.
_EMPTY = ("/home", "/mnt", "/opt", "/run", "/srv", "/sys", "/var")
_VAR_TMP = "/var/tmp"
_RESOLVERS = "/etc/resolv.conf"
#: Where the supervisor looks for the count of kills for memory.
_COUNTER = "/sys/fs/cgroup/memory.events"
#: Files that a folder of a size may hold, for each MiB; they cost the kernel's memory.
_FILES_EACH = 64
_MIN_FILES = 1024
_MOST_TEXT = 1 << 20

#: One step, as JSON has it: ``kind`` and ``place``, and for a "link" ``to``, for a "text" its
#: ``text``, for a "bind" the host's ``source``; a "folder" has no more.
Step = dict[str, Any]


@attrs.frozen(kw_only=True)
class Writable:
    """A folder that programs may write to: a file system of its own, or a part of one."""

    place: str  #: inside, absolute
    mode: int  #: permission bits
    shares: str = ""  #: whose space it has together with others of that name; empty: its own


@attrs.frozen(kw_only=True)
class Root:
    """A sandbox's files."""

    target: str | None  #: the folder that becomes the root; None shows the host's programs
    working_dir: str  #: inside, absolute
    disk_mb: int | None  #: MiB for the working folder, and again for the temporary ones
    shm_mb: int  #: MiB of /dev/shm
    uid: int  #: inside
    gid: int  #: inside
    extra: Sequence[str] = ()  #: further folders of the host, shown where they are
    network: bool = False  #: the host's: who resolves its names is said inside
    counter: str | None = None  #: the host's file that counts kills for memory
    #: Folders of the host that the caller asked for, the outer ones first: for the end, when
    #: everything else is there.
    mounts: Sequence[Shown] = ()

    def steps(self) -> list[Step]:
        """What makes all of it but /proc, /dev and what is writable, in order.

        Raises ConfigError for places that can't be made, OSError for a target that can't be
        looked at.
        """
        return [*self._base(), *self._texts(), *self._counted(), *self._mounted()]

    def writable(self) -> list[Writable]:
        """The folders that programs may write to beside /dev/shm."""
        found = [Writable(place="/tmp", mode=0o1777, shares="tmp")]
        if self._has_var_tmp():
            found.append(Writable(place=_VAR_TMP, mode=0o1777, shares="tmp"))
        if not _within(self.working_dir, [mount.target for mount in self.mounts]):
            found.append(Writable(place=self.working_dir, mode=0o700))
        return found

    @staticmethod
    def size(megabytes: int | None) -> str:
        """A tmpfs's options for that size; the number of files costs memory, too (E2)."""
        if megabytes is None:
            return ""
        files = max(_MIN_FILES, megabytes * _FILES_EACH)
        return f"size={megabytes * MIB},nr_inodes={files}"

    # -- the parts ---------------------------------------------------------------

    def _base(self) -> list[Step]:
        if self.target is not None:
            return self._target(self.target)
        steps = [{"kind": "folder", "place": place} for place in ("/etc", *_EMPTY)]
        steps.append({"kind": "link", "place": "/etc/mtab", "to": "/proc/mounts"})
        for path in dict.fromkeys((*SYSTEM_FOLDERS, *self.extra)):
            if os.path.lexists(path) and not _within(path, self._places()):
                steps += self._show(path, path)
        return steps

    def _target(self, target: str) -> list[Step]:
        steps: list[Step] = [{"kind": "folder", "place": "/sys"}]
        for name in sorted(os.listdir(target)):
            place = f"/{name}"
            if place not in _MADE and place not in self._places():
                steps += self._show(os.path.join(target, name), place)
        return steps

    def _texts(self) -> list[Step]:
        """What programs ask of /etc, in place of the host's own."""
        texts = accounts(self.uid, self.gid, self.working_dir)
        resolvers = _text(os.path.realpath(_RESOLVERS)) if self.network else ""
        texts |= {"/etc/hostname": f"{HOSTNAME}\n", _RESOLVERS: resolvers}
        if self.target is not None:
            texts = _joined(texts, self.target)
        return [
            {"kind": "text", "place": place, "text": text}
            for place, text in texts.items()
            if not _within(place, self._places())
        ]

    def _counted(self) -> list[Step]:
        if self.counter is None:
            return []
        return [{"kind": "bind", "place": _COUNTER, "source": self.counter}]

    def _mounted(self) -> list[Step]:
        """A place for each, except what lies in a folder that can be written to."""
        writable = [folder.place for folder in self.writable()]
        return [
            {"kind": "folder", "place": mount.target}
            for mount in self.mounts
            if not _within(mount.target, [*writable, *self._others(mount)])
        ]

    def _others(self, mount: Shown) -> list[str]:
        return [other.target for other in self.mounts if other.target != mount.target]

    def _own(self) -> list[str]:
        """Places that are the sandbox's own, below what it is shown."""
        own = [*self._places(), *(step["place"] for step in self._texts())]
        return [*own, _VAR_TMP] if self._has_var_tmp() else own

    def _places(self) -> list[str]:
        """Where something is mounted over what the root has."""
        return [self.working_dir, *(mount.target for mount in self.mounts)]

    def _has_var_tmp(self) -> bool:
        """A target may lead from /var elsewhere; then there is no place for it."""
        return self.target is None or not os.path.islink(os.path.join(self.target, "var"))

    def _show(self, source: str, place: str) -> list[Step]:
        """The host's file or folder, read-only; what is the sandbox's own below it and has no
        place there needs a folder of the sandbox's, so then its parts are shown one by one.

        A link stays a link, so that it leads to where it says inside, never on the host.
        """
        mode = os.lstat(source).st_mode
        below = [path for path in self._own() if path.startswith(place + "/")]
        if stat.S_ISLNK(mode):
            if below:
                raise ConfigError(
                    f"{below[0]!r} lies behind the link {place!r} of the sandbox's root; "
                    "choose a folder that no link leads to."
                )
            return [{"kind": "link", "place": place, "to": os.readlink(source)}]
        if stat.S_ISREG(mode) or (stat.S_ISDIR(mode) and not below):
            return [{"kind": "bind", "place": place, "source": source}]
        if not stat.S_ISDIR(mode):
            return []  # sockets, fifos and devices of the host have no place here
        steps: list[Step] = [{"kind": "folder", "place": place}]
        for name in sorted(os.listdir(source)):
            inner = f"{place}/{name}"
            if inner not in self._own():
                steps += self._show(os.path.join(source, name), inner)
        return steps


def _joined(texts: Mapping[str, str], target: str) -> dict[str, str]:
    """Users, groups and switches of a target stay, and the sandbox's own come on top."""
    found = dict(texts)
    for path in ("/etc/passwd", "/etc/group"):
        theirs = _text(target + path).splitlines(keepends=True)
        known = {line.split(":")[2] for line in theirs if line.count(":") > 2}
        ours = texts[path].splitlines(keepends=True)
        found[path] = "".join(
            [*theirs, *(line for line in ours if line.split(":")[2] not in known)]
        )
    switches = _text(f"{target}/etc/nsswitch.conf")
    return {**found, "/etc/nsswitch.conf": switches or texts["/etc/nsswitch.conf"]}


def _text(path: str) -> str:
    """Of a file that is no link, such as one of the target's; empty if there is none."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, encoding="utf-8") as file:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return file.read(_MOST_TEXT)
    return ""


def _within(path: str, places: Iterable[str]) -> bool:
    return any(path == place or path.startswith(place + "/") for place in places)


def check_place(path: str) -> None:
    """Refuse a working folder that covers what the sandbox itself needs. Raises ConfigError."""
    top = "/" + path.split("/")[1]
    made = top in _MADE or path in ("/etc", "/var") or _within(path, [_VAR_TMP])
    if path == "/" or made or posixpath.normpath(path) != path:
        raise ConfigError(
            f"working_dir={path!r} cannot be a folder of its own; use /workspace or another "
            "place outside of /tmp, /var/tmp, /proc, /sys and /dev."
        )


def shown(mounts: Iterable[Mount]) -> list[Shown]:
    """The mounts of a configuration as they are found now, the outer ones first.

    Raises ConfigError for those that would open the wall (E9), for places inside that
    cover programs, or one another, and for a place in another mount that is no folder there.
    """
    found: dict[str, Shown] = {}
    for mount in checked(mounts, local=True):
        if any(_within(path, [mount.target]) for path in (*SYSTEM_FOLDERS, "/etc")) or _within(
            mount.target, SYSTEM_FOLDERS
        ):
            raise ConfigError(
                f"mounts target {mount.target!r} is refused: it would cover programs inside; "
                "take another place."
            )
        if mount.target in found:
            raise ConfigError(f"mounts target {mount.target!r} is given twice: each place once.")
        at = os.stat(mount.source)
        found[mount.target] = Shown(
            mount.source, mount.target, mount.read_only, at.st_dev, at.st_ino
        )
    for inner in found.values():
        _check_outer(inner, found)
    return sorted(found.values(), key=lambda mount: mount.target.count("/"))


def _check_outer(mount: Shown, every: Mapping[str, Shown]) -> None:
    """A place in another mount must be there, and no link may lead to it: what runs inside may
    have made that link, to a folder of the host's in which the place would then be made."""
    outer = [place for place in every if mount.target.startswith(place + "/")]
    if not outer:
        return
    nearest = every[max(outer, key=len)]
    path = nearest.source
    for name in mount.target[len(nearest.target) + 1 :].split("/"):
        path = os.path.join(path, name)
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(os.lstat(path).st_mode):
                continue
        raise ConfigError(
            f"mounts target {mount.target!r} lies in {nearest.target!r}, and {path} is no "
            "folder: make it there, or take another place."
        )
