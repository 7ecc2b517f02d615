"""The keeper: one process a session, on the host, between the owner and bubblewrap.

It makes the session's cgroup, starts bwrap, lets further processes into the namespaces,
watches the limits that no cgroup holds, and ends it all: when the owner closes the link
or dies, when the lifetime is over, and by the kernel's hand when it is killed itself.
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

from stockade.toolkit.local import link
from stockade.toolkit.local.watch import Watch
from stockade_bubblewrap import enter
from stockade_bubblewrap.box import Box

__all__ = ["main"]

_OPEN_FILES = 4096
#: The keeper's own end of a lifetime comes after core's (C11).
_EXPIRY_GRACE_SECONDS = 2.0


class Keeper:
    """Serves the owner's link until it closes."""

    def __init__(self, owner: socket.socket, box: Box) -> None:
        order = box.order
        self._link = owner
        self._box = box
        self._stop = False
        expires: float | None = order["expires_at"]
        #: By a clock that nobody sets (C11).
        self._over_at = (
            None
            if expires is None
            else time.monotonic() + max(0.0, expires - time.time()) + _EXPIRY_GRACE_SECONDS
        )
        self._watch = Watch(
            None if "memory" in box.held else order["memory_bytes"],
            None if "cpu" in box.held else order["cpu_share"],
            processes=box.processes,
            count=box.count_kills,
        )
        self._does: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "settle": self._settle,
            "spawn": self._spawn,
            "state": self._state,
            "kill": self._end_programs,
            "count": self._count,
            "killed": self._killed,
            "freeze": self._freeze,
            "end": self._end,
        }

    def serve(self) -> None:
        """Until the owner is gone, the lifetime is over, or an end was asked for."""
        poll = select.poll()
        woken = self._wake_at_signals()
        owner = self._owner()
        for descriptor in (self._link.fileno(), woken, owner):
            if descriptor >= 0:
                poll.register(descriptor, select.POLLIN)
        while not self._stop:
            ready = [descriptor for descriptor, _ in poll.poll(self._until_next())]
            if woken in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(woken, 4096)
            self._box.reap()
            # A fork of the owner may hold the link open, so the owner itself is looked at too.
            if owner in ready or self._is_over():
                return
            if self._link.fileno() in ready:
                received = link.receive(self._link)
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

    def _owner(self) -> int:
        parent = os.getppid()
        return os.pidfd_open(parent) if parent == self._box.order["owner"] else -1

    def _is_over(self) -> bool:
        return self._over_at is not None and time.monotonic() > self._over_at

    def _until_next(self) -> float | None:
        """Milliseconds until something must be looked at."""
        until = []
        if self._box.settled and (look := self._watch.look()) is not None:
            until.append(look)
        if self._over_at is not None:
            left = self._over_at - time.monotonic()
            until.append(min(max(0.0, left), 3600.0) + 0.001)
        return min(until) * 1000 if until else None

    def _serve_one(self, message: dict[str, Any]) -> None:
        if message["op"] == "busy":  # the one that waits for no answer
            self._watch.expect()
            return
        answer_with(self._link, lambda: self._does[message["op"]](message))

    def _settle(self, message: dict[str, Any]) -> dict[str, Any]:
        self._box.settle()
        return {"init": self._box.init}

    def _spawn(self, message: dict[str, Any]) -> dict[str, Any]:
        pid, pipes = self._box.spawn(message["argv"], message["lane"])
        return {"pid": pid, "descriptors": pipes}

    def _state(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"ended": self._box.status, "kills": self._box.kills() + self._watch.kills}

    def _end_programs(self, message: dict[str, Any]) -> dict[str, Any]:
        self._box.end_programs(message["lane"])
        return {}

    def _count(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"programs": len(self._box.programs_of(message["lane"]))}

    def _killed(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"killed": self._box.killed(message["lane"], message["after"])}

    def _freeze(self, message: dict[str, Any]) -> dict[str, Any]:
        self._box.freeze(message["yes"])
        return {}

    def _end(self, message: dict[str, Any]) -> dict[str, Any]:
        self._box.end()
        self._stop = True
        return {}


def answer_with(owner: socket.socket, act: Callable[[], dict[str, Any]]) -> bool:
    """Do it, and answer with what it gives or with how it failed; whether it worked."""
    descriptors: list[int] = []
    answer: dict[str, Any]
    try:
        answer = act()
        descriptors = answer.pop("descriptors", [])
        answer["ok"] = True
    except Exception as error:
        answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
    with contextlib.suppress(OSError):
        link.send(owner, answer, descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    return bool(answer["ok"])


def _set_up() -> None:
    enter.become_subreaper()
    enter.hide_command_line(b"stockade-keeper")
    os.umask(0o022)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _OPEN_FILES if most == resource.RLIM_INFINITY else min(_OPEN_FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        # Handled, not ignored: programs inside start with the default again.
        signal.signal(number, lambda *_: None)


def main(descriptor: int) -> None:
    """Run by the owner (sandbox.py), which passes its end of the link."""
    owner = socket.socket(fileno=descriptor)
    owner.set_inheritable(False)
    _set_up()
    received = link.receive(owner)
    if received is None:
        return
    box = Box(received[0])
    try:
        if answer_with(owner, lambda: {"descriptors": box.start()}):
            Keeper(owner, box).serve()
    finally:
        with contextlib.suppress(OSError):
            box.end()
        os._exit(0)
