"""Calls of the kernel that Python has no name for, and forks that make them."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stockade.toolkit.local import tree

__all__ = [
    "become_subreaper",
    "call",
    "configure",
    "enter",
    "enter_as_root",
    "filter_calls",
    "gain_nothing",
    "give_up_privileges",
    "hide_command_line",
    "in_fork",
    "limit",
    "remount",
    "show_files",
    "take_ids",
]

_libc = ctypes.CDLL(None, use_errno=True)

_PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP, _PR_SET_DUMPABLE, _PR_SET_SECCOMP = 38, 24, 4, 22
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, _PR_SET_CHILD_SUBREAPER = 47, 4, 36
_NEW_USER = 0x10000000
_KINDS = {"mnt": 0x00020000, "net": 0x40000000}
_NS_GET_USERNS = 0xB701
_MS_REMOUNT = 32
_MOUNT_FLAGS = {"ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8}
_SECCOMP_FILTER = 2
_LAST_CAPABILITY = 63


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def call(name: str, *args: Any) -> None:
    """Call a function of the C library that answers 0 where it worked. Raises OSError."""
    if getattr(_libc, name)(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def become_subreaper() -> None:
    """Become the parent of every process below this one whose own parent dies."""
    call("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def hide_command_line(name: bytes) -> None:
    """Have this process, and its forks, show under ``name`` alone.

    A fork on its way into a sandbox is in sight there before it becomes the program; of
    all that it has of the host's only the command line can be read then.
    """
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end of proc(5)
    if 0 < start < end:
        shown = name[: end - start - 1]
        ctypes.memmove(start, shown + bytes(end - start - len(shown)), end - start)


def take_ids(ids: tuple[int, int]) -> None:
    """Become an ordinary user (uid, gid) for good. Raises OSError."""
    uid, gid = ids
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def show_files() -> None:
    """Have the files of this process below /proc be its user's, which they are no more once it
    has changed its user. Raises OSError."""
    call("prctl", _PR_SET_DUMPABLE, 1, 0, 0, 0)


def give_up_privileges() -> None:
    """Empty every set of capabilities and gain none by a program, for good (E1).

    Raises OSError.
    """
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    for capability in range(_LAST_CAPABILITY + 1):
        if _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break  # past the kernel's last one
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3
    call("capset", ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)()))
    gain_nothing()


def gain_nothing() -> None:
    """Gain no privilege by any program that is run from here on, for good (E1)."""
    call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def filter_calls(code: bytes) -> None:
    """Install a filter (seccomp.program) for this process and all below it, for good.

    It needs ``give_up_privileges`` before. Raises OSError.
    """
    held = ctypes.create_string_buffer(code, len(code))
    filter_program = _Filter(len(code) // 8, ctypes.addressof(held))
    call("prctl", _PR_SET_SECCOMP, _SECCOMP_FILTER, ctypes.byref(filter_program), 0, 0)


def in_fork(act: Callable[[], bytes]) -> str:
    """What ``act`` gives, in a fork that ends with it; of a process with one thread.

    Raises OSError with what failed.
    """
    answer, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(answer)
            os.write(into, b"+" + act() + b"\0")
        except BaseException:
            os.write(into, traceback.format_exc(limit=-2).encode()[-2000:] + b"\0")
        finally:
            os._exit(0)
    os.close(into)
    said = b""
    # Not until end-of-file: what entered may hold the pipe, and be stopped by code inside.
    while not said.endswith(b"\0") and (piece := os.read(answer, 4096)):
        said += piece
    os.close(answer)
    os.waitpid(child, 0)
    words = said.rstrip(b"\0").decode(errors="replace")
    if not words.startswith("+"):
        raise OSError(f"the keeper could not reach into the sandbox: {words.strip()}")
    return words[1:]


def remount(
    pid: int,
    ids: tuple[int, int] | None,
    modes: Sequence[tuple[Sequence[str], int]],
    mounts: Sequence[tuple[Sequence[str], str]],
) -> None:
    """Set modes of what the sandbox with the process ``pid`` has for its own, and then the
    options of file systems that it has mounted itself; all of them are given, ``nosuid`` and
    the like too. Raises OSError."""

    def change() -> bytes:
        enter(pid, ids, "mnt")
        for paths, mode in modes:
            for path in paths:
                os.chmod(path, mode)
        for paths, options in mounts:
            for path in paths:
                _set_options(path, options)
        return b"done"

    if modes or mounts:
        in_fork(change)


def _set_options(path: str, options: str) -> None:
    words = options.split(",")
    flags = _MS_REMOUNT | sum(_MOUNT_FLAGS.get(word, 0) for word in words)
    data = ",".join(word for word in words if word not in _MOUNT_FLAGS)
    call("mount", b"none", os.fsencode(path), None, flags, data.encode())


def configure(pid: int, ids: tuple[int, int] | None, settings: Mapping[str, str]) -> None:
    """Set what the network and the user namespace of the process ``pid`` have for their own:
    paths below /proc/sys, and values. Of this process's own ones nothing is set.
    Raises OSError."""
    network, user = (not _is_own(f"/proc/{pid}/ns/{kind}") for kind in ("net", "user"))

    def change() -> bytes:
        if ids is not None:  # who has the rights, which root of a container may lack
            take_ids(ids)
        # Settings of a user namespace are those of whoever looks.
        own = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        if network:
            enter(pid, None, "net")
            _write_all(settings, "/proc/sys/net/")
        if user:
            if not _is_own(own):
                call("setns", own, _NEW_USER)
            _write_all(settings, "/proc/sys/user/")
        return b"done"

    if settings and (network or user):
        in_fork(change)


def enter(pid: int, ids: tuple[int, int] | None, name: str) -> None:
    """Into one namespace of a process, "mnt" or "net", with the rights over it; for a fork.
    Raises OSError."""
    if ids is not None:  # the sandbox's own user has them
        take_ids(ids)
    entered = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    owner = fcntl.ioctl(entered, _NS_GET_USERNS)
    call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)
    if not _is_own(owner):
        call("setns", owner, _NEW_USER)
    call("setns", entered, _KINDS[name])


def enter_as_root(pid: int, name: str) -> None:
    """As ``enter``, of root's keepers, and with the host's rights: for what a sandbox's own
    user may not do there. Raises OSError."""
    entered = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)
    call("setns", entered, _KINDS[name])


def _is_own(namespace: int | str) -> bool:
    """Whether this process is in a namespace, by its descriptor or its path."""
    try:
        other = os.stat(namespace)
    except OSError:
        return False
    own = (os.stat(f"/proc/self/ns/{kind}") for kind in ("net", "user"))
    return any((each.st_dev, each.st_ino) == (other.st_dev, other.st_ino) for each in own)


def _write_all(settings: Mapping[str, str], below: str) -> None:
    for path, value in settings.items():
        if path.startswith(below):
            with open(path, "w") as file:
                file.write(value)


def limit(pid: int, ids: tuple[int, int] | None, limits: Sequence[tuple[int, int]]) -> None:
    """Lower limits of a process that runs and of all below it: resource and value.
    Raises OSError."""

    def change() -> bytes:
        if ids is not None:  # their own user may, and root may lack the right
            take_ids(ids)
        _lower(pid, limits)
        # Looked for only now: whatever it forks from here on has them already.
        for child in tree.descendants(pid):
            with contextlib.suppress(ProcessLookupError):
                _lower(child, limits)
        return b"done"

    if limits:
        in_fork(change)


def _lower(pid: int, limits: Sequence[tuple[int, int]]) -> None:
    for which, value in limits:
        resource.prlimit(pid, which, (value, value))
