"""bwrap's words for a sandbox: its namespaces, and the steps that make its root.

They are words that bwrap has had since 0.4. What later ones can do as well (modes, sizes, no
further user namespaces) the keeper does in every sandbox, whatever the version, before
anything of the user's runs: there is one way, and each version is held to it.
"""

from __future__ import annotations

import os

import attrs

from stockade.toolkit.local.bounds import TERMINALS
from stockade.toolkit.local.procfs import HIDDEN
from stockade.toolkit.local.root import HOSTNAME, Root, Step, Writable
from stockade.toolkit.local.spec import Shown

__all__ = ["ISOLATION", "NO_NETWORK", "Argument", "Text", "arguments", "modes", "remounts"]

#: Everything unshared, nothing kept, but for the network; the probe tries the same.
ISOLATION = (
    "--unshare-user",
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup-try",
    "--die-with-parent",
    "--new-session",
    "--cap-drop",
    "ALL",
    "--hostname",
    HOSTNAME,
)
#: A network of the sandbox's own, which is empty.
NO_NETWORK = "--unshare-net"
_VAR_TMP = "/var/tmp"
#: Options of the sandbox's own terminals, as bwrap mounts them, and how many there may be.
_TERMINALS = f"nosuid,noexec,newinstance,ptmxmode=0666,mode=620,max={TERMINALS}"


@attrs.frozen
class Text:
    """Stands for the number of a descriptor that bwrap reads this from."""

    content: bytes


#: One of bwrap's words.
Argument = str | Text


def arguments(
    root: Root, inside: tuple[int, int], *, own_mounts: bool, network: bool = False
) -> list[Argument]:
    """All of them but the filter and the program. ``own_mounts``: bwrap mounts the caller's
    folders; else there are places for them. ``network``: it is on the host's.

    Raises ConfigError for places that can't be made, OSError for a target that can't be
    looked at.
    """
    return [
        *ISOLATION,
        *(() if network else (NO_NETWORK,)),
        *("--as-pid-1", "--uid", str(inside[0]), "--gid", str(inside[1])),
        *(word for step in root.steps() for word in _step(step)),
        *("--proc", "/proc"),
        *_hidden(),
        *("--dev", "/dev", "--tmpfs", "/dev/shm", "--remount-ro", "/dev"),
        *(word for folder in root.writable() for word in _writable(folder)),
        *(word for mount in root.mounts for word in _mount(mount, own_mounts)),
        *("--chdir", "/"),
    ]


def modes(root: Root) -> list[tuple[list[str], int]]:
    """The modes of what bwrap makes with modes of its own: for the keeper."""
    texts = [step["place"] for step in root.steps() if step["kind"] == "text"]
    own = [folder for folder in root.writable() if not _is_shared(folder.place)]
    return [
        (texts, 0o444),
        (["/dev/shm"], 0o1777),
        *(([folder.place], folder.mode) for folder in own),
    ]


def remounts(root: Root) -> list[tuple[list[str], str]]:
    """Places that are writable, and the options that bound them, and the root, which is
    writable until its modes are set: for the keeper."""
    found = [
        (["/dev/shm"], f"nosuid,nodev,{root.size(root.shm_mb)}"),
        (["/dev/pts"], _TERMINALS),
    ]
    if root.disk_mb is not None:
        own = [folder.place for folder in root.writable() if not _is_shared(folder.place)]
        found.append((own, f"nosuid,nodev,{root.size(root.disk_mb)}"))
    found.append((["/"], "ro,nosuid,nodev"))
    return found


def _step(step: Step) -> list[Argument]:
    place, kind = step["place"], step["kind"]
    if kind == "folder":
        return ["--dir", place]
    if kind == "link":
        return ["--symlink", step["to"], place]
    if kind == "text":
        return ["--file", Text(step["text"].encode("utf-8", "surrogateescape")), place]
    return ["--ro-bind", step["source"], place]


def _writable(folder: Writable) -> list[str]:
    """Programs find their long-lived temporary files in the space of the others."""
    if _is_shared(folder.place):
        return ["--symlink", "/tmp", folder.place]
    return ["--tmpfs", folder.place]


def _mount(mount: Shown, own_mounts: bool) -> list[str]:
    # Through a link bwrap would make folders outside of the new root.
    shared = mount.target.startswith(f"{_VAR_TMP}/")
    place = "/tmp" + mount.target.removeprefix(_VAR_TMP) if shared else mount.target
    how = "--ro-bind" if mount.read_only else "--bind"
    return [how, mount.source, place] if own_mounts else ["--dir", place]


def _is_shared(place: str) -> bool:
    return place == _VAR_TMP


def _hidden() -> list[str]:
    words: list[str] = []
    for path in (f"/proc/{name}" for name in HIDDEN):
        if os.path.isdir(path):
            words += ["--tmpfs", path, "--remount-ro", path]
        elif os.path.exists(path):
            words += ["--ro-bind", "/dev/null", path]
    return words
