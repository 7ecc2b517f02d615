"""How the keeper prepares itself before the first program runs: folders, ids, limits."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
from typing import Any

from stockade_landlock import seccomp

__all__ = ["become_subreaper", "prepare"]

_libc = ctypes.CDLL(None, use_errno=True)

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MS_NOSUID, _MS_NODEV, _MS_REC, _MS_PRIVATE = 2, 4, 0x4000, 0x40000
_PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER = 38, 24, 36
_PR_SET_DUMPABLE, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 4, 47, 4
_LAST_CAPABILITY = 63
#: A process may reserve several times what the session may use; what it touches is watched.
_RESERVE_FACTOR, _RESERVE_EXTRA = 4, 1 << 30
_KEEPER_FILES = 65536


class PrepareError(Exception):
    """The keeper cannot set itself up; the message reaches the owner."""


def _call(name: str, *args: Any) -> None:
    if getattr(_libc, name)(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def become_subreaper() -> None:
    """Become the parent of every process below this one whose own parent dies."""
    _call("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def prepare(order: dict[str, Any]) -> str:
    """Set this process up as the session's keeper.

    Returns the folder that holds ``work`` and ``tmp``: private, and gone with this process.
    """
    become_subreaper()
    base = _private_folder(order["disk_mb"])
    for name in ("work", "tmp"):
        os.makedirs(f"{base}/{name}", mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        for name in ("", "work", "tmp"):
            os.chown(f"{base}/{name}", order["uid"], order["gid"])
    _limit(order)
    _drop(order["uid"], order["gid"])
    seccomp.forbid_calls()
    os.chdir("/")
    return base


def _private_folder(disk_mb: int | None) -> str:
    """A tmpfs for each folder, in a mount namespace of this process's own (E2, E8).

    It is mounted over /tmp, so that the host's own /tmp is out of reach of whatever
    resolves a path here: of the calls that take one, sandlock 0.9 leaves many
    (truncate, link, rename, mkdir, creat …) to what this process sees.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        _call("unshare", _CLONE_NEWNS)
    else:
        _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNS)
        for path, text in (
            ("/proc/self/setgroups", "deny"),
            ("/proc/self/uid_map", f"{uid} {uid} 1"),
            ("/proc/self/gid_map", f"{gid} {gid} 1"),
        ):
            with open(path, "w") as file:
                file.write(text)
    _call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
    _tmpfs("/tmp", "size=64k,mode=711")
    _tmpfs("/dev/shm", "size=1m,mode=1777")  # sandlock's own notes; nothing stays on the host
    size = "" if disk_mb is None else f"size={disk_mb}m,nr_inodes={max(1024, disk_mb * 64)},"
    for name in ("work", "tmp"):
        os.mkdir(f"/tmp/{name}")
        _tmpfs(f"/tmp/{name}", f"{size}mode=700")
    return "/tmp"


def _tmpfs(path: str, options: str) -> None:
    flags = _MS_NOSUID | _MS_NODEV
    _call("mount", b"tmpfs", path.encode(), b"tmpfs", flags, options.encode())


def _limit(order: dict[str, Any]) -> None:
    """Limits that the kernel itself keeps for every process of the session."""
    _lower(resource.RLIMIT_CORE, 0)
    # The keeper's own: sandlock 0.9 holds a descriptor for each process that ever made a
    # group of its own (setsid, setpgid). Programs get a limit of theirs (lanes.py).
    _lower(resource.RLIMIT_NOFILE, _KEEPER_FILES)
    if order["memory_mb"] is not None:
        # Private writable memory that one process can reserve, mapped files included.
        _lower(resource.RLIMIT_DATA, (order["memory_mb"] << 20) * _RESERVE_FACTOR + _RESERVE_EXTRA)
    if order["disk_mb"] is not None:
        _lower(resource.RLIMIT_FSIZE, order["disk_mb"] << 20)
    if order["cpus"]:
        os.sched_setaffinity(0, order["cpus"])


def _lower(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, value))


def _drop(uid: int, gid: int) -> None:
    """Give up every privilege for good, for this process and all below it (E1)."""
    was_root = os.geteuid() == 0
    if was_root:
        os.setgroups([])
    for capability in range(_LAST_CAPABILITY + 1):
        if _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break  # past the kernel's last one, or not allowed: then there is nothing to drop
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    if was_root:
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    _no_capabilities()
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # Changing ids made the process undumpable, which takes its own /proc away from it.
    _call("prctl", _PR_SET_DUMPABLE, 1, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        # The keeper ends by its link. Handled, not ignored: programs would inherit that.
        with contextlib.suppress(OSError):
            signal.signal(number, lambda *_: None)


def _no_capabilities() -> None:
    """Empty the permitted, effective and inheritable sets (capset, version 3)."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    if _libc.capset(ctypes.byref(header), ctypes.byref(data)) != 0:
        raise PrepareError("the capabilities cannot be dropped")
