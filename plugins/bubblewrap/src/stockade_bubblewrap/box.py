"""The sandbox as its keeper holds it: bwrap's process and what is below it."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import time
from collections import deque
from typing import Any

from stockade.toolkit.local import tree
from stockade.toolkit.local.cgroups import Group
from stockade_bubblewrap import enter

__all__ = ["Box"]

_END_SECONDS = 8.0
#: An order to end a lane's programs is repeated, and others wait for the keeper meanwhile.
_LANE_END_SECONDS = 0.3
_KEPT_VICTIMS = 1000
#: bwrap's two processes and the supervisor's four; the limit is the program's beside them.
_OWN_PROCESSES = 6


class Box:
    """Made by ``start``, fit for use after ``settle``, gone after ``end``."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        #: The controllers that a cgroup holds the session by; the other limits are watched.
        self.held = frozenset(order["cgroups"])
        self.status: int | None = None  # bwrap's wait status, once it has ended
        self.init = 0  # the sandbox's first process, as the host numbers it
        self._ids = (order["uid"], order["gid"]) if os.geteuid() == 0 else None
        self._group = Group(order["cgroups"], order["name"]) if order["cgroups"] else None
        self._filter = bytes.fromhex(order["filter"])
        self._bwrap: subprocess.Popen[bytes] | None = None
        self._told = -1  # what bwrap tells of the sandbox
        self._inside = -1  # a pidfd of lane 0's shell
        self._shells: dict[int, int] = {}  # the lanes' own processes, and the lanes' numbers
        #: Of the last kills for memory that were this keeper's: the count, and the lane.
        self._victims: deque[tuple[int, int]] = deque(maxlen=_KEPT_VICTIMS)
        self._kills = -1  # this keeper's own count of kills for memory
        self._kills_path = ""

    # -- starting --------------------------------------------------------------

    def start(self) -> list[int]:
        """Start bwrap; the owner's ends of lane 0's pipes. Raises OSError."""
        self._make_group()
        passed: list[int] = []
        self._told, tell = os.pipe()
        passed.append(tell)
        arguments = [
            word for given in self.order["arguments"] for word in self._word(given, passed)
        ]
        arguments += ["--seccomp", str(_memory_file(self._filter, passed))]
        arguments += ["--json-status-fd", str(tell)]
        # Not on the command line: the sandbox's first process shows it inside (E7).
        listed = "".join(word + "\0" for word in arguments).encode("utf-8", "surrogateescape")
        command = [self.order["bwrap"], "--args", str(_memory_file(listed, passed)), "--"]
        ours, theirs = self._pipes()
        try:
            self._bwrap = subprocess.Popen(
                [*command, *self.order["shell"]],
                stdin=theirs[0], stdout=theirs[1], stderr=theirs[2],
                env=self.order["env"], cwd="/", pass_fds=passed,
                preexec_fn=self._prepare,  # noqa: PLW1509 - the keeper has one thread
            )  # fmt: skip
        finally:
            for descriptor in (*theirs, *passed):
                os.close(descriptor)
        return ours

    def _make_group(self) -> None:
        if self._group is None:
            return
        self._group.make(self.order["owner_mark"])
        order = self.order
        processes = order["max_processes"]
        self._group.limit(
            order["memory_bytes"] if "memory" in self.held else None,
            processes + _OWN_PROCESSES if processes and "pids" in self.held else None,
            order["cpu_limit"] if "cpu" in self.held else None,
        )

    def _prepare(self) -> None:
        """In the fork: into the limits first, then no more rights than an ordinary user's."""
        self._take_limits()
        if self._ids is not None:
            enter.take_ids(self._ids)

    def _take_limits(self) -> None:
        if self._group is not None:
            self._group.join()
        if self.order["cpus"] and "cpu" not in self.held:
            os.sched_setaffinity(0, self.order["cpus"])

    def _word(self, given: Any, passed: list[int]) -> list[str]:
        """bwrap's arguments, as they are or as what stands for them: a text that it copies
        into a file, or the file that counts kills for memory and the place to show it."""
        if isinstance(given, str):
            return [given]
        if "text" in given:
            return [str(_memory_file(given["text"].encode(), passed))]
        return ["--ro-bind", self._counter(), given["counter"]]

    def _counter(self) -> str:
        """The kernel's counter, or one of this keeper's own; inside they look alike."""
        if self._group is not None and self._group.counter is not None:
            return self._group.counter
        # No other file has a session's name; where one does, somebody means ill.
        self._kills_path = self.order["counter"]
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._kills = os.open(self._kills_path, flags, 0o644)
        self._show_kills(0)
        return self._kills_path

    def count_kills(self, kills: int, pid: int) -> None:
        """One more is about to be ended for memory."""
        while pid and pid not in self._shells:
            pid = tree.parent(pid)
        self._victims.append((kills, self._shells.get(pid, -1)))
        self._show_kills(kills)

    def killed(self, lane: int, after: int) -> bool:
        """Whether a program of a lane was ended for memory, later than the count says."""
        return any(count > after and of == lane for count, of in self._victims)

    def _show_kills(self, kills: int) -> None:
        if self._kills >= 0:
            os.pwrite(self._kills, b"oom_kill %d\n" % kills, 0)

    def _forget_path(self) -> None:
        """Once it is bound it needs no name, and can't be left behind."""
        if self._kills_path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._kills_path)

    def _pipes(self) -> tuple[list[int], list[int]]:
        """The owner's ends of three pipes, and the sandbox's."""
        pipes = [os.pipe() for _ in range(3)]
        if self._ids is not None:
            for end, _ in pipes:  # both ends are one file; `>/dev/stderr` opens it anew
                os.fchown(end, *self._ids)
        (stdin, feed), (stdout, out), (stderr, err) = pipes
        return [feed, stdout, stderr], [stdin, out, err]

    def settle(self) -> None:
        """The supervisor is up and nothing of the user's has run: do what bwrap cannot."""
        self._forget_path()
        self.init = self._first_process()
        shell = tree.children(self.init)[0]
        self._inside = os.pidfd_open(shell)
        enter.limit([self.init, shell, *tree.children(shell)], self._ids, self._limits())
        folders = self.order["folders"]
        if folders is not None:
            # The number of files costs the kernel's memory, and bwrap does not bound it.
            options = f"size={folders['bytes']},nr_inodes={folders['files']}"
            enter.remount(shell, self._ids, folders["paths"], options)
        self._shells = {shell: 0}

    def _first_process(self) -> int:
        os.set_blocking(self._told, False)
        for line in os.read(self._told, 65536).splitlines():
            with contextlib.suppress(ValueError):
                pid = json.loads(line).get("child-pid")
                if pid is not None:
                    return int(pid)
        raise OSError("bwrap did not tell the sandbox's first process")

    def _limits(self) -> list[tuple[int, int]]:
        """The process limit where no cgroup holds it: the kernel counts by user and user
        namespace, and each sandbox has one of its own, in which bwrap's outer part is not."""
        processes = self.order["max_processes"]
        if processes is None or "pids" in self.held:
            return []
        return [(resource.RLIMIT_NPROC, processes + _OWN_PROCESSES - 1)]

    # -- in use ------------------------------------------------------------------

    def spawn(self, argv: list[str], lane: int) -> tuple[int, list[int]]:
        """One more process inside: its id on the host, and the owner's ends of its pipes."""
        program = enter.Program(
            argv,
            self.order["env"],
            self._filter,
            ids=self._ids,
            limits=self._limits(),
            folder=self.order["working_dir"],
        )
        ours, theirs = self._pipes()
        try:
            pid = enter.spawn(self._inside, program, theirs, self._take_limits)
        except BaseException:
            for descriptor in ours:
                os.close(descriptor)
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        self._shells[pid] = lane
        return pid, ours

    def kills(self) -> int:
        """How many programs the kernel ended for their memory."""
        if self._group is None or self._group.counter is None:
            return 0
        with contextlib.suppress(OSError), open(self._group.counter) as file:
            words = [line.split() for line in file]
            return sum(int(word[1]) for word in words if word[0] == "oom_kill")
        return 0

    def freeze(self, yes: bool) -> None:
        """Raises OSError where no cgroup can."""
        if self._group is None or "freezer" not in self.held:
            raise OSError("there is no cgroup that freezes")
        self._group.freeze(yes)

    def processes(self) -> tuple[list[int], list[int]]:
        """All of the sandbox, and which of them are programs."""
        everything = tree.descendants(os.getpid())
        own = 0 if self._bwrap is None else self._bwrap.pid
        running = tree.programs(everything, self.init, set(self._shells))
        return everything, [pid for pid in running if pid != own]

    def programs_of(self, lane: int) -> list[int]:
        """The living programs of a lane, what they left behind included."""
        return tree.marked(self.processes()[1], lane)

    def end_programs(self, lane: int) -> None:
        """End them all (D6). Stopped first: what is stopped cannot fork away."""
        until = time.monotonic() + _LANE_END_SECONDS
        everywhere = os.sched_getaffinity(0)
        while (left := self.programs_of(lane)) and time.monotonic() < until:
            for pid in left:
                with contextlib.suppress(OSError):
                    # Dying takes a turn on a cpu; those that it may use can be busy ones.
                    os.sched_setaffinity(pid, everywhere)
            for number in (signal.SIGSTOP, signal.SIGKILL):
                for pid in left:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, number)
            time.sleep(0.001)

    @property
    def settled(self) -> bool:
        return bool(self._shells) and self.status is None

    def reap(self) -> None:
        """Lanes that ended, and bwrap itself."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                self._shells.pop(pid, None)
                if self._bwrap is not None and pid == self._bwrap.pid:
                    self.status = status

    def end(self) -> None:
        """Kill everything and remove the cgroup; may be called again. Raises OSError."""
        self._forget_path()
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


def _memory_file(data: bytes, passed: list[int]) -> int:
    """A file of no folder that holds ``data``, among those that bwrap is passed."""
    descriptor = os.memfd_create("stockade")
    passed.append(descriptor)
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
