"""One microVM as the session sees it: a child process that runs what a socket brings."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from stockade.results import Stream
from stockade.wall import Exit, Output
from stockade_hyperlight import wire

__all__ = ["Machine", "MachineError"]

_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from stockade_hyperlight.child import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)
_ENV = {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": "/nonexistent"}


class MachineError(Exception):
    """The machine could not be made, or is gone."""


class Machine:
    """Used by one execution at a time; ``kill`` may come from any thread."""

    def __init__(self, spec: dict[str, Any]) -> None:
        """Start making it; ``ready`` waits. Raises MachineError."""
        self.folder: str = spec["output"]
        self.busy = True  # an execution's, or on the way to one
        self._connection, theirs = socket.socketpair()
        self._lifeline, end = socket.socketpair()
        self._ready = False
        self._killing = threading.Lock()
        try:
            with theirs, end:
                self._process = subprocess.Popen(
                    [
                        sys.executable,
                        "-c",
                        _START,
                        json.dumps([p for p in sys.path if p]),
                        str(theirs.fileno()),
                        str(end.fileno()),
                    ],
                    env=_ENV,
                    pass_fds=(theirs.fileno(), end.fileno()),
                    start_new_session=True,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
        except OSError as error:
            self._connection.close()
            self._lifeline.close()
            raise MachineError(f"no process for it could be started: {error}") from error
        try:
            wire.send_json(self._connection, b"m", spec)
        except OSError as error:
            self.kill()
            raise MachineError("its process ended at once") from error

    def ready(self, seconds: float | None = None) -> None:
        """Wait until it can run code. Raises MachineError, TimeoutError."""
        if self._ready:
            return
        try:
            self._connection.settimeout(seconds)
            kind, payload = wire.receive(self._connection)
            self._connection.settimeout(None)
        except (OSError, EOFError) as error:
            code = self._process.poll()
            raise MachineError(f"its process ended (code {code})") from error
        if kind != b"h":
            raise MachineError(payload.decode("utf-8", "replace"))
        self._ready = True

    def run(
        self, code: str, stdin: bytes, output: Output, tool: Callable[[Any, Any], dict[str, Any]]
    ) -> Exit:
        """Run code to its end. Raises MachineError when the machine is gone."""
        self._ready = False
        at = 0
        try:
            wire.send(self._connection, b"r", code.encode("utf-8", "surrogatepass"))
            while True:
                kind, payload = wire.receive(self._connection)
                if kind in (b"o", b"e"):
                    output.write(Stream.STDOUT if kind == b"o" else Stream.STDERR, payload)
                elif kind == b"i":
                    piece = stdin[at : at + int(payload)]
                    at += len(piece)
                    wire.send(self._connection, b"i", piece)
                elif kind == b"t":
                    asked = json.loads(payload)
                    answer = tool(asked["name"], asked["arguments"])
                    wire.send_json(self._connection, b"t", answer)
                elif kind == b"x":
                    return _exit(json.loads(payload))
                else:
                    raise EOFError(f"its message is of kind {kind!r}, not one of o, e, i, t, x")
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            self.kill()
            raise MachineError(f"its process is gone ({error})") from error

    def go_on(self) -> None:
        """The execution's files are taken: it may make itself fit for the next."""
        with contextlib.suppress(OSError):
            wire.send(self._connection, b"c")

    def kill(self) -> None:
        """End it, at once; may be called again."""
        with self._killing:
            if self._process.poll() is None:
                self._process.kill()
                try:
                    self._process.wait(10)
                except subprocess.TimeoutExpired:
                    return  # stuck in the kernel; it gets no further there
            for end in (self._connection, self._lifeline):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)  # wakes whoever waits for it

    def close(self) -> None:
        """``kill``, and give the descriptors back; nobody uses it any more."""
        self.kill()
        self._connection.close()
        self._lifeline.close()

    def stop(self, *, resume: bool = False) -> None:
        """Freeze it, or let it go on."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT if resume else signal.SIGSTOP)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None


def _exit(ended: dict[str, Any]) -> Exit:
    if ended.get("memory"):
        return Exit(signal=int(signal.SIGKILL), out_of_memory=True)
    if "signal" in ended:
        return Exit(signal=int(ended["signal"]))
    return Exit(code=int(ended["code"]))
