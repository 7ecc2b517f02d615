"""The owner's side of a session: the keeper process, and the executions in it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import subprocess
import sys
import threading
from typing import Any

from stockade.errors import SandboxLostError, SandboxStartError, WorkingDirectoryError
from stockade.lower import lower
from stockade.pump import Waker, pump
from stockade.wall import ExecRequest, Exit, Form, Output, Running, Sandbox
from stockade_landlock import leftovers, wire

__all__ = ["LandlockSandbox"]

_CLOSE_SECONDS = 10.0
#: What the wrapper exits with when it cannot enter the working folder; a program
#: that ends so by itself is told apart by a second look.
_NO_FOLDER = 251
#: Enter the folder, then become the program: sh gives 127 and 126 as everywhere (D2).
#: Landlock answers "permission denied" for a path that is not there, so that is asked first.
_ENTER = f"""cd -- "$1" 2>/dev/null || exit {_NO_FOLDER}
shift
case $1 in */*) [ -e "$1" ] || {{ echo "sh: $1: not found" >&2; exit 127; }};; esac
exec "$@"
"""

_KEEPER = (
    "import sys; sys.path[:0] = {paths!r}; from stockade_landlock.keeper import main; main({link})"
)


def _import_paths() -> list[str]:
    """Where the keeper finds its modules: it is started without site-packages."""
    paths = []
    for name in ("stockade_landlock", "sandlock"):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise SandboxStartError(f"module {name} is gone; pip install stockade-landlock")
        folder = os.path.dirname(os.path.dirname(spec.origin))
        if folder not in paths:
            paths.append(folder)
    return paths


class LandlockSandbox(Sandbox):
    """A session: its folders live as long as its keeper."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self._lock = threading.Lock()
        self._next = 0
        self._running: dict[int, _LandlockRunning] = {}
        self._lost: str | None = None
        self._start_keeper()

    def _start_keeper(self) -> None:
        order = self._order
        self._link, theirs = socket.socketpair()
        with theirs:
            code = _KEEPER.format(paths=_import_paths(), link=theirs.fileno())
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={
                    "PATH": "/usr/bin:/bin",
                    "LANG": "C.UTF-8",
                    # What gc finds it by; it is nothing that programs inside see.
                    leftovers.SESSION: order["session"],
                    leftovers.OWNER: order["owner"],
                },
                cwd="/",
                start_new_session=True,
                pass_fds=(theirs.fileno(),),
            )
        try:
            self._link.settimeout(order["startup_seconds"])
            wire.send(self._link, order)
            answer = wire.receive(self._link)
            self._link.settimeout(None)
        except OSError as error:
            answer = ({"op": "broken", "detail": str(error)}, [])
        if answer is None or answer[0]["op"] != "ready":
            detail = answer[0].get("detail", "") if answer else "it ended at once"
            self._end_keeper()
            raise SandboxStartError(
                f"the landlock keeper did not start: {detail}; see `stockade doctor landlock`."
            )
        self.keeper_pid: int = answer[0]["pid"]
        threading.Thread(target=self._listen, daemon=True, name="stockade-landlock").start()

    # -- the link ------------------------------------------------------------

    def _listen(self) -> None:
        """Hand the keeper's answers to whom they belong; its end loses the session (D14)."""
        while (received := wire.receive(self._link)) is not None:
            message, descriptors = received
            with self._lock:
                running = self._running.get(message["id"])
                if message["op"] != "started":
                    self._running.pop(message["id"], None)
            if running is None:
                for descriptor in descriptors:
                    os.close(descriptor)
            elif message["op"] == "started":
                running.began(descriptors)
            else:
                running.ended(message)
        with self._lock:
            self._lost = "the landlock keeper has ended"
            running_now, self._running = list(self._running.values()), {}
        for running in running_now:
            running.ended({"op": "lost", "detail": self._lost})

    def send(self, message: dict[str, Any]) -> None:
        """Raises SandboxLostError when the keeper is gone."""
        with self._lock:
            self._send(message)

    def _send(self, message: dict[str, Any]) -> None:
        if self._lost is not None:
            raise SandboxLostError(f"{self._lost}; open a new session.")
        try:
            wire.send(self._link, message)
        except OSError as error:
            raise SandboxLostError(
                f"the landlock keeper has ended ({error.strerror}); open a new session."
            ) from error

    # -- executing -----------------------------------------------------------

    def start(self, request: ExecRequest, output: Output) -> Running:
        request = lower(request)
        env = {
            "PATH": self._order["path"],
            "HOME": self._order["working_dir"],
            "TMPDIR": "/tmp",
            "LANG": "C.UTF-8",
            **request.env,
        }
        argv = ["/bin/sh", "-c", _ENTER, "sh", request.working_dir, *request.argv]
        running = _LandlockRunning(self, request, output)
        with self._lock:
            self._next += 1
            running.number = self._next
            self._send({"op": "start", "id": self._next, "argv": argv, "env": env})
            self._running[self._next] = running
        return running

    def has_folder(self, path: str) -> bool:
        """Whether a working folder can be entered, asked inside."""
        probe = ExecRequest(
            execution_id="folder",
            form=Form.ARGV,
            argv=("true",),
            working_dir=path,
            timeout_seconds=5,
        )
        running = self.start(probe, _Nothing())
        assert isinstance(running, _LandlockRunning)
        return running.outcome().get("code") != _NO_FOLDER

    # -- the end -------------------------------------------------------------

    def expire_at(self, when: float | None) -> None:
        with contextlib.suppress(SandboxLostError):
            self.send({"op": "expire", "at": when})

    def close(self) -> None:
        """Close the link, at which the keeper kills all and ends; make sure of it."""
        self._end_keeper()

    def _end_keeper(self) -> None:
        with contextlib.suppress(OSError):
            self._link.shutdown(socket.SHUT_RDWR)
        try:
            self._keeper.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait(_CLOSE_SECONDS)
        self._link.close()


class _Nothing:
    """An output that nobody wants."""

    def write(self, stream: object, data: bytes) -> None: ...

    def room(self, stream: object) -> int:
        return 0

    def full(self, stream: object) -> bool:
        return True

    def drop(self, stream: object, count: int) -> None: ...


class _LandlockRunning(Running):
    """One execution; the keeper tells of its end."""

    def __init__(self, sandbox: LandlockSandbox, request: ExecRequest, output: Output) -> None:
        self._sandbox = sandbox
        self._request = request
        self._output = output
        self._begun = threading.Event()
        self._ended = Waker()
        self._pipes: list[int] = []
        self._answer: dict[str, Any] = {}
        self.number = 0

    def began(self, pipes: list[int]) -> None:
        """The keeper started it; these are this side's ends of its pipes."""
        self._pipes = pipes
        self._begun.set()

    def ended(self, answer: dict[str, Any]) -> None:
        """It ended, could not be started, or the keeper is gone."""
        self._answer = answer
        self._ended.set()
        self._begun.set()

    def outcome(self) -> dict[str, Any]:
        """Serve its pipes to the end; the keeper's last word of it."""
        self._begun.wait()
        if len(self._pipes) == 3:
            stdin, stdout, stderr = self._pipes
            pump(stdin, self._request.stdin, stdout, stderr, self._output, self._ended)
        self._ended.close()
        return self._answer

    def wait(self) -> Exit:
        answer = self.outcome()
        if answer["op"] == "lost":
            raise SandboxLostError(f"{answer['detail']}; open a new session.")
        if answer["op"] == "failed":
            raise SandboxStartError(f"the execution could not be started: {answer['detail']}")
        folder = self._request.working_dir
        if answer.get("code") == _NO_FOLDER and not self._sandbox.has_folder(folder):
            raise WorkingDirectoryError(folder)
        return Exit(
            code=answer.get("code"),
            signal=answer.get("signal"),
            out_of_memory=bool(answer.get("oom")),
        )

    def kill(self) -> None:
        with contextlib.suppress(SandboxLostError):
            self._sandbox.send({"op": "kill", "id": self.number})
