"""The keeper: one process a session, on the host, between the owner and the sandbox.

It makes the session's cgroup, starts one program with what it is passed, watches the
limits that no cgroup holds, and ends it all: when the owner closes its control socket or
dies, when the lifetime is over, and by the kernel's hand when it is killed itself (where the
program asks for that, by PR_SET_PDEATHSIG). No byte of a program's output passes through it.
It has one thread, since forks of it enter namespaces. It is itself the fork of a server
that has imported all this (forkserver.py), and the owner's child. Where nothing has to be
watched it becomes the supervisor's ``keep`` once the sandbox is up, which does the rest in a
hundredth of the memory.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import time
from typing import Any

from stockade.toolkit.local import calls, messages
from stockade.toolkit.local.forkserver import serve_forks
from stockade.toolkit.local.marks import marks
from stockade.toolkit.local.program import Program
from stockade.toolkit.local.spec import KeeperSpec, milliseconds_until
from stockade.toolkit.local.watch import Watch

__all__ = ["KEEP", "Keeper", "main"]

#: The place of the supervisor's file for the keeper's own use; no program gets it.
KEEP = -1
_OPEN_FILES = 4096


class Keeper:
    """Serves the owner until it closes its control socket."""

    def __init__(
        self, owner: socket.socket, program: Program, parent: int, supervisor: int = -1
    ) -> None:
        """``parent`` is the owner's process id, as it numbers itself, and ``supervisor`` a
        descriptor of its file."""
        spec = program.spec
        self._control = owner
        self._program = program
        self._parent = parent
        self._supervisor = supervisor
        self._owner = -1
        self._stop = False
        self._over_at: float | None = None
        self._expire(milliseconds_until(spec.expires_at))
        memory, share = spec.watched
        self._watches = memory is not None or share is not None
        self._watch = Watch(
            memory,
            share,
            processes=program.processes,
            count=program.count_kills,
            buffers=program.buffers,
        )

    def serve(self) -> None:
        """Until the owner is gone, the lifetime is over, or an end was asked for."""
        poll = select.poll()
        woken = self._wake_at_signals()
        if os.getppid() == self._parent:
            self._owner = os.pidfd_open(self._parent)
        for descriptor in (self._control.fileno(), woken, self._owner):
            if descriptor >= 0:
                poll.register(descriptor, select.POLLIN)
        while not self._stop:
            ready = [descriptor for descriptor, _ in poll.poll(self._until_next())]
            if woken in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(woken, 4096)
            self._program.reap()
            # A fork of the owner may hold the socket open, so the owner itself is looked at too.
            if self._owner in ready or self._is_over():
                return
            if self._control.fileno() in ready:
                received = messages.receive_packet(self._control)
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

    def _serve_one(self, packet: bytes) -> None:
        asked = messages.taken(packet)
        if asked is None:
            worked = messages.answer_with(self._control, lambda: self._ready(messages.read(packet)))
            if worked and not self._watches:
                self._become_small()
        elif asked[0] == messages.EXPECT:
            self._watch.expect()
        else:
            with contextlib.suppress(OSError):
                messages.send_answer(self._control, self._answer(*asked))

    def _ready(self, message: dict[str, Any]) -> dict[str, Any]:
        self._program.ready(
            [(which, value) for which, value in message["limits"]],
            [(paths, mode) for paths, mode in message["modes"]],
            [(paths, options) for paths, options in message["remounts"]],
            message["settings"],
        )
        return {"first": self._program.first}

    def _answer(self, what: int, value: int) -> messages.Answer:
        try:
            if what == messages.KILLED:
                return messages.Answer(True, int(self._program.killed(value)))
            if what == messages.EXPIRE:
                self._expire(value)
            if what == messages.END:
                self._program.end()
                self._stop = True
        except OSError as error:
            return messages.Answer(False, words=str(error))
        ended = self._program.status
        return messages.Answer(True, self._watch.kills, -1 if ended is None else ended)

    def _expire(self, left: int) -> None:
        """In milliseconds, -1 for never; by a clock that nobody sets (C11)."""
        self._over_at = None if left < 0 else time.monotonic() + left / 1000

    def _become_small(self) -> None:
        """Nothing has to be watched: be the supervisor's keeper, in this process's place. It
        adopts, and is ended with, as this one is. Where that cannot be this one goes on."""
        if self._supervisor < 0 or self._program.status is not None:
            return
        left = -1
        if self._over_at is not None:
            left = max(0, int((self._over_at - time.monotonic()) * 1000))
        passed = [self._control.fileno(), self._owner]
        words = [*passed, self._program.pid, left]
        spec = self._program.spec
        for descriptor in passed:
            if descriptor >= 0:
                os.set_inheritable(descriptor, True)
        argv = ["stockade-keeper", "keep", *map(str, words), *self._program.folders]
        with contextlib.suppress(OSError):
            os.execve(self._supervisor, argv, marks(spec.wall, spec.session, spec.owner))


def _set_up() -> None:
    calls.become_subreaper()
    os.umask(0o022)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _OPEN_FILES if most == resource.RLIM_INFINITY else min(_OPEN_FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        # Handled, not ignored: programs inside start with the default again.
        signal.signal(number, lambda *_: None)


def _keep(owner: socket.socket, kind: type[Program]) -> None:
    """In the keeper's process."""
    _set_up()
    received = messages.receive(owner)
    if received is None:
        return
    message, passed = received
    program = kind(KeeperSpec.from_message(message["spec"]))
    places = dict(zip(message["places"], passed, strict=True))
    supervisor = places.pop(KEEP, -1)
    try:
        started = messages.answer_with(owner, lambda: program.start(places))
        for held in places.values():
            os.close(held)
        if started:
            Keeper(owner, program, message["owner"], supervisor).serve()
    finally:
        with contextlib.suppress(OSError):
            program.end()
        os._exit(0)


def main(descriptor: int, kind: type[Program] = Program) -> None:
    """Run in the fork server's process (forked.py), with the number of its end of the messages.

    A wall whose programs are of another kind calls it from a ``main`` of its own.
    """
    serve_forks(descriptor, lambda owner: _keep(owner, kind))
