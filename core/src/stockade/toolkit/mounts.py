"""Mounts that would open a wall are refused (E9); what is left is safe to show inside.

For every wall that shows folders of the host.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from collections.abc import Iterable, Iterator

from stockade.config import Mount
from stockade.errors import ConfigError

__all__ = ["checked"]

#: Whole trees that no mount may show, nor lie above.
_SYSTEM = (
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib64",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/log",
    "/var/run",
    "/var/spool",
)
#: Folders that are refused themselves while what lies in them is not.
_ALONE = (
    "/",
    "/home",
    "/media",
    "/mnt",
    "/opt",
    "/srv",
    "/tmp",
    "/Users",
    "/var",
    "/var/lib",
    "/var/tmp",
)
_SOCKETS = ("docker.sock", "podman.sock", "containerd.sock", "crio.sock")
#: Accounts of people begin here; one that has no home has another's number.
_PEOPLE = range(1000, 65000)
#: How mountinfo writes what would break its lines; the backslash last.
_ESCAPED = ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\"))


def checked(mounts: Iterable[Mount], *, local: bool) -> list[Mount]:
    """The mounts with real sources, or a ConfigError that says which is refused and why.

    ``local``: what shows them shares this machine's files, so links are followed here, it is
    given the path that was looked at, not the link, and what lies there is looked at: whose it
    is, whether sockets of the host or further mounts are in it.
    """
    return [Mount(_source(mount, local), _target(mount), mount.read_only) for mount in mounts]


def _source(mount: Mount, local: bool) -> str:
    source = mount.source
    if not source.startswith("/"):
        raise _refused(source, "is not an absolute path")
    real = os.path.realpath(source) if local else posixpath.normpath(source)
    for path in {posixpath.normpath(source), real}:
        _check_place(source, path)
    if local:
        if not os.path.isdir(real):
            raise _refused(source, "is no folder here")
        _check_owner(source, real, mount.read_only)
        _check_content(source, real)
    return real


def _check_place(source: str, path: str) -> None:
    homes = set(_homes())
    own = {os.path.expanduser("~"), os.path.realpath(os.path.expanduser("~"))}
    if path in _ALONE or path in homes or posixpath.dirname(path) in ("/home", "/Users"):
        raise _refused(source, f"is {path}, which shows far more than one folder")
    # Root's own folders lie in a system folder, and are its projects all the same.
    trees = [tree for tree in _SYSTEM if tree not in own]
    if any(_is_in(path, tree) for tree in trees):
        raise _refused(source, f"is {path}, part of the system")
    if any(_is_in(tree, path) for tree in _SYSTEM):
        raise _refused(source, "holds a part of the system")
    if posixpath.basename(path) in _SOCKETS:
        raise _refused(source, "is an engine's socket, and gives the whole host to its user")
    if any(home.startswith(path + "/") for home in homes):
        raise _refused(source, "holds a home")


def _homes() -> Iterator[str]:
    """Of the caller, and of the people that this machine knows."""
    yield from (os.path.expanduser("~"), os.path.realpath(os.path.expanduser("~")), "/root")
    try:
        import pwd
    except ImportError:  # on Windows an engine's own machine knows its people
        return
    for account in pwd.getpwall():
        if account.pw_uid in _PEOPLE and account.pw_dir.count("/") >= 2:
            yield account.pw_dir


def _check_owner(source: str, real: str, read_only: bool) -> None:
    """A folder is the caller's; one of root's is the system's, and may be shown to be read."""
    owner = os.stat(real).st_uid
    if owner == os.geteuid() or (read_only and owner == 0):
        return
    name = str(owner)
    with contextlib.suppress(ImportError, KeyError):
        import pwd

        name = pwd.getpwuid(owner).pw_name
    raise _refused(source, f"belongs to another user ({name})")


def _check_content(source: str, real: str) -> None:
    """Neither a way to a service of the host nor a further mount may come along."""
    with contextlib.suppress(PermissionError), os.scandir(real) as entries:
        for entry in entries:
            if stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
                raise _refused(source, f"holds the socket {entry.name!r} of a service of the host")
    for path in _listening():
        if _is_in(path, real):
            raise _refused(source, f"holds the socket {path!r} of a service of the host")
    for place in _mounted():
        if place.startswith(real + "/"):
            raise _refused(source, f"holds a further mount, {place!r}, which would come along")


def _listening() -> Iterator[str]:
    """The paths of the unix sockets that are bound on this machine."""
    with contextlib.suppress(OSError), open("/proc/net/unix", errors="surrogateescape") as file:
        for line in file:
            path = line.rstrip("\n").partition(" /")[2]
            if path:
                yield f"/{path}"


def _mounted() -> Iterator[str]:
    with contextlib.suppress(OSError), open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            place = line.split()[4]
            for written, meant in _ESCAPED:
                place = place.replace(written, meant)
            yield os.fsdecode(place)


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _target(mount: Mount) -> str:
    if mount.target == "/" or any(_is_in(mount.target, top) for top in ("/proc", "/sys", "/dev")):
        raise _refused(mount.source, f"would cover {mount.target} inside")
    return mount.target


def _refused(source: str, why: str) -> ConfigError:
    return ConfigError(f"mounts source {source!r} is refused: it {why}; name a folder of your own.")
