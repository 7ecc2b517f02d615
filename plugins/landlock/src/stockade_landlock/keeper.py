"""The keeper: one process a session, between the owner and the sandboxed programs.

It runs with no privileges and ends with its owner: when the link closes, for
whatever reason, SIGKILL of the owner included, everything below it is killed
(D6, C9). As a subreaper it sees every process of the session, so trees are ended
and memory and cpu are watched from here, where no program reaches. Sandlock's own
supervisor runs in here. No byte of a program's output passes through.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from stockade_landlock import confine, tree, wire
from stockade_landlock.lanes import LaneError, Lanes
from stockade_landlock.watch import Watcher
from stockade_landlock.wire import MARKS, is_passing

__all__ = ["main"]

#: Its own deadline comes this much after the owner's.
_EXPIRY_GRACE_SECONDS = 2.0


class Keeper:
    """Serves the owner's link until it closes."""

    def __init__(self, link: socket.socket, order: dict[str, Any]) -> None:
        self._link = link
        self._sending = threading.Lock()
        self._expiry: threading.Timer | None = None
        self._lanes = Lanes(order, confine.prepare(order))
        self._watcher = Watcher(order, self._lanes, self._exhausted)
        threading.Thread(target=self._await_end, daemon=True).start()

    def serve(self) -> None:
        self._send({"op": "ready", "pid": os.getpid()})
        slow: dict[str, Callable[[dict[str, Any]], None]] = {
            "lane": self._open,
            "kill": lambda message: self._lanes.end_announced(message["lane"]),
            "look": self._look,
            "end": lambda _: self._lanes.end_all(),
        }
        while (received := wire.receive(self._link)) is not None:
            message = received[0]
            if message["op"] == "expect":
                self._watcher.expect()
            elif message["op"] == "expire":
                self.expire_at(message["at"])
            elif message["op"] == "look" and not self._lanes.ending(message["lane"]):
                self._look(message)
            else:
                if message["op"] == "kill":
                    self._lanes.announce(message["lane"])  # now: later looks wait for it
                work = slow[message["op"]]
                threading.Thread(target=work, args=(message,), daemon=True).start()

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

    def _send(self, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
        with self._sending, contextlib.suppress(OSError):
            wire.send(self._link, message, tuple(descriptors or ()))

    def _open(self, message: dict[str, Any]) -> None:
        try:
            ours = self._lanes.open(message["lane"])
        except LaneError as error:
            self._send({"op": "failed", "id": message["id"], "detail": str(error)})
            return
        self._send({"op": "lane", "id": message["id"]}, ours)
        for descriptor in ours:
            os.close(descriptor)

    def _look(self, message: dict[str, Any]) -> None:
        left, kills = self._lanes.left(message["lane"])
        self._send({"op": "look", "id": message["id"], "left": left, "kills": kills})

    def _await_end(self) -> None:
        self._lanes.wait()
        self._over("a program inside ended the session's first program")

    def _exhausted(self) -> None:
        self._over("its programs made more process groups than one session can follow")

    def _over(self, reason: str) -> None:
        self._send({"op": "ended", "reason": reason})
        self._lanes.end_all()

    def close(self) -> None:
        self._lanes.end_all()


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
    tree.end(lambda: tree.descendants(os.getpid()), 5.0)
    os._exit(0)


def main(descriptor: int) -> None:
    """Run by the owner (process.py), which passes its end of the link."""
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
        # Sandlock's own errors, RuntimeError, come from a machine under load too.
        passing = isinstance(error, RuntimeError) or is_passing(error)
        detail = f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError):
            wire.send(link, {"op": "broken", "detail": detail, "passing": passing})
        return
    keeper.expire_at(order["expires_at"])
    try:
        keeper.serve()
    finally:
        keeper.close()
        os._exit(0)  # sandlock's threads need no goodbye
