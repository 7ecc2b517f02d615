"""bwrap's words for a sandbox: its namespaces, and the steps that make its root."""

from __future__ import annotations

import os

import attrs

from stockade.config import MIB
from stockade.toolkit.local.limits import TERMINALS
from stockade.toolkit.local.procfs import HIDDEN
from stockade.toolkit.local.root import HOSTNAME, Root, Step
from stockade.toolkit.local.spec import Shown

__all__ = ["ISOLATION", "Argument", "Text", "arguments", "remounts"]

#: Everything unshared, nothing kept; the probe tries the same.
ISOLATION = (
    "--unshare-user",
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-net",
    "--unshare-cgroup-try",
    "--disable-userns",
    "--die-with-parent",
    "--new-session",
    "--cap-drop",
    "ALL",
    "--hostname",
    HOSTNAME,
)
_VAR_TMP = "/var/tmp"
#: Options of the sandbox's own terminals, as bwrap mounts them, and how many there may be.
_TERMINALS = f"nosuid,noexec,newinstance,ptmxmode=0666,mode=620,max={TERMINALS}"


@attrs.frozen
class Text:
    """Stands for the number of a descriptor that bwrap reads this from."""

    content: bytes


#: One of bwrap's words.
Argument = str | Text


def arguments(root: Root, inside: tuple[int, int], *, own_mounts: bool) -> list[Argument]:
    """All of them but the filter and the program. ``own_mounts``: bwrap mounts the caller's
    folders; else there are places for them.

    Raises ConfigError for places that can't be made, OSError for a target that can't be
    looked at.
    """
    return [
        *ISOLATION,
        *("--as-pid-1", "--uid", str(inside[0]), "--gid", str(inside[1])),
        *(word for step in root.steps() for word in _step(step)),
        *("--proc", "/proc"),
        *_hidden(),
        *("--dev", "/dev", *_tmpfs("/dev/shm", 0o1777, root.shm_mb), "--remount-ro", "/dev"),
        *_writable(root),
        *(word for mount in root.mounts for word in _mount(mount, own_mounts)),
        *("--remount-ro", "/", "--chdir", "/"),
    ]


def remounts(root: Root) -> list[tuple[list[str], str]]:
    """Places that are writable, and the options that bound them, which bwrap cannot set all:
    for the keeper."""
    found = [
        (["/dev/shm"], f"nosuid,nodev,{root.size(root.shm_mb)}"),
        (["/dev/pts"], _TERMINALS),
    ]
    if root.disk_mb is not None:
        own = [folder.place for folder in root.writable() if not _is_shared(folder.place)]
        found.append((own, f"nosuid,nodev,{root.size(root.disk_mb)}"))
    return found


def _step(step: Step) -> list[Argument]:
    place, kind = step["place"], step["kind"]
    if kind == "folder":
        return [*_parents(place), "--perms", "0755", "--dir", place]
    if kind == "link":
        return [*_parents(place), "--symlink", step["to"], place]
    if kind == "text":
        content = Text(step["text"].encode("utf-8", "surrogateescape"))
        return [*_parents(place), "--perms", "0444", "--file", content, place]
    return [*_parents(place), "--ro-bind", step["source"], place]


def _writable(root: Root) -> list[Argument]:
    """Programs find their long-lived temporary files in the space of the others."""
    words: list[Argument] = []
    for folder in root.writable():
        if _is_shared(folder.place):
            words += [*_parents(folder.place), "--symlink", "/tmp", folder.place]
        else:
            words += [*_parents(folder.place), *_tmpfs(folder.place, folder.mode, root.disk_mb)]
    return words


def _mount(mount: Shown, own_mounts: bool) -> list[str]:
    # Through a link bwrap would make folders outside of the new root.
    shared = mount.target.startswith(f"{_VAR_TMP}/")
    place = "/tmp" + mount.target.removeprefix(_VAR_TMP) if shared else mount.target
    made = [*_parents(place), "--perms", "0755", "--dir", place]
    how = "--ro-bind" if mount.read_only else "--bind"
    return [*made, how, mount.source, place] if own_mounts else made


def _is_shared(place: str) -> bool:
    return place == _VAR_TMP


def _parents(path: str) -> list[str]:
    """Folders that everybody may enter, where there are none; bwrap's own are one user's."""
    parts = path.split("/")[1:-1]
    return [
        word
        for count in range(1, len(parts) + 1)
        for word in ("--perms", "0755", "--dir", "/" + "/".join(parts[:count]))
    ]


def _tmpfs(path: str, mode: int, megabytes: int | None) -> list[str]:
    size = [] if megabytes is None else ["--size", str(megabytes * MIB)]
    return [*size, "--perms", f"{mode:04o}", "--tmpfs", path]


def _hidden() -> list[str]:
    words: list[str] = []
    for path in (f"/proc/{name}" for name in HIDDEN):
        if os.path.isdir(path):
            words += ["--size", "4096", "--perms", "0555", "--tmpfs", path]
            words += ["--remount-ro", path]
        elif os.path.exists(path):
            words += ["--ro-bind", "/dev/null", path]
    return words
