"""Mounts that would open the wall are refused (E9)."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable

from stockade.config import Mount
from stockade.errors import ConfigError

__all__ = ["checked"]

#: Whole trees that no mount may show, nor lie above.
_SYSTEM = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys",
    "/usr", "/var/lib/docker", "/var/lib/containerd", "/var/lib/containers", "/var/run",
)  # fmt: skip
#: Folders that are refused themselves while what lies in them is not.
_ALONE = ("/", "/home", "/var", "/var/lib", "/opt", "/srv", "/mnt", "/media", "/Users", "/tmp")
_SOCKETS = ("docker.sock", "podman.sock", "containerd.sock", "crio.sock")


def checked(mounts: Iterable[Mount], *, local: bool) -> list[Mount]:
    """The mounts with real sources, or a ConfigError that says which is refused and why.

    ``local``: the engine shares this machine's files, so links are followed here,
    and the engine is given the path that was looked at, not the link.
    """
    return [Mount(_source(mount, local), _target(mount), mount.read_only) for mount in mounts]


def _source(mount: Mount, local: bool) -> str:
    source = mount.source
    if not source.startswith("/"):
        raise _refused(source, "is not an absolute path")
    real = os.path.realpath(source) if local else posixpath.normpath(source)
    for path in {posixpath.normpath(source), real}:
        _check_place(source, path)
    if local and not os.path.isdir(real):
        raise _refused(source, "is no folder here")
    return real


def _check_place(source: str, path: str) -> None:
    homes = {os.path.realpath(os.path.expanduser("~")), os.path.expanduser("~")}
    if path in _ALONE or path in homes or posixpath.dirname(path) in ("/home", "/Users"):
        raise _refused(source, f"is {path}, which shows far more than one folder")
    if any(path == tree or path.startswith(tree + "/") for tree in _SYSTEM):
        raise _refused(source, f"is {path}, part of the system")
    if posixpath.basename(path) in _SOCKETS:
        raise _refused(source, "is an engine's socket: whoever has it has the host")
    if any(home.startswith(path + "/") for home in homes):
        raise _refused(source, "holds a home")


def _target(mount: Mount) -> str:
    if mount.target == "/" or mount.target.startswith(("/proc", "/sys", "/dev")):
        raise _refused(mount.source, f"would cover {mount.target} inside")
    return mount.target


def _refused(source: str, why: str) -> ConfigError:
    return ConfigError(f"mounts source {source!r} is refused: it {why}; name a folder of your own.")
