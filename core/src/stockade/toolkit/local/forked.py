"""Keepers as their owner has them made: by a fork server, one for each kind of keeper."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence

from stockade.system.forks import FreshLock, in_child
from stockade.toolkit.local import messages
from stockade.toolkit.local.bare import keeper_command
from stockade.toolkit.local.marks import ROOM, SERVES

__all__ = ["ForkError", "Forked", "close_servers", "fork"]

#: More than a keeper's marks take.
_ROOM_BYTES = 4096
#: What a process is in and may do, below /proc: a server that was started as something else is
#: no use. Of its status these lines.
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
_STATUS = (b"Uid:", b"Gid:", b"Groups:", b"Cap", b"NoNewPrivs:", b"Seccomp")


class ForkError(Exception):
    """No keeper could be forked; the message says why. ``passing``: it may work in a moment."""

    def __init__(self, message: str, *, passing: bool = True) -> None:
        super().__init__(message)
        self.passing = passing


class _Gone(OSError):
    """A server that has ended, so that its next one may do what was asked of it."""


class Forked:
    """A child of this process that a fork server has made; safe from any thread.

    It holds a descriptor until ``poll`` has seen the end.
    """

    def __init__(self, pid: int) -> None:
        """Raises OSError, and then nobody can wait for it by this."""
        self.pid = pid
        self._lock = threading.Lock()
        self._status: int | None = None
        self._descriptor = os.pidfd_open(pid)

    def __del__(self) -> None:
        # Without the lock: in a forked child somebody may hold it for ever.
        if getattr(self, "_descriptor", -1) >= 0:
            os.close(self._descriptor)

    def poll(self) -> int | None:
        """Its wait status once it has ended, 0 where somebody else has taken that."""
        with self._lock:
            if self._status is None:
                try:
                    pid, status = os.waitpid(self.pid, os.WNOHANG)
                except ChildProcessError:
                    pid, status = self.pid, 0
                if pid:
                    self._status = status
                    os.close(self._descriptor)
                    self._descriptor = -1
            return self._status

    def kill(self) -> None:
        """Never raises."""
        with self._lock, contextlib.suppress(ProcessLookupError, PermissionError):
            if self._status is None:
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within that time."""
        descriptor = self._descriptor  # open for as long as nobody has seen the end
        if self.poll() is None:
            waiting = select.poll()
            waiting.register(descriptor, select.POLLIN)
            waiting.poll(seconds * 1000)
        return self.poll() is not None


class _Server:
    """One fork server; used by one thread at a time."""

    def __init__(self, module: str, packages: Sequence[str]) -> None:
        """Raises OSError, SandboxStartError."""
        self._control, theirs = messages.pair()
        try:
            with theirs:
                self._process = subprocess.Popen(
                    keeper_command(module, theirs.fileno(), packages),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={
                        "PATH": "/usr/bin:/bin",
                        "LANG": "C.UTF-8",
                        SERVES: str(os.getpid()),
                        ROOM: "-" * _ROOM_BYTES,
                    },
                    cwd="/",
                    start_new_session=True,
                    pass_fds=(theirs.fileno(),),
                )
        except BaseException:
            self._control.close()
            raise

    def fork(self, marks: Mapping[str, str], theirs: socket.socket, seconds: float) -> Forked:
        """Raises ForkError, _Gone, TimeoutError if it does not answer (then it may have
        forked, and nobody else may serve the same socket), and other OSErrors."""
        self._control.settimeout(seconds)
        cpus = sorted(os.sched_getaffinity(0))
        try:
            messages.send(self._control, {"marks": dict(marks), "cpus": cpus}, [theirs.fileno()])
        except ConnectionError as error:
            raise _Gone("the fork server has ended") from error
        received = messages.receive(self._control)
        if received is None:
            raise _Gone("the fork server has ended")
        answer, _ = received
        if not answer["ok"]:
            raise ForkError(answer["error"], passing=answer["passing"])
        try:
            return Forked(answer["pid"])
        except OSError:
            os.kill(answer["pid"], signal.SIGKILL)
            os.waitpid(answer["pid"], 0)
            raise

    def close(self) -> None:
        """What it has forked lives on."""
        self._control.close()
        self._process.kill()
        self._process.wait()

    def forget(self) -> None:
        """In a forked child: it is the parent's."""
        self._control.close()
        self._process.returncode = 0


_lock = FreshLock()
_servers: dict[tuple[str, tuple[str, ...]], tuple[object, _Server]] = {}


def fork(
    module: str,
    packages: Sequence[str],
    marks: Mapping[str, str],
    theirs: socket.socket,
    seconds: float,
) -> Forked:
    """A new process in which ``module``'s keeper serves ``theirs``, its end of the control
    socket, which stays the caller's to close; ``marks`` are its environment. Waits up to
    ``seconds``.

    Raises ForkError, and SandboxStartError if the modules are not there as files.
    """
    kind, standing = (module, tuple(packages)), _standing()
    with _lock:
        known = _servers.pop(kind, None)
        try:
            if known is not None and known[0] == standing:
                with contextlib.suppress(_Gone):
                    return _forked(kind, standing, known[1], marks, theirs, seconds)
            elif known is not None:
                known[1].close()
            server = _Server(module, packages)
            return _forked(kind, standing, server, marks, theirs, seconds)
        except OSError as error:
            passing = messages.is_passing(error) or isinstance(error, _Gone | TimeoutError)
            raise ForkError(str(error), passing=passing) from error


def _forked(
    kind: tuple[str, tuple[str, ...]],
    standing: object,
    server: _Server,
    marks: Mapping[str, str],
    theirs: socket.socket,
    seconds: float,
) -> Forked:
    """By this server, which is kept where it works."""
    try:
        made = server.fork(marks, theirs, seconds)
    except BaseException:
        server.close()
        raise
    _servers[kind] = (standing, server)
    return made


def _standing() -> object:
    """What this thread is allowed and bounded by, and the namespaces that it is in."""
    found: list[object] = [os.getpriority(os.PRIO_PROCESS, 0)]
    for kind in _NAMESPACES:
        with contextlib.suppress(OSError):
            at = os.stat(f"/proc/thread-self/ns/{kind}")
            found.append((at.st_dev, at.st_ino))
    status = _read("status").splitlines()
    return (*found, *filter(_counts, status), _read("cgroup"), _read("limits"))


def _counts(line: bytes) -> bool:
    return line.startswith(_STATUS)


def _read(name: str) -> bytes:
    with contextlib.suppress(OSError), open(f"/proc/thread-self/{name}", "rb") as file:
        return file.read()
    return b""


@in_child
def _forget() -> None:
    for _, server in _servers.values():
        server.forget()
    _servers.clear()


@atexit.register
def close_servers() -> None:
    """End those that there are; the next keeper needs a new one. What they forked lives on."""
    with _lock:
        for _, server in _servers.values():
            server.close()
        _servers.clear()
