"""The supervisor's side of a warm interpreter, for tests: on this machine or in a container.

As a program it reads one literal a line and answers each, so that the same tests drive
interpreters that are elsewhere; it imports nothing but the standard library.
"""

from __future__ import annotations

import ast
import contextlib
import fcntl
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from typing import Any, NamedTuple

READY, TAKEN, ENDED, NOWHERE, GONE = 1, 2, 3, 4, 0


class Outcome(NamedTuple):
    """One execution: what was reported of it, what its program wrote, what a named one showed."""

    said: list[tuple[int, int]]
    out: bytes
    err: bytes
    shown: bytes = b""

    @property
    def status(self) -> int:
        """An exit status, or the negative number of a signal."""
        kind, value = self.said[-1]
        assert kind == ENDED, self
        return -(value & 127) if value & 127 else value >> 8

    @property
    def pid(self) -> int:
        kind, value = self.said[0]
        assert kind == TAKEN, self
        return value


class Double:
    """A warm interpreter and the other end of its socket."""

    def __init__(
        self,
        python: str,
        boot: str,
        source: bytes,
        mode: str = "fresh",
        env: dict[str, str] | None = None,
    ) -> None:
        self.mode = mode
        ours, theirs = socket.socketpair()
        text = _file(source)
        nothing = os.open(os.devnull, os.O_RDWR)
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 50) for fd in (theirs.fileno(), text)]
        open_here = {int(name) for name in os.listdir("/proc/self/fd")}
        moves = [(nothing, 0), (nothing, 1), (nothing, 2), (high[0], 3), (high[1], 4)]
        self.pid = os.posix_spawnp(
            python,
            [python, "-c", boot, mode],
            {"PATH": os.environ["PATH"], **(env or {})},
            file_actions=[
                *((os.POSIX_SPAWN_DUP2, *move) for move in moves),
                *((os.POSIX_SPAWN_CLOSE, fd) for fd in open_here if fd > 4 and _inherited(fd)),
            ],
            setsid=True,
            setsigdef=range(1, 32),
        )
        for descriptor in (text, nothing, *high):
            os.close(descriptor)
        theirs.close()
        self.socket = ours
        self.socket.settimeout(30)
        self.ready = self.hear()

    def hear(self) -> tuple[int, int]:
        """Its next word; GONE at its end."""
        said = b""
        while len(said) < 8:
            try:
                part = self.socket.recv(8 - len(said))
            except ConnectionResetError:
                part = b""
            if not part:
                return GONE, 0
            said += part
        kind, value = struct.unpack("<II", said)
        return kind, value

    def start(
        self,
        code: bytes,
        *,
        stdin: bytes = b"",
        env: dict[str, str] | None = None,
        cwd: str = "/",
        arguments: tuple[str, ...] = ("python3", "-c", ""),
        terminal: bool = False,
    ) -> Started:
        """Hand an execution over."""
        started = Started(self, stdin, terminal, named=self.mode == "named")
        try:
            message = message_of(cwd, arguments, env or {})
            file = _once(started, _file(code))
            streams = [*started.theirs[:3], file, *started.theirs[3:-1]]
            self.send(message, streams)
        finally:
            for descriptor in started.theirs:
                os.close(descriptor)
        return started

    def send(self, message: bytes, descriptors: list[int]) -> None:
        packed = struct.pack(f"{len(descriptors)}i", *descriptors)
        extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)] if descriptors else []
        sent = self.socket.sendmsg([message], extra)
        if sent < len(message):
            self.socket.sendall(message[sent:])

    def run(self, code: str | bytes, **options: Any) -> Outcome:
        """Run one execution to its end."""
        return self.start(code.encode() if isinstance(code, str) else code, **options).end()

    def close(self) -> int:
        """Let go of it; how it ended."""
        self.socket.close()
        until = time.monotonic() + 5
        while time.monotonic() < until:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return status
            time.sleep(0.002)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError("it did not end when its socket was closed")

    def __enter__(self) -> Double:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ChildProcessError):
            self.close()


class Started:
    """An execution that was handed over, and its streams."""

    def __init__(
        self, double: Double, stdin: bytes, terminal: bool = False, named: bool = False
    ) -> None:
        self.double = double
        self.shown: int | None = None
        if terminal:
            ours, theirs = os.openpty()
            self.theirs = [theirs, os.dup(theirs), os.dup(theirs)]
            self._read: dict[int, bytes] = {ours: b"", os.dup(ours): b""}
        else:
            (read, into), (out, write_out), (err, write_err) = os.pipe(), os.pipe(), os.pipe()
            self.theirs = [read, write_out, write_err]
            self._read = {out: b"", err: b""}
            threading.Thread(target=_feed, args=(into, stdin), daemon=True).start()
        self.out, self.err = self._read
        if named:
            mine, its = (end.detach() for end in socket.socketpair())
            self.theirs.append(its)
            self._read[mine] = b""
            self.shown = mine

    def end(self) -> Outcome:
        """What it wrote until its end was said; what is left behind holds nothing up."""
        said: list[tuple[int, int]] = []
        while not said or said[-1][0] not in (ENDED, NOWHERE, GONE):
            sources: list[Any] = [self.double.socket, *self._read]
            ready = select.select(sources, [], [], 30)[0]
            assert ready, f"nothing came for 30 s, {said}"
            self._pull(ready)
            if self.double.socket in ready:
                said.append(self.double.hear())
        while self._pull(select.select(list(self._read), [], [], 0)[0]):
            pass
        mine = [fd for fd in (self.out, self.err, self.shown) if fd is not None]
        texts = [self._read.pop(fd) for fd in mine]
        for descriptor in mine:
            os.close(descriptor)
        return Outcome(said, *texts)

    def _pull(self, ready: list[Any]) -> bool:
        more = False
        for descriptor in [fd for fd in ready if isinstance(fd, int)]:
            part = b""
            with contextlib.suppress(OSError):  # of a terminal that nobody has any more
                part = os.read(descriptor, 1 << 16)
            self._read[descriptor] += part
            more = more or bool(part)
        return more


def message_of(cwd: str, arguments: tuple[str, ...], env: dict[str, str]) -> bytes:
    """The message of one, without its descriptors."""
    texts = [cwd, *arguments, *(f"{name}={value}" for name, value in env.items())]
    body = b"".join(text.encode("utf-8", "surrogateescape") + b"\0" for text in texts)
    return struct.pack("<III", len(body), len(arguments), len(env)) + body


def _file(data: bytes) -> int:
    descriptor = os.memfd_create("text")
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _inherited(descriptor: int) -> bool:
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False


def _once(started: Started, descriptor: int) -> int:
    started.theirs.append(descriptor)
    return descriptor


def _feed(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    with contextlib.suppress(BrokenPipeError):
        while view:
            view = view[os.write(descriptor, view) :]
    os.close(descriptor)


def main() -> None:
    """Serve the tests: the first line is what to start, each further one an execution."""
    double = Double(**ast.literal_eval(sys.stdin.readline()))
    for line in sys.stdin:
        print(repr(tuple(double.run(**ast.literal_eval(line)))), flush=True)
    double.close()


if __name__ == "__main__":
    main()
