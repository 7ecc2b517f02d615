"""The sandbox's root, made of mounts: in the child, while it still has the rights for it.

What stands in it was decided by the owner's side (root.py). Three steps: the host's root is
put aside, so that a new one has a place and whatever the host has at any path can still be
bound; the new one is filled, made read-only as a whole, and gets its own /proc, /dev and
writable folders; then the host's is let go.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from stockade.toolkit.local import kernel
from stockade.toolkit.local.bounds import TERMINALS
from stockade.toolkit.local.kernel import (
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
)
from stockade.toolkit.local.procfs import HIDDEN, READ_ONLY
from stockade.toolkit.local.spec import Shown

__all__ = ["enter_root"]

#: Folders of which one is there on every system, to put the first file system on.
_PLACES = ("/tmp", "/run", "/mnt", "/var", "/home")
_BASE, _OLD, _NEW, _FILES = "size=64k,mode=755", "/old", "/new", "/scratch"
#: Links, mount points and small files; it is read-only once it is made.
_ROOT = "size=4m,nr_inodes=8192,mode=755"

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}


class Files(Protocol):
    """What the root holds, as the sandbox's birth says it."""

    @property
    def steps(self) -> Sequence[Mapping[str, Any]]: ...

    @property
    def writable(self) -> Sequence[Sequence[Any]]: ...

    @property
    def size(self) -> str: ...

    @property
    def shm(self) -> str: ...


def enter_root(
    files: Files, owner: tuple[int, int], mounts: Sequence[Shown], made: Sequence[int]
) -> None:
    """Make the root and stand in it; ``owner`` is who it and what is writable are for, user and
    group, as this process numbers them. ``made``: the mounts of the caller's folders, of
    root's; else they are mounted here. Raises OSError."""
    kernel.make_private()
    _put_aside()
    # Programs trust what lies in folders whose owner is the system or they themselves; of root
    # nothing shows here. Owning it gains nothing, since it is read-only.
    mine = f"{_ROOT},uid={owner[0]},gid={owner[1]}"
    kernel.mount("tmpfs", _NEW, "tmpfs", MS_NOSUID | MS_NODEV, mine)
    for step in files.steps:
        _take(step)
    for place in ("/proc", "/dev", *(place for place, _, _ in files.writable)):
        _folder(place)
    # Recursively: what the host has mounted below one of its folders came along.
    kernel.read_only_below(_NEW, f"{_OLD}/proc/self/mountinfo")
    _proc()
    _devices(files.shm)
    _writable(files, owner)
    for number, shown in enumerate(mounts):
        _show(shown, made[number] if made else None)
    kernel.mount("none", f"{_NEW}/dev", flags=MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID)
    os.chdir(_NEW)
    kernel.change_root(".", ".")
    kernel.unmount("/")  # the old one: it was stacked on the new
    os.chdir("/")


def _put_aside() -> None:
    place = next(path for path in _PLACES if os.path.isdir(path))
    kernel.mount("tmpfs", place, "tmpfs", MS_NOSUID | MS_NODEV, _BASE)
    for folder in (_OLD, _NEW, _FILES):
        os.mkdir(place + folder, 0o755)
    kernel.change_root(place, place + _OLD)


# -- what the host has ---------------------------------------------------------


def _take(step: Mapping[str, Any]) -> None:
    place = _NEW + step["place"]
    kind = step["kind"]
    if kind == "folder":
        _folder(step["place"])
        return
    _folder(os.path.dirname(step["place"]))
    if kind == "link":
        os.symlink(step["to"], place)
    elif kind == "text":
        _file(place, step["text"])
    else:
        _bind(_OLD + step["source"], place)


def _bind(source: str, place: str) -> None:
    if stat.S_ISDIR(os.stat(source).st_mode):
        os.makedirs(place, 0o755, exist_ok=True)
    else:
        _file(place)
    kernel.mount(source, place, flags=MS_BIND | MS_REC)


def _folder(place: str) -> None:
    os.makedirs(_NEW + place, 0o755, exist_ok=True)


