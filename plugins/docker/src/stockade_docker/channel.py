"""A lane's streams over the engine's raw, framed connection.

docker-py's own reading of such a connection grows faster than linearly with the
output, so the frames are taken apart here: eight bytes of head (which stream,
how long), then as many bytes.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from typing import Any

from stockade.resident import Channel
from stockade.results import Stream

__all__ = ["EngineChannel"]

_READ_BYTES = 256 * 1024
_HEAD = 8
_STREAMS = {1: Stream.STDOUT, 2: Stream.STDERR}


class EngineChannel(Channel):
    """Over the connection of an attach or an exec."""

    def __init__(self, connection: Any) -> None:
        """``connection`` is what docker-py's ``attach_socket`` or ``exec_start`` returned."""
        self._keep = connection  # its owner closes the socket when it is collected
        self._socket: Any = getattr(connection, "_sock", connection)
        with contextlib.suppress(AttributeError):
            self._socket.settimeout(None)
        self._head = b""
        self._left = 0
        self._stream = Stream.STDOUT
        self._closing = threading.Lock()
        self._closed = False

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self, seconds: float | None = None) -> list[tuple[Stream, bytes]]:
        while True:
            data = self._read(seconds)
            if not data:
                return []
            found = self._take_apart(data)
            if found:
                return found

    def _read(self, seconds: float | None) -> bytes:
        # Not the socket's own timeout: that would hold for a sender in another thread too.
        if seconds is not None and not self._buffered():
            descriptor = self._socket.fileno()
            if descriptor < 0:
                raise OSError("the connection is closed")
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            if not poll.poll(seconds * 1000):
                raise TimeoutError
        return bytes(self._socket.recv(_READ_BYTES))

    def _buffered(self) -> bool:
        """Whether a TLS connection holds bytes that the descriptor does not show."""
        pending = getattr(self._socket, "pending", None)
        return bool(pending is not None and pending())

    def ended(self) -> bool:
        if type(self._socket) is not socket.socket:
            return False
        try:
            return not self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _take_apart(self, data: bytes) -> list[tuple[Stream, bytes]]:
        found = []
        if self._head:
            data = self._head + data
            self._head = b""
        at, end = 0, len(data)
        while at < end:
            if not self._left:
                if end - at < _HEAD:
                    self._head = data[at:]
                    break
                self._stream = _STREAMS.get(data[at], Stream.STDOUT)
                self._left = int.from_bytes(data[at + 4 : at + _HEAD], "big")
                at += _HEAD
                continue
            piece = data[at : at + self._left]
            self._left -= len(piece)
            at += len(piece)
            found.append((self._stream, piece))
        return found

    def close(self) -> None:
        with self._closing:
            if self._closed:
                return
            self._closed = True
        with contextlib.suppress(OSError, AttributeError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes whoever reads
        with contextlib.suppress(OSError):
            self._socket.close()
        with contextlib.suppress(OSError, AttributeError):
            self._keep.close()
