"""The keeper as its owner has it: a process, and questions over a link."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from typing import Any

from stockade.errors import SandboxStartError
from stockade.resident.lane import LaneLostError
from stockade_landlock import leftovers, wire
from stockade_landlock.wire import is_passing

__all__ = ["KeeperProcess"]

_CLOSE_SECONDS = 10.0
_ANSWER_SECONDS = 30.0

#: A message with the descriptors beside it.
_Answer = tuple[dict[str, Any], list[int]]

_KEEPER = (
    "import sys; sys.path[:0] = {paths!r}; from stockade_landlock.keeper import main; main({link})"
)


def _import_paths() -> list[str]:
    """Where the keeper finds its modules: it is started without site-packages."""
    paths = []
    for name in ("stockade_landlock", "sandlock"):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise SandboxStartError(
                f"module {name} is gone; pip install stockade-landlock", retryable=False
            )
        folder = os.path.dirname(os.path.dirname(spec.origin))
        if folder not in paths:
            paths.append(folder)
    return paths


def _started(order: dict[str, Any]) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """The process, and this side of the link to it. Raises SandboxStartError."""
    paths = _import_paths()
    try:
        ours, theirs = socket.socketpair()
    except OSError as error:
        raise _not_started(str(error), retryable=is_passing(error), nothing_began=True) from error
    with theirs:
        code = _KEEPER.format(paths=paths, link=theirs.fileno())
        try:
            process = subprocess.Popen(
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
        except OSError as error:
            ours.close()
            passing = is_passing(error)
            raise _not_started(str(error), retryable=passing, nothing_began=True) from error
    return ours, process


def _not_started(detail: str, *, retryable: bool, nothing_began: bool) -> SandboxStartError:
    return SandboxStartError(
        f"the landlock keeper did not start: {detail}; see `stockade doctor landlock`.",
        retryable=retryable, nothing_began=nothing_began,
    )  # fmt: skip


class KeeperProcess:
    """Started when made. Its methods may be called from any thread."""

    def __init__(self, order: dict[str, Any]) -> None:
        """Raises SandboxStartError."""
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._asked: dict[int, Callable[[_Answer | None], None]] = {}
        self.ended = threading.Event()  #: nothing runs in the session any more
        self.reason = ""
        self.pid = 0
        self._link, self._process = _started(order)
        try:
            self._link.settimeout(order["startup_seconds"])
            wire.send(self._link, order)
            answer = wire.receive(self._link)
            self._link.settimeout(None)
        except OSError as error:
            answer = ({"op": "broken", "detail": str(error)}, [])
        if answer is None or answer[0]["op"] != "ready":
            said: dict[str, Any] = answer[0] if answer else {"detail": "it ended at once"}
            # Where it ended in order nothing is left that could come to be.
            raise _not_started(
                said.get("detail", ""), retryable=said.get("passing", True),
                nothing_began=self.close(),
            )  # fmt: skip
        self.pid = answer[0]["pid"]
        threading.Thread(target=self._listen, daemon=True, name="stockade-landlock").start()

    def _listen(self) -> None:
        """Hand the keeper's answers to whom they belong; its end is the session's (D14)."""
        while (received := wire.receive(self._link)) is not None:
            message, descriptors = received
            if message["op"] == "ended":
                self._over(message["reason"])
                continue
            with self._lock:
                asked = self._asked.pop(message["id"], None)
            if asked is not None:
                asked((message, descriptors))
            else:  # it came too late
                for descriptor in descriptors:
                    os.close(descriptor)
        self._over("the landlock keeper has ended")

    def _over(self, reason: str) -> None:
        with self._lock:
            self.reason = self.reason or reason
            asked, self._asked = list(self._asked.values()), {}
            self.ended.set()
        for take in asked:
            take(None)

    def tell(self, **message: Any) -> None:
        """Raises LaneLostError when the keeper is gone."""
        try:
            with self._lock:
                wire.send(self._link, message)
        except OSError as error:
            raise LaneLostError(f"the landlock keeper has ended: {error.strerror}") from error

    def ask(self, **message: Any) -> _Answer:
        """The answer, with the descriptors beside it. Raises LaneLostError."""
        future: Future[_Answer | None] = Future()
        number = self._ask(future.set_result, message)
        if not future.done():
            futures.wait([future], _ANSWER_SECONDS)
        with self._lock:
            late = self._asked.pop(number, None) is not None
        if late:
            raise LaneLostError(f"the keeper gave no answer within {_ANSWER_SECONDS:g} s")
        answer = future.result()
        if answer is None:
            raise LaneLostError(self.reason)
        return answer

    def ask_for(self, take: Callable[[dict[str, Any] | None], None], **message: Any) -> None:
        """Have ``take`` called with the answer, in the listener's thread, so it must return
        at once; with None when the keeper is gone."""
        self._ask(lambda answer: take(answer and answer[0]), message)

    def _ask(self, take: Callable[[_Answer | None], None], message: dict[str, Any]) -> int:
        number = next(self._numbers)
        with self._lock:
            over = self.ended.is_set()
            if not over:
                self._asked[number] = take
                # When it fails, the listener sees the end as well, and tells of it.
                with contextlib.suppress(OSError):
                    wire.send(self._link, {"id": number, **message})
        if over:
            take(None)
        return number

    def close(self) -> bool:
        """Close the link, at which the keeper kills all and ends; make sure of it.

        Whether it ended so, with all that it had started."""
        with contextlib.suppress(OSError):
            self._link.shutdown(socket.SHUT_RDWR)
        in_order = True
        try:
            self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            in_order = False
            self._kill()
        self._link.close()
        return in_order

    def _kill(self) -> None:
        """The keeper first: its warden then ends what is left of the session."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            if self.pid:
                os.kill(self.pid, signal.SIGKILL)
                self._process.wait(_CLOSE_SECONDS)
        self._process.kill()
        self._process.wait(_CLOSE_SECONDS)
