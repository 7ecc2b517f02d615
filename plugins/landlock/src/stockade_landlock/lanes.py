"""The session's process tree: one sandbox, in which supervisors are started as lanes.

Everything in it descends from one program that sandlock starts; its limits are the
session's. Which lane a process belongs to is told by a hard limit that each
lane's programs start with (see supervisor.sh in stockade.resident), from outside.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import threading
import time
from typing import Any

from sandlock import Sandbox
from sandlock.sandbox import Process as Sandboxed
from sandlock.sandbox import StdioMode

from stockade_landlock import tree

__all__ = ["LaneError", "Lanes"]

#: What the tree has beside programs: its root with two shells, and lane 0 with three more.
_OWN_PROCESSES = 7
#: Marks are this far below the limit that the supervisors have, in KiB; see supervisor.sh.
_MOST_LANES = 999
_MOST_FILES = 4096
_UNLIMITED_KIB = 1 << 40
_STREAMS = (StdioMode.PIPED, StdioMode.PIPED, StdioMode.NULL)
_START_SECONDS = 20.0
_END_SECONDS = 5.0
_RETRY_SECONDS = (0.01, 0.1)
#: Beside sandlock's own list: memory that is a file of nobody's, device nodes and fifos
#: (the keeper makes some, so its own filter leaves them), system calls that no filter
#: sees, what holds the cpu limit, keys shared among all processes of a user, and reaching
#: into other processes of the session.
_DENIED = (
    "memfd_create",
    "memfd_secret",
    "mknodat",
    "io_uring_setup",
    "sched_setaffinity",
    "add_key",
    "request_key",
    "keyctl",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    *(("mknod",) if os.uname().machine == "x86_64" else ()),
)


class LaneError(Exception):
    """A lane cannot be started; the message reaches the owner."""


class Lanes:
    """Made once a session; its methods may be called from any thread."""

    def __init__(self, order: dict[str, Any], base: str) -> None:
        """``base`` holds ``work`` and ``tmp``. Raises RuntimeError when nothing starts."""
        self._folders = {f"{base}/tmp": "/tmp", f"{base}/work": order["working_dir"]}
        hard = tree.hard_limit(os.getpid()) / 1024
        self._top = _UNLIMITED_KIB if hard > _UNLIMITED_KIB else int(hard) - 1
        self._mains: dict[int, int] = {}  # each lane's first process, by its id
        self._known: dict[int, int | None] = {}  # the lane that a program was last seen in
        self._killed: dict[int, int] = {}  # how often the memory limit ended a lane's programs
        self._opening = threading.Lock()
        self._locks: dict[int | None, threading.Lock] = {}
        self._announced: list[int] = []  # lanes whose programs are to end
        self._changed = threading.Condition()
        self._said = b""
        self._root = self._start(order)
        self._owned: tuple[int, ...] = (self._root.pid or 0,)
        # Sandlock closes its own while it waits.
        self._orders = os.dup(self._root.stdin.fileno())
        self._answers = os.dup(self._root.stdout.fileno())

    def _start(self, order: dict[str, Any]) -> Sandboxed:
        argv = ["/bin/sh", "-c", order["first"], "sh", *order["scripts"]]
        for pause in _RETRY_SECONDS:
            try:
                return self._sandbox(order).popen(argv, *_STREAMS)
            except RuntimeError:
                # Under load sandlock's start can fail before the program runs, which makes
                # it safe to repeat.
                time.sleep(pause)
        return self._sandbox(order).popen(argv, *_STREAMS)

    def _sandbox(self, order: dict[str, Any]) -> Sandbox:
        most = order["max_processes"]
        return Sandbox(
            name="sandbox",  # the host name inside
            chroot=order["root"],
            fs_mount={inside: folder for folder, inside in self._folders.items()},
            fs_readable=order["readable"],
            fs_writable=[*self._folders.values(), *order["devices"]],
            extra_deny_syscalls=_DENIED,
            max_processes=None if most is None else most + _OWN_PROCESSES,
            max_open_files=_MOST_FILES,
            no_coredump=False,
            env=order["env"],
        )

    def wait(self) -> None:
        """Until the tree's root has ended, and with it what runs in it."""
        self._root.wait()
        self._owned = ()

    # -- starting --------------------------------------------------------------

    def open(self, number: int) -> list[int]:
        """Start a supervisor as lane ``number``: this side's ends of its three streams.

        Raises LaneError.
        """
        name = f".stockade-{number}-{secrets.token_hex(8)}"
        with self._opening:
            for folder, inside in self._folders.items():
                try:
                    pipes = _Pipes(f"{folder}/{name}")
                except OSError:
                    continue  # it is full; the other may not be
                with pipes:
                    main = self._ask(number, f"{inside}/{name}")
                    self._mains[main] = number
                    return pipes.take()
        raise LaneError("the session's folders are so full that no pipe can be made")

    def _ask(self, number: int, at: str) -> int:
        """Have the spawner start a lane on these pipes; the process that it is."""
        try:
            os.write(self._orders, f"{number} {at}\n".encode())
        except OSError as error:
            raise LaneError(f"the session's first program has ended: {error}") from error
        until = time.monotonic() + _START_SECONDS
        while True:
            word, _, rest = self._line(until).partition(" ")
            which, _, pid = rest.partition(" ")
            if which == at:  # else a late answer to one that was given up
                if word == "up" and pid.isdigit():
                    return int(pid)
                raise LaneError("no process for it; the process limit may be reached")

    def _line(self, until: float) -> str:
        poll = select.poll()
        poll.register(self._answers, select.POLLIN)
        while b"\n" not in self._said:
            ready = poll.poll(max(0.0, until - time.monotonic()) * 1000)
            data = os.read(self._answers, 4096) if ready else b""
            if not data or len(self._said) > 65536:
                raise LaneError("the session's first program has ended, or does not answer")
            self._said += data
        line, _, self._said = self._said.partition(b"\n")
        return line.decode("ascii", "replace")

    # -- looking ---------------------------------------------------------------

    def programs(self) -> dict[int | None, list[int]]:
        """Programs by lane; by None those that may be any lane's.

        The supervisors' limit is whole, a lane's mark a little below it; its zygote is
        marked too, but a child of the lane's first process, which programs never are. A
        program that lowered its limit further is told by what it was before, or by its
        parent; only one that did so and left its parent within a moment is nobody's.
        """
        found: dict[int | None, list[int]] = {}
        known: dict[int, int | None] = {}
        mains = dict(self._mains)
        waiting = self._frontier(mains)
        while waiting:
            pid, lane = waiting.pop()
            below = self._top - tree.hard_limit(pid) / 1024
            if below >= 0:
                lane = int(below) if below < _MOST_LANES else self._known.get(pid, lane)
                known[pid] = lane
                found.setdefault(lane, []).append(pid)
            # What is not marked has one thread: a shell, or a helper of one.
            for child in tree.children(pid, threads=below >= 0):
                if child not in mains:
                    waiting.append((child, lane))
        self._known = known
        return found

    def _frontier(self, mains: dict[int, int]) -> list[tuple[int, int | None]]:
        """Where programs begin, with the lane: below the supervisors, and orphans."""
        orphans = tree.children(os.getpid(), threads=False)
        waiting: list[tuple[int, int | None]] = [
            (pid, None) for pid in orphans if pid not in mains and pid not in self._owned
        ]
        for main, lane in mains.items():
            members = tree.children(main, threads=False)
            if not members and tree.dead(main):
                self._mains.pop(main, None)
            for member in members:
                waiting += [(pid, lane) for pid in tree.children(member, threads=False)]
        return waiting

    def ending(self, number: int) -> bool:
        """Whether ``left`` would have to wait."""
        return number in self._announced

    def left(self, number: int) -> tuple[int, int]:
        """How many programs of a lane live, and how often its memory was too much.

        Waits for an end of programs that is under way.
        """
        with self._changed:
            self._changed.wait_for(lambda: number not in self._announced, 2 * _END_SECONDS)
        with self._lock_of(number):
            self.reap()
            found = self.programs().get(number, [])
            return sum(not tree.dead(pid) for pid in found), self._killed.get(number, 0)

    def reap(self) -> None:
        tree.reap(self._owned)

    # -- ending ----------------------------------------------------------------

    def announce(self, number: int) -> None:
        """An end of the lane's programs is ordered; ``end_announced`` follows. Whoever looks
        from now on waits for it, so that it can't reach the lane's next program."""
        with self._changed:
            self._announced.append(number)

    def end_announced(self, number: int) -> None:
        """End all programs of a lane and none of another's (D6)."""
        try:
            with self._lock_of(number):
                tree.end(lambda: self._targets(number), _END_SECONDS)
        finally:
            with self._changed:
                self._announced.remove(number)
                self._changed.notify_all()

    def end_for_memory(self, number: int | None, seen: list[int]) -> None:
        """End a lane's programs, or what is nobody's, and count it for the verdict (E5);
        nothing where all that were ``seen`` have ended by themselves."""
        with self._lock_of(number):
            if set(seen).isdisjoint(self._targets(number)):
                return
            if number is not None:
                self._killed[number] = self._killed.get(number, 0) + 1
            tree.end(lambda: self._targets(number), _END_SECONDS)

    def _targets(self, number: int | None) -> list[int]:
        self.reap()
        found = self.programs()
        return found.get(number, []) + (found.get(None, []) if number is not None else [])

    def _lock_of(self, number: int | None) -> threading.Lock:
        return self._locks.setdefault(number, threading.Lock())

    def end_all(self) -> None:
        """End everything below this process."""
        tree.end(lambda: tree.descendants(os.getpid()), _END_SECONDS)
        self.reap()


