"""The one program that a keeper holds, with everything below it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Mapping, Sequence

from stockade.toolkit.local import calls, landlock, shown, tree
from stockade.toolkit.local.buffers import Buffers
from stockade.toolkit.local.cgroups import Group, group_name
from stockade.toolkit.local.spec import KeeperSpec

__all__ = ["Program"]

_END_SECONDS = 8.0
_KEPT_VICTIMS = 1000
#: Descriptors are moved past this before they are put in their places.
_ASIDE = 256


class Program:
    """Made by ``start``, fit for use after ``ready``, gone after ``end``.

    A wall that makes its sandbox itself, and has no program that does, overrides ``launch``.
    """

    def __init__(self, spec: KeeperSpec) -> None:
        self.spec = spec
        self.pid = 0  #: of the program that was started, 0 before and after
        self.first = 0  #: of the supervisor, from ``ready`` on
        self.status: int | None = None  #: the program's wait status, once it has ended
        #: Folders of the host for the sandbox (shown.prepare), from ``start`` on; ``ready`` puts
        #: those inside that ``launch`` has not taken from here.
        self.mounts: list[int] = []
        self._above = spec.depth
        name = group_name(spec.wall, spec.session)
        self._group = Group(spec.cgroups, name) if spec.cgroups else None
        self._buffers: Buffers | None = None  # where memory is watched, and the kernel lists it
        self._counter = -1  # the keeper's own count of kills for memory
        #: Of the last kills: all of the victim's execution, numbered as inside.
        self._victims: deque[frozenset[int]] = deque(maxlen=_KEPT_VICTIMS)

    # -- starting --------------------------------------------------------------

    def start(self, descriptors: Mapping[int, int]) -> None:
        """Start it with these descriptors: its numbers, and this process's. Raises OSError."""
        self._make_group()
        self._make_counter()
        self.mounts = shown.prepare(self.spec)
        self.launch(descriptors)

    def launch(self, descriptors: Mapping[int, int]) -> None:
        """Fork the program, set ``pid``, and return once it runs; its group is made and
        empty. Raises OSError with what failed."""
        if self.spec.tie is None:
            self._fork(descriptors)
            return
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                self._fork({**descriptors, self.spec.tie: theirs.fileno()})
            self._adopt(ours)

    def _fork(self, descriptors: Mapping[int, int]) -> None:
        failed, report = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._become(descriptors, report)
        os.close(report)
        with open(failed, "rb") as file:
            said = file.read().decode(errors="replace")
        if said:
            raise OSError(f"the sandbox's first program did not start: {said}")

    def _adopt(self, tie: socket.socket) -> None:
        """Have the supervisor as a child of this process's own, and end those in between; where
        they may not be ended they stay. Once it says that it waits it does not end with them,
        and before it goes on it ends with this process again (hostkeeper.c)."""
        tie.settimeout(self.spec.startup_seconds)
        if not tie.recv(1):
            return  # it has ended, which its link shows
        first, above = self._below(self.pid)
        try:
            for pid in above:
                os.kill(pid, signal.SIGKILL)
        except PermissionError:
            first = 0
        if first:
            os.waitpid(self.pid, 0)
            self.pid, self._above = first, 0
            self._limit_processes(self.spec.own_processes - len(above))
        with contextlib.suppress(OSError):
            tie.send(b"t")
            tie.recv(1)  # its end: it ends with this process now

    def _below(self, pid: int) -> tuple[int, list[int]]:
        """The supervisor, and what stands between it and this process. Raises OSError."""
        above = []
        for _ in range(self._above):
            below = tree.children(pid)
            if not below:
                raise OSError("the sandbox's first process has ended")
            above.append(pid)
            pid = below[0]
        return pid, above

    def _make_group(self) -> None:
        if self._group is None:
            return
        spec = self.spec
        self._group.make(spec.owner)
        self._group.limit(
            spec.memory_bytes if "memory" in spec.held else None,
            None,
            spec.cpu_limit if "cpu" in spec.held else None,
        )
        self._limit_processes(spec.own_processes)

    def _limit_processes(self, own: int) -> None:
        """``own``: those that are the wall's, and are not counted."""
        processes = self.spec.max_processes
        if self._group is not None and processes and "pids" in self.spec.held:
            self._group.limit(None, processes + own, None)

    @property
    def counter(self) -> str | None:
        """The file that counts kills for memory."""
        kernels = None if self._group is None else self._group.counter
        return self.spec.counter if kernels is None else kernels

    def _make_counter(self) -> None:
        path = self.spec.counter
        if path is None or "memory" in self.spec.held:
            return
        # No other file has a session's name; where one does, somebody means ill.
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._counter = os.open(path, flags, 0o644)
        self.count_kills(0, 0)

    def join(self, pid: int) -> None:
        """Put a process that was just forked into the session's group, if there is one."""
        if self._group is not None:
            self._group.join(pid)

    def _become(self, descriptors: Mapping[int, int], report: int) -> None:
        """In the fork: into the limits first, then no more rights than an ordinary user's."""
        try:
            spec = self.spec
            if self._group is not None:
                self._group.join()
            if spec.cpus and "cpu" not in spec.held:
                os.sched_setaffinity(0, spec.cpus)
            report = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, _ASIDE)
            aside = {
                place: fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _ASIDE)
                for place, descriptor in descriptors.items()
            }
            for place, descriptor in aside.items():
                os.dup2(descriptor, place)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)  # Python ignores them
            if spec.ids is not None:
                calls.take_ids(spec.ids)
            if spec.scoped:
                calls.gain_nothing()
                landlock.scope()
            os.execve(spec.argv[0], list(spec.argv), dict(spec.env))
        except BaseException as error:
            os.write(report, f"{type(error).__name__}: {error}".encode(errors="replace"))
        finally:
            os._exit(127)

    def ready(
        self,
        limits: Sequence[tuple[int, int]],
        modes: Sequence[tuple[Sequence[str], int]],
        remounts: Sequence[tuple[Sequence[str], str]],
        settings: Mapping[str, str],
    ) -> None:
        """The supervisor is up and nothing of the user's has run. Raises OSError."""
        self._forget_counter()
        pid, _ = self._below(self.pid)
        self.first = pid
        if self.spec.memory_bytes is not None and "memory" not in self.spec.held:
            with contextlib.suppress(OSError):
                self._buffers = Buffers.of(pid, self.spec.ids)
        calls.settle(pid, self.spec.ids, limits, modes, remounts, settings)
        shown.attach(pid, self.spec, self.mounts)
        self.mounts = []

    def _forget_counter(self) -> None:
        """Once it is bound it needs no name, and can't be left behind."""
        if self.spec.counter and self._counter >= 0:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.spec.counter)

    # -- in use ------------------------------------------------------------------

    def count_kills(self, kills: int, pid: int) -> None:
        """So many were ended for memory, the one included that is about to be, ``pid``."""
        if pid:
            self._victims.append(self._execution_of(pid))
        if self._counter >= 0:
            os.pwrite(self._counter, b"oom_kill %d\n" % kills, 0)

    def _execution_of(self, pid: int) -> frozenset[int]:
        """All processes of the victim's execution, numbered as inside: those below the same
        child of the supervisor, which adopts what loses its parent."""
        own = set(tree.children(self.first))
        while pid and pid not in own:
            pid = tree.parent(pid)
        below = tree.descendants(pid) if pid else []
        return frozenset(number for one in below if (number := tree.inner_pid(one)))

    def killed(self, pid: int) -> bool:
        """Whether this keeper ended a program, or another of its execution, for memory.

        ``pid``: of an execution's program, as it is numbered inside.
        """
        return any(pid in victims for victims in self._victims)

    def buffers(self) -> int | None:
        """Bytes that all its sockets hold; None if the kernel does not report it."""
        with contextlib.suppress(OSError):
            return None if self._buffers is None else self._buffers.held()
        return None

    @property
    def folders(self) -> list[str]:
        """Of its cgroup."""
        return [] if self._group is None else self._group.folders

    def processes(self) -> tuple[list[int], list[int]]:
        """All of the sandbox, the supervisor first, and which of them are the user's: not
        what is directly below the supervisor, which no program becomes, and nothing outside."""
        everything = [pid for pid in tree.descendants(os.getpid()) if pid != self.first]
        own = set(tree.children(self.first))
        inside = tree.descendants(self.first)
        return [self.first, *everything], [pid for pid in inside if pid not in own]

    @property
    def runs(self) -> bool:
        """Whether the sandbox's first program has started and not ended."""
        return self.first != 0 and self.status is None

    def reap(self) -> None:
        """Take the status of every child that has ended; called at each SIGCHLD."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self.pid:
                    self.status = status

    def end(self) -> None:
        """Kill everything and remove the cgroup; may be called again. Raises OSError."""
        self._forget_counter()
        until = time.monotonic() + _END_SECONDS
        while True:
            self.reap()
            left = [pid for pid in tree.descendants(os.getpid()) if tree.alive(pid)]
            if self._group is not None:
                with contextlib.suppress(OSError):
                    self._group.remove(0.0)  # thaws, too: what is frozen does not die
            if not left:
                break
            for pid in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > until:
                raise OSError(f"processes {left} of the sandbox do not end")
            time.sleep(0.002)
        if self._group is not None:
            self._group.remove(_END_SECONDS)