def _folder_without_links(place: str) -> None:
    """In a folder of the caller's a link may lead to the host's root, which is still there."""
    at = os.open(_NEW, os.O_PATH | os.O_DIRECTORY)
    for name in place.strip("/").split("/"):
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=at)
        inner = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)


def _file(place: str, text: str = "") -> None:
    with open(place, "x", encoding="utf-8", errors="surrogateescape") as file:
        os.fchmod(file.fileno(), 0o444)
        file.write(text)


def _show(shown: Shown, made: int | None) -> None:
    """A folder that the caller asked for; whether it is that one is seen by the keeper."""
    place = _NEW + shown.target
    _folder_without_links(shown.target)
    if made is not None:
        kernel.attach_mount(made, place)
        return
    kernel.mount(_OLD + shown.source, place, flags=MS_BIND | MS_REC)
    kernel.close_mount(place, f"{_OLD}/proc/self/mountinfo", read_only=shown.read_only)


# -- what is the sandbox's own ---------------------------------------------------


def _proc() -> None:
    proc = f"{_NEW}/proc"
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    kernel.mount("proc", proc, "proc", flags)
    for name in READ_ONLY:
        path = f"{proc}/{name}"
        if os.path.exists(path):
            kernel.mount(path, path, flags=MS_BIND)
            kernel.mount("none", path, flags=MS_REMOUNT | MS_BIND | MS_RDONLY | flags)
    for name in HIDDEN:
        _hide(f"{proc}/{name}", flags | MS_RDONLY)


def _hide(path: str, flags: int) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        kernel.mount("tmpfs", path, "tmpfs", flags, "size=4k,nr_inodes=2,mode=555")
    else:
        kernel.mount(f"{_OLD}/dev/null", path, flags=MS_BIND)
        kernel.mount("none", path, flags=MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC)


def _devices(shm: str) -> None:
    dev = f"{_NEW}/dev"
    kernel.mount("tmpfs", dev, "tmpfs", MS_NOSUID, "size=64k,nr_inodes=64,mode=755")
    for name in _DEVICES:
        if os.path.exists(f"{_OLD}/dev/{name}"):
            _file(f"{dev}/{name}")
            kernel.mount(f"{_OLD}/dev/{name}", f"{dev}/{name}", flags=MS_BIND)
            # Written to all the same, as devices are; the host's file of it keeps its mode.
            flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC
            kernel.mount("none", f"{dev}/{name}", flags=flags)
    for name, target in _DEVICE_LINKS.items():
        os.symlink(target, f"{dev}/{name}")
    os.mkdir(f"{dev}/pts", 0o755)
    options = f"newinstance,ptmxmode=0666,mode=620,max={TERMINALS}"
    kernel.mount("devpts", f"{dev}/pts", "devpts", MS_NOSUID | MS_NOEXEC, options)
    os.mkdir(f"{dev}/shm", 0o1777)
    kernel.mount("tmpfs", f"{dev}/shm", "tmpfs", MS_NOSUID | MS_NODEV, f"{shm},mode=1777")


def _writable(files: Files, owner: tuple[int, int]) -> None:
    """A file system for each folder; those that share one have its space, and no name."""
    flags = MS_NOSUID | MS_NODEV
    size = f"{files.size}," if files.size else ""
    shared: set[str] = set()
    for folder, mode, group in files.writable:
        place = _NEW + folder
        if not group:
            options = f"{size}mode={mode:o},uid={owner[0]},gid={owner[1]}"
            kernel.mount("tmpfs", place, "tmpfs", flags, options)
            continue
        space = f"{_FILES}/{group}"
        if group not in shared:
            shared.add(group)
            os.mkdir(space)
            kernel.mount("tmpfs", space, "tmpfs", flags, f"{size}mode=755")
        part = f"{space}/{folder.strip('/').replace('/', '-')}"
        os.mkdir(part)
        os.chmod(part, mode)
        os.chown(part, *owner)
        kernel.mount(part, place, flags=MS_BIND)