class _Pipes:
    """A lane's fifos: three for its streams, of which this side opens its ends first,
    and three for the supervisor's own use. They have names only while it starts."""

    def __init__(self, path: str) -> None:
        self._names = [f"{path}.{end}" for end in "ioegdm"]
        self._ours: list[int] = []
        self._spare: list[int] = []
        try:
            for name in self._names:
                os.mkfifo(name, 0o600)
            stdin, *outputs = self._names[:3]
            # So that whoever opens them inside waits for nobody.
            self._spare.append(os.open(stdin, os.O_RDWR | os.O_CLOEXEC))
            self._ours.append(os.open(stdin, os.O_WRONLY | os.O_CLOEXEC))
            for name in outputs:
                flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
                self._ours.append(os.open(name, flags))
        except OSError:
            self.__exit__()
            raise

    def __enter__(self) -> _Pipes:
        return self

    def take(self) -> list[int]:
        """The ends of this side, now the caller's."""
        ours, self._ours = self._ours, []
        return ours

    def __exit__(self, *_: object) -> None:
        # The names first: nobody is to open one that nobody has open at its other end.
        for name in self._names:
            with contextlib.suppress(OSError):
                os.unlink(name)
        for descriptor in (*self._spare, *self._ours):
            os.close(descriptor)
