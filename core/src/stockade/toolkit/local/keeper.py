"""The keeper: one process a session, on the host, between the owner and the sandbox.

It makes the session's cgroup, starts one program with what it is passed, watches the
limits that no cgroup holds, and ends it all: when the owner closes its control socket or
dies, when the lifetime is over, and by the kernel's hand when it is killed itself (where the
program asks for that, by PR_SET_PDEATHSIG). No byte of a program's output passes through it.
It has one thread, since forks of it enter namespaces.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from stockade.toolkit.local import calls, messages
from stockade.toolkit.local.program import Program
from stockade.toolkit.local.spec import KeeperSpec
from stockade.toolkit.local.watch import Watch

__all__ = ["Keeper", "main"]

_OPEN_FILES = 4096
#: The keeper's own end of a lifetime comes after core's (C11).
_EXPIRY_GRACE_SECONDS = 2.0


class Keeper:
    """Serves the owner until it closes its control socket."""

    def __init__(self, owner: socket.socket, program: Program, parent: int) -> None:
        """``parent`` is the owner's process id, as it numbers itself."""
        spec = program.spec
        self._control = owner
        self._program = program
        self._parent = parent
        self._stop = False
        self._over_at: float | None = None
        self._expire({"at": spec.expires_at})
        self._watch = Watch(
            None if "memory" in spec.held else spec.memory_bytes,
            None if "cpu" in spec.held else spec.cpu_share,
            processes=program.processes,
            count=program.count_kills,
            buffers=program.buffers,
        )
        self._does: dict[str, Callable[[dict[str, Any]], dict[str, Any] | None]] = {
            "ready": self._ready,
            "state": self._state,
            "killed": self._killed,
            "freeze": self._freeze,
            "expire": self._expire,
            "end": self._end,
        }

    def serve(self) -> None:
        """Until the owner is gone, the lifetime is over, or an end was asked for."""
        poll = select.poll()
        woken = self._wake_at_signals()
        owner = os.pidfd_open(self._parent) if os.getppid() == self._parent else -1
        for descriptor in (self._control.fileno(), woken, owner):
            if descriptor >= 0:
                poll.register(descriptor, select.POLLIN)
        while not self._stop:
            ready = [descriptor for descriptor, _ in poll.poll(self._until_next())]
            if woken in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(woken, 4096)
            self._program.reap()
            # A fork of the owner may hold the socket open, so the owner itself is looked at too.
            if owner in ready or self._is_over():
                return
            if self._control.fileno() in ready:
                received = messages.receive(self._control)
                if received is None:
                    return
                self._serve_one(received[0])

    def _wake_at_signals(self) -> int:
        woken, wake = os.pipe()
        for end in (woken, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._asked_to_end)
        return woken

    def _asked_to_end(self, *_: object) -> None:
        self._stop = True

    def _is_over(self) -> bool:
        return self._over_at is not None and time.monotonic() > self._over_at

    def _until_next(self) -> float | None:
        """Milliseconds until something must be looked at."""
        until = []
        if self._program.runs and (look := self._watch.look()) is not None:
            until.append(look)
        if self._over_at is not None:
            left = self._over_at - time.monotonic()
            until.append(min(max(0.0, left), 3600.0) + 0.001)
        return min(until) * 1000 if until else None

    def _serve_one(self, message: dict[str, Any]) -> None:
        if message["op"] == "expect":  # the one that waits for no answer
            self._watch.expect()
            return
        answer_with(self._control, lambda: self._does[message["op"]](message))

    def _ready(self, message: dict[str, Any]) -> dict[str, Any]:
        self._program.ready(
            [(which, value) for which, value in message["limits"]],
            [(paths, mode) for paths, mode in message["modes"]],
            [(paths, options) for paths, options in message["remounts"]],
            message["settings"],
        )
        return {"first": self._program.first}

    def _state(self, message: dict[str, Any]) -> dict[str, Any]:
        return {
            "ended": self._program.status,
            "kills": self._program.kills() + self._watch.kills,
        }

    def _killed(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"killed": self._program.killed(message["pid"])}

    def _freeze(self, message: dict[str, Any]) -> None:
        self._program.freeze(message["yes"])

    def _expire(self, message: dict[str, Any]) -> None:
        """By a clock that nobody sets (C11)."""
        at: float | None = message["at"]
        self._over_at = (
            None
            if at is None
            else time.monotonic() + max(0.0, at - time.time()) + _EXPIRY_GRACE_SECONDS
        )

    def _end(self, message: dict[str, Any]) -> None:
        self._program.end()
        self._stop = True


def answer_with(owner: socket.socket, act: Callable[[], dict[str, Any] | None]) -> bool:
    """Do it, and answer with what it gives or with how it failed; whether it worked."""
    answer: dict[str, Any]
    try:
        answer = {**(act() or {}), "ok": True}
    except Exception as error:
        passing = isinstance(error, OSError) and messages.is_passing(error)
        answer = {"ok": False, "error": f"{type(error).__name__}: {error}", "passing": passing}
    with contextlib.suppress(OSError):
        messages.send(owner, answer)
    return bool(answer["ok"])


def _set_up() -> None:
    calls.become_subreaper()
    calls.hide_command_line(b"stockade-keeper")
    os.umask(0o022)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _OPEN_FILES if most == resource.RLIM_INFINITY else min(_OPEN_FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        # Handled, not ignored: programs inside start with the default again.
        signal.signal(number, lambda *_: None)


def main(descriptor: int, kind: type[Program] = Program) -> None:
    """Run in the keeper's process (process.py), with the number of its end of the control socket.

    A wall whose programs are of another kind calls it from a ``main`` of its own.
    """
    owner = socket.socket(fileno=descriptor)
    owner.set_inheritable(False)
    _set_up()
    received = messages.receive(owner)
    if received is None:
        return
    message, passed = received
    program = kind(KeeperSpec.from_message(message["spec"]))
    places = dict(zip(message["places"], passed, strict=True))
    try:
        started = answer_with(owner, lambda: program.start(places))
        for held in passed:
            os.close(held)
        if started:
            Keeper(owner, program, message["owner"]).serve()
    finally:
        with contextlib.suppress(OSError):
            program.end()
        os._exit(0)
