"""One more process in a sandbox that runs: into its namespaces, with nothing of the host.

What enters is a fork of the keeper. Before it is where code inside can see it, it is
undumpable: no process of the same user may look into it, trace it or take a descriptor.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import traceback
from collections.abc import Callable, Sequence
from typing import Any

__all__ = [
    "Program",
    "become_subreaper",
    "hide_command_line",
    "limit",
    "remount",
    "spawn",
    "take_ids",
]

_libc = ctypes.CDLL(None, use_errno=True)

#: CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}
_ALL_NAMESPACES = 0x7E020000
_PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP, _PR_SET_DUMPABLE, _PR_SET_SECCOMP = 38, 24, 4, 22
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, _PR_SET_CHILD_SUBREAPER = 47, 4, 36
_NEW_USER, _NEW_MOUNT = 0x10000000, 0x00020000
_NS_GET_USERNS = 0xB701
_MS_NOSUID, _MS_NODEV, _MS_REMOUNT = 2, 4, 32
_SECCOMP_FILTER = 2
_LAST_CAPABILITY = 63


class Program:
    """What is started, and as whom."""

    def __init__(
        self,
        argv: Sequence[str],
        env: dict[str, str],
        filter_code: bytes,
        *,
        ids: tuple[int, int] | None,
        limits: Sequence[tuple[int, int]],
        folder: str,
    ) -> None:
        """``argv``: the program's path, the name it goes by, its arguments. ``ids``: the
        host's ids to take first, where the keeper is root. ``limits``: resource and value.
        ``folder``: where it starts."""
        self.argv = list(argv)
        self.env = env
        self.ids = ids
        self.limits = limits
        self.folder = folder
        self._code = ctypes.create_string_buffer(filter_code, len(filter_code))
        self.filter = _Filter(len(filter_code) // 8, ctypes.addressof(self._code))


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def spawn(
    inside: int, program: Program, streams: Sequence[int], prepare: Callable[[], None]
) -> int:
    """Start it beside the process ``inside`` (a pidfd); its process id on the host.

    ``streams`` become its standard streams. ``prepare`` runs in the fork while it still
    has the keeper's rights. Raises OSError with what failed.
    """
    said = _in_fork(lambda: _enter_twice(inside, program, streams, prepare))
    return int(said)


def remount(pid: int, ids: tuple[int, int] | None, paths: Sequence[str], options: str) -> None:
    """Change the options of file systems that the sandbox with the process ``pid`` has
    mounted itself. Raises OSError."""

    def change() -> bytes:
        mounts = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        owner = fcntl.ioctl(mounts, _NS_GET_USERNS)  # it holds the rights over the mounts
        _call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)
        if ids is not None:
            take_ids(ids)
        _call("setns", owner, _NEW_USER)
        _call("setns", mounts, _NEW_MOUNT)
        flags = _MS_REMOUNT | _MS_NOSUID | _MS_NODEV
        for path in paths:
            _call("mount", b"none", os.fsencode(path), None, flags, options.encode())
        return b"done"

    _in_fork(change)


def limit(
    pids: Sequence[int], ids: tuple[int, int] | None, limits: Sequence[tuple[int, int]]
) -> None:
    """Lower limits of processes that run. Raises OSError."""

    def change() -> bytes:
        if ids is not None:  # their own user may, and root may lack the right
            take_ids(ids)
        for pid in pids:
            for which, value in limits:
                resource.prlimit(pid, which, (value, value))
        return b"done"

    if limits:
        _in_fork(change)


def become_subreaper() -> None:
    """Become the parent of every process below this one whose own parent dies."""
    _call("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def hide_command_line(name: bytes) -> None:
    """Have this process, and its forks, show under ``name`` alone.

    A fork on its way into the sandbox is in sight there before it becomes the program; of
    all that it has of the host's only the command line can be read then.
    """
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end of proc(5)
    if 0 < start < end:
        shown = name[: end - start - 1]
        ctypes.memmove(start, shown + bytes(end - start - len(shown)), end - start)


def _in_fork(act: Callable[[], bytes]) -> str:
    """What ``act`` gives, in a fork that ends with it. Raises OSError with what failed."""
    answer, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(answer)
            os.write(tell, b"+" + act() + b"\0")
        except BaseException:
            os.write(tell, traceback.format_exc(limit=-2).encode()[-2000:] + b"\0")
        finally:
            os._exit(0)
    os.close(tell)
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


def _enter_twice(
    inside: int, program: Program, streams: Sequence[int], prepare: Callable[[], None]
) -> bytes:
    prepare()
    _call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)
    if program.ids is not None:
        take_ids(program.ids)
    _call("setns", inside, _ALL_NAMESPACES)
    # A process id namespace takes in the children of who enters it.
    pid = os.fork()
    if pid == 0:
        _become(program, streams)
    return b"%d" % pid


def take_ids(ids: tuple[int, int]) -> None:
    """Become an ordinary user for good."""
    uid, gid = ids
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def _become(program: Program, streams: Sequence[int]) -> None:
    """In the namespaces: give up everything that came along, and run."""
    try:
        os.setsid()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)  # the pipes are numbered past the standard ones
        os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        for which, value in program.limits:
            resource.setrlimit(which, (value, value))
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # Python ignores them
        os.umask(0o022)
        os.chdir(program.folder)
        _give_up_privileges()
        _call("prctl", _PR_SET_SECCOMP, _SECCOMP_FILTER, ctypes.byref(program.filter), 0, 0)
        os.execve(program.argv[0], program.argv[1:], program.env)
    except BaseException:
        os.write(2, traceback.format_exc(limit=-2).encode())
    finally:
        os._exit(127)


def _give_up_privileges() -> None:
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    for capability in range(_LAST_CAPABILITY + 1):
        if _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break  # past the kernel's last one
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3
    _call("capset", ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)()))
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _call(name: str, *args: Any) -> None:
    if getattr(_libc, name)(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
