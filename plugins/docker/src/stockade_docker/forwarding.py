"""From the forwarder inside to the gateway: connections out of frames on one channel.

The other end is ``stockade.resident.forwarder``, which says how the frames look.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import threading
from collections.abc import Callable

from stockade.resident import Channel
from stockade.results import Stream
from stockade.toolkit.egress import Gateway

__all__ = ["Forwarding"]

_HEAD = struct.Struct(">IcI")
_WINDOW = 256 * 1024
_PIECE = 32 * 1024
_MAX_FRAME = 1 << 20
_MAX_CONNECTIONS = 128
_MAX_GREETING = 4096
_IDLE_SECONDS = 120.0


class Forwarding:
    """Hands each connection of the forwarder's to the gateway; runs until its channel ends."""

    def __init__(self, channel: Channel, gateway: Gateway) -> None:
        self._channel = channel
        self._gateway = gateway
        self._sending = threading.Lock()
        self._connections: dict[int, _Connection] = {}
        self._buffer = b""

    def start(self, seconds: float) -> int:
        """Wait for the forwarder; the loopback port inside. Raises OSError, TimeoutError."""
        while b"\n" not in self._buffer and len(self._buffer) <= _MAX_GREETING:
            self._fill(seconds)
        line, _, self._buffer = self._buffer.partition(b"\n")
        if not line.isdigit() or len(line) > 5:
            raise OSError(f"expected a port from the forwarder, and it said {line!r:.80}")
        _thread(self._run)
        return int(line)

    def close(self) -> None:
        """End all connections. May be called again."""
        self._channel.close()
        self._gateway.close()

    def serve(self, connection: socket.socket) -> None:
        self._gateway.serve(connection)

    def send(self, number: int, kind: bytes, data: bytes = b"") -> None:
        """One frame to the forwarder. Raises OSError."""
        with self._sending:
            self._channel.send(_HEAD.pack(number, kind, len(data)) + data)

    def forget(self, number: int) -> None:
        self._connections.pop(number, None)

    def _fill(self, seconds: float | None = None) -> None:
        pieces = self._channel.receive(seconds)
        if not pieces:
            raise OSError("the forwarder has ended")
        self._buffer += b"".join(data for stream, data in pieces if stream is Stream.STDOUT)

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._take()
                self._fill()
        self.close()
        for connection in list(self._connections.values()):
            connection.end()

    def _take(self) -> None:
        at, end = 0, len(self._buffer)
        while end - at >= _HEAD.size:
            number, kind, length = _HEAD.unpack_from(self._buffer, at)
            if length > _MAX_FRAME:
                raise OSError("expected a frame of at most 1 MiB")  # whoever it is by now
            if end - at < _HEAD.size + length:
                break
            at += _HEAD.size + length
            self._handle(number, kind, self._buffer[at - length : at])
        self._buffer = self._buffer[at:]  # once: many small frames would cost a copy each

    def _handle(self, number: int, kind: bytes, data: bytes) -> None:
        connection = self._connections.get(number)
        if kind == b"o" and connection is None:
            if len(self._connections) >= _MAX_CONNECTIONS:
                self.send(number, b"c")
                return
            self._connections[number] = _Connection(self, number)
        elif connection is None:
            return
        elif kind == b"d":
            connection.give(data)
        elif kind == b"w" and len(data) == 4:
            connection.took(int.from_bytes(data, "big"))
        elif kind == b"c":
            connection.give(b"")


class _Connection:
    """A pair of sockets: one end is the gateway's, the other is made of frames."""

    def __init__(self, forwarding: Forwarding, number: int) -> None:
        self._forwarding = forwarding
        self._number = number
        self._given: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._waiting = 0  # bytes given and not yet taken
        self._credit = _WINDOW
        self._changed = threading.Condition()
        self._ended = False
        self._near, far = socket.socketpair()
        _thread(forwarding.serve, far)
        self._upper = _thread(self._up)
        _thread(self._down)

    # -- called by the thread that reads frames ---------------------------------------

    def give(self, data: bytes) -> None:
        with self._changed:
            self._waiting += len(data)
        if self._waiting > 2 * _WINDOW:  # no forwarder of ours sends that much unasked
            self.end()
            return
        self._given.put(data)

    def took(self, count: int) -> None:
        with self._changed:
            self._credit = min(_WINDOW, self._credit + count)
            self._changed.notify()

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._given.put(b"")
        with contextlib.suppress(OSError):
            self._near.shutdown(socket.SHUT_RDWR)

    # -- its own threads ----------------------------------------------------------------

    def _up(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._given.get():
                self._near.sendall(data)
                with self._changed:
                    self._waiting -= len(data)
                self._forwarding.send(self._number, b"w", struct.pack(">I", len(data)))
            self._near.shutdown(socket.SHUT_WR)

    def _down(self) -> None:
        with contextlib.suppress(OSError):
            while (data := self._near.recv(_PIECE)) and self._may_send(len(data)):
                self._forwarding.send(self._number, b"d", data)
        self.end()
        self._upper.join()
        self._near.close()
        self._forwarding.forget(self._number)
        with contextlib.suppress(OSError):
            self._forwarding.send(self._number, b"c")

    def _may_send(self, count: int) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._credit > 0 or self._ended, _IDLE_SECONDS)
            allowed = self._credit > 0 and not self._ended
            self._credit -= count
        return allowed


def _thread(target: Callable[..., None], *arguments: object) -> threading.Thread:
    made = threading.Thread(target=target, args=arguments, daemon=True, name="stockade-egress")
    made.start()
    return made
