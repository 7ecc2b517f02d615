"""The keeper: one process a session, between the owner and the sandboxed programs.

It runs with no privileges and ends with its owner: when the link closes, for
whatever reason, SIGKILL of the owner included, everything below it is killed
(D6, C9). As a subreaper it sees every process of the session, so memory, cpu and
disk are watched over the whole of it. Sandlock's own supervisor runs in here.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
from typing import Any

from sandlock import Sandbox
from sandlock._sdk import ExitReason
from sandlock.sandbox import Process, StdioMode

from stockade_landlock import confine, tree, wire
from stockade_landlock.watch import Watcher
from stockade_landlock.wire import MARKS

__all__ = ["main"]

_SIGKILL = 9
_RETRY_SECONDS = (0.01, 0.1)
#: Its own deadline comes this much after the owner's.
_EXPIRY_GRACE_SECONDS = 2.0
#: Beside sandlock's own list: memory that is a file of nobody's, system calls that no
#: filter sees, what holds the cpu limit, keys shared among all processes of a user, and
#: reaching into other processes of the session.
_DENIED = (
    "memfd_create",
    "memfd_secret",
    "io_uring_setup",
    "sched_setaffinity",
    "add_key",
    "request_key",
    "keyctl",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
)


class _Execution:
    """One running sandbox of this session."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.pid = process.pid or -1
        self.out_of_memory = False

    def kill(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            self.process.kill()


class Keeper:
    """Serves the owner's link until it closes."""

    def __init__(self, link: socket.socket, order: dict[str, Any]) -> None:
        self._link = link
        self._order = order
        self._sending = threading.Lock()
        self._starting = threading.Lock()  # no start while leftovers are looked for
        self._running: dict[int, _Execution] = {}
        self._doomed: set[int] = set()  # killed before they were started
        self._lock = threading.Lock()
        self._expiry: threading.Timer | None = None
        self._base = confine.prepare(order)
        self._watcher = Watcher(order, out_of_memory=self._out_of_memory)
        # The name is the host name inside. Sandlock keeps a folder by it in /dev/shm (private
        # like /tmp) and removes it a little after the end, so no name is used twice.
        self._names = (f"sandbox-{number}" for number in itertools.count(1))

    # -- the link ------------------------------------------------------------

    def serve(self) -> None:
        self._send({"op": "ready", "pid": os.getpid()})
        while (received := wire.receive(self._link)) is not None:
            message = received[0]
            if message["op"] == "start":
                threading.Thread(target=self._execute, args=(message,), daemon=True).start()
            elif message["op"] == "kill":
                self._kill(message["id"])
            elif message["op"] == "expire":
                self.expire_at(message["at"])

    def expire_at(self, when: float | None) -> None:
        """C11: it holds inside too, when nothing outside is left alive."""
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = None
        if when is not None:
            left = max(0.0, when - time.time()) + _EXPIRY_GRACE_SECONDS
            self._expiry = threading.Timer(left, _expire, (self,))
            self._expiry.daemon = True
            self._expiry.start()

    def _send(self, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
        with self._sending, contextlib.suppress(OSError):
            wire.send(self._link, message, descriptors)

    def _kill(self, number: int) -> None:
        with self._lock:
            execution = self._running.get(number)
            if execution is None:
                self._doomed.add(number)
                return
        execution.kill()

    # -- one execution -------------------------------------------------------

    def _execute(self, message: dict[str, Any]) -> None:
        number = message["id"]
        try:
            execution = self._spawn(message)
        except Exception as error:
            detail = f"{type(error).__name__}: {error}"
            self._send({"op": "failed", "id": number, "detail": detail})
            return
        with self._lock:
            self._running[number] = execution
            doomed = number in self._doomed
            self._doomed.discard(number)
        if doomed:
            execution.kill()
        self._hand_over(number, execution.process)
        answer = self._wait(execution)
        self._watcher.end()
        with self._lock:
            self._running.pop(number, None)
            self._doomed.discard(number)
        self._sweep()
        self._send({"op": "exit", "id": number, **answer})

    def _spawn(self, message: dict[str, Any]) -> _Execution:
        for pause in _RETRY_SECONDS:
            try:
                return self._try_spawn(message)
            except RuntimeError:
                # Under load sandlock's start can fail before the program runs, which makes it
                # safe to repeat.
                time.sleep(pause)
        return self._try_spawn(message)

    def _try_spawn(self, message: dict[str, Any]) -> _Execution:
        piped = StdioMode.PIPED
        sandbox = self._sandbox(message["env"])
        with self._starting:
            self._watcher.begin()
            try:
                execution = _Execution(sandbox.popen(message["argv"], piped, piped, piped))
            except BaseException:
                self._watcher.end()
                raise
            tree.owned.add(execution.pid)
        return execution

    def _hand_over(self, number: int, process: Process) -> None:
        """Give the owner this side's ends of the pipes: no byte passes through here."""
        streams = (process.stdin, process.stdout, process.stderr)
        self._send({"op": "started", "id": number}, tuple(file.fileno() for file in streams))
        for file in streams:
            file.close()

    def _sweep(self) -> None:
        """A second look at what sandlock ended, when nothing runs.

        All that is left below the keeper then can only be a leftover.
        """
        with self._starting:
            with self._lock:
                idle = not self._running and not tree.owned
            if idle:
                tree.end_all(os.getpid(), 1.0)

    def _sandbox(self, env: dict[str, str]) -> Sandbox:
        order = self._order
        return Sandbox(
            name=next(self._names),
            chroot=order["root"],
            fs_mount={
                order["working_dir"]: f"{self._base}/work",
                "/tmp": f"{self._base}/tmp",
            },
            fs_readable=order["readable"],
            fs_writable=[order["working_dir"], "/tmp", *order["devices"]],
            extra_deny_syscalls=_DENIED,
            max_processes=order["max_processes"],
            no_coredump=False,
            env=env,
        )

    def _wait(self, execution: _Execution) -> dict[str, Any]:
        result = execution.process.wait()
        tree.owned.discard(execution.pid)
        if execution.out_of_memory:
            return {"signal": _SIGKILL, "oom": True}
        if result.reason is ExitReason.EXITED:
            return {"code": result.exit_code & 0xFF}
        if result.reason is ExitReason.SIGNALED and result.signal > 0:
            return {"signal": result.signal}
        # Sandlock does not tell SIGKILL's number; nothing else looks like this.
        return {"signal": _SIGKILL}

    def _out_of_memory(self) -> None:
        """The session is past its memory: end the execution that uses most of it (E5)."""
        with self._lock:
            running = list(self._running.values())
        sizes = [
            (tree.memory_bytes([e.pid, *tree.descendants(e.pid)], 0), index)
            for index, e in enumerate(running)
        ]
        if not sizes:
            return
        victim = running[max(sizes)[1]]
        victim.out_of_memory = True
        victim.kill()

    # -- the end -------------------------------------------------------------

    def close(self) -> None:
        with self._lock:
            running = list(self._running.values())
        for execution in running:
            execution.kill()
        tree.end_all(os.getpid(), 5.0)


def _expire(keeper: Keeper) -> None:
    keeper.close()
    os._exit(0)


def _guarded(link: socket.socket) -> None:
    """Go on as the keeper in a child; this process stays behind as its warden.

    The warden does nothing but wait. It is a subreaper too, so if the keeper dies by
    any means, what was below it falls to the warden, which kills it and ends.
    """
    confine.become_subreaper()
    keeper = os.fork()
    if keeper == 0:
        return
    link.close()
    os.waitpid(keeper, 0)
    tree.end_all(os.getpid(), 5.0)
    os._exit(0)


def main(descriptor: int) -> None:
    """Run by the owner (session.py), which passes its end of the link."""
    link = socket.socket(fileno=descriptor)
    link.set_inheritable(False)
    for name in MARKS:  # they stay where gc looks, and reach no program (E7)
        os.environ.pop(name, None)
    _guarded(link)
    received = wire.receive(link)
    if received is None:
        return
    order = received[0]
    try:
        keeper = Keeper(link, order)
    except Exception as error:
        with contextlib.suppress(OSError):
            wire.send(link, {"op": "broken", "detail": f"{type(error).__name__}: {error}"})
        return
    keeper.expire_at(order["expires_at"])
    try:
        keeper.serve()
    finally:
        keeper.close()
        os._exit(0)  # sandlock's threads need no goodbye
