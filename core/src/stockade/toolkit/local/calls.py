"""Calls of the kernel that Python has no name for, and forks that make them."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import resource
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stockade.toolkit.local import tree

__all__ = [
    "become_subreaper",
    "call",
    "enter",
    "enter_as_root",
    "explained",
    "filter_calls",
    "gain_nothing",
    "give_up_privileges",
    "hide_command_line",
    "in_fork",
    "settle",
    "show_environment",
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
#: The kernel's own number, in no errno.h, for what it could not compile.
_ENOTSUPP = 524
_NO_ROOM = "the kernel has no room for one more seccomp filter (net.core.bpf_jit_limit)"


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
    start, end = _place(45)  # arg_start and arg_end of proc(5)
    if 0 < start < end:
        _overwrite(start, end, name[: end - start - 1])


def show_environment(variables: Mapping[str, str]) -> None:
    """Have this process show these variables and no others, as its /proc/PID/environ has them,
    in the place of those that it was started with. Raises OSError if there is less room."""
    text = b"".join(f"{name}={value}\0".encode() for name, value in variables.items())
    start, end = _place(47)  # env_start and env_end
    if len(text) > end - start:
        raise OSError(errno.E2BIG, "the keeper's marks are too long")
    _overwrite(start, end, text)


def _place(field: int) -> tuple[int, int]:
    """Two addresses that this process's /proc/PID/stat shows, counted behind its name."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return int(fields[field]), int(fields[field + 1])


def _overwrite(start: int, end: int, text: bytes) -> None:
    ctypes.memmove(start, text + bytes(end - start - len(text)), end - start)


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

    It needs ``give_up_privileges`` before. Raises OSError: of ENOMEM, which passes, where the
    kernel has no room to compile one more.
    """
    held = ctypes.create_string_buffer(code, len(code))
    filter_program = _Filter(len(code) // 8, ctypes.addressof(held))
    try:
        call("prctl", _PR_SET_SECCOMP, _SECCOMP_FILTER, ctypes.byref(filter_program), 0, 0)
    except OSError as error:
        if error.errno != _ENOTSUPP:
            raise
        raise OSError(errno.ENOMEM, _NO_ROOM) from error


def explained(words: str) -> str:
    """What another program says of a call that failed, with the reason where it is a number
    of the kernel's that the C library has no words for."""
    return f"{words}: {_NO_ROOM}" if words.endswith(f" {_ENOTSUPP}") else words


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
        except BaseException as error:
            os.write(into, f"{type(error).__name__}: {error}".encode()[:2000] + b"\0")
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


def settle(
    pid: int,
    ids: tuple[int, int] | None,
    limits: Sequence[tuple[int, int]],
    modes: Sequence[tuple[Sequence[str], int]],
    remounts: Sequence[tuple[Sequence[str], str]],
    settings: Mapping[str, str],
) -> None:
    """What the sandbox of process ``pid`` gets once it is up, in one fork. Raises OSError.

    ``limits``: lower limits of that process and of all below it, resource and value.
    ``modes``: of what the sandbox has for its own; after them ``remounts``: file systems that
    it has mounted itself, and all their options, ``nosuid`` too. ``settings``:
    what its network and its user namespace have for their own, paths below /proc/sys, and
    values; of this process's own ones nothing is set.
    ``ids``: who has the rights over it, where that is not this process's user.
    """
    network = {} if _is_own(f"/proc/{pid}/ns/net") else _below(settings, "net/")
    user = {} if _is_own(f"/proc/{pid}/ns/user") else _below(settings, "user/")

    def change() -> bytes:
        if ids is not None:  # they have the rights, which root of a container may lack
            take_ids(ids)
        _lower_all(pid, limits)
        wanted = {"net": network, "mnt": modes or remounts, "user": user}
        into = _Namespaces(pid, [kind for kind, given in wanted.items() if given])
        if network:
            into.enter("net")
            into.write(network)
        if modes or remounts:
            into.enter("mnt")
            for paths, mode in modes:
                for path in paths:
                    os.chmod(path, mode)
            for paths, options in remounts:
                _remount(paths, options)
        if user:
            # Last: over the others' owner it has no rights.
            into.become(into.at["user"])
            into.write(user)
        return b"done"

    if limits or network or modes or remounts or user:
        in_fork(change)


def _below(settings: Mapping[str, str], part: str) -> dict[str, str]:
    """Those of a part of /proc/sys, by their paths there."""
    root = "/proc/sys/"
    return {
        path.removeprefix(root): value
        for path, value in settings.items()
        if path.startswith(root + part)
    }


class _Namespaces:
    """A process's, for a fork that goes into them; opened while /proc is still this machine's."""

    def __init__(self, pid: int, kinds: Sequence[str]) -> None:
        self.at = {
            kind: os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in kinds
        }
        self._settings = os.open("/proc/sys", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._user = _identity("/proc/self/ns/user")
        call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)

    def become(self, user: int) -> None:
        """Go into a user namespace, where this process is not in it already."""
        if _identity(user) != self._user:
            call("setns", user, _NEW_USER)
            self._user = _identity(user)

    def enter(self, kind: str) -> None:
        """Into "net" or "mnt", with the rights of its owner."""
        self.become(fcntl.ioctl(self.at[kind], _NS_GET_USERNS))
        call("setns", self.at[kind], _KINDS[kind])

    def write(self, settings: Mapping[str, str]) -> None:
        """They are those of the process that looks."""
        for path, value in settings.items():
            try:
                file = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._settings)
            except FileNotFoundError:
                # Older kernels (6.1) show these to no network of an ordinary user's. What waits
                # there for an accept is counted all the same (buffers.py).
                if path.startswith("net/core/"):
                    continue
                raise
            os.write(file, value.encode())
            os.close(file)


def _identity(namespace: int | str) -> tuple[int, int]:
    found = os.stat(namespace)
    return found.st_dev, found.st_ino


def _remount(paths: Sequence[str], options: str) -> None:
    words = options.split(",")
    flags = _MS_REMOUNT | sum(_MOUNT_FLAGS.get(word, 0) for word in words)
    data = ",".join(word for word in words if word not in _MOUNT_FLAGS)
    for path in paths:
        call("mount", b"none", os.fsencode(path), None, flags, data.encode())


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


def _lower_all(pid: int, limits: Sequence[tuple[int, int]]) -> None:
    if not limits:
        return
    _lower(pid, limits)
    # Looked for only now: whatever it forks from here on has them already.
    for child in tree.descendants(pid):
        with contextlib.suppress(ProcessLookupError):
            _lower(child, limits)


def _lower(pid: int, limits: Sequence[tuple[int, int]]) -> None:
    for which, value in limits:
        resource.prlimit(pid, which, (value, value))
