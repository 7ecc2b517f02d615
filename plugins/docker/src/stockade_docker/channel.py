"""A lane's streams over the engine's raw, framed connection.

docker-py's own reading of such a connection grows faster than linearly with the
output, so the frames are taken apart here: eight bytes of head (which stream,
how long), then as many bytes.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from typing import Any

from stockade.resident import Channel
from stockade.results import Stream

__all__ = ["EngineChannel", "hang_up"]

_READ_BYTES = 256 * 1024
_SEND_BYTES = 256 * 1024
_HEAD = 8
_STREAMS = {1: Stream.STDOUT, 2: Stream.STDERR}


class EngineChannel(Channel):
    """Over the connection of an attach or an exec."""

    def __init__(self, connection: Any) -> None:
        """``connection`` is what docker-py's ``attach_socket`` or ``exec_start`` returned."""
        self._keep = connection  # its owner closes the socket when it is collected
        self._socket: Any = getattr(connection, "_sock", connection)
        self._tls = isinstance(self._socket, ssl.SSLSocket)
        # One TLS connection must not be read and written at the same time.
        self._turn = threading.Lock()
        self._socket.settimeout(0 if self._tls else None)
        self._head = b""
        self._left = 0
        self._stream = Stream.STDOUT
        self._closing = threading.Lock()
        self._closed = False

    def send(self, data: bytes) -> None:
        if not self._tls:
            self._socket.sendall(data)
            return
        left = memoryview(data)
        while left:
            try:
                with self._turn:
                    left = left[self._socket.send(left[:_SEND_BYTES]) :]
            except ssl.SSLWantWriteError:
                self._poll(select.POLLOUT, None)
            except ssl.SSLWantReadError:  # a new key is agreed on; whoever receives takes part
                self._poll(select.POLLIN, 0.05)

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
        if not self._tls:
            if seconds is not None and not self._poll(select.POLLIN, seconds):
                raise TimeoutError
            return bytes(self._socket.recv(_READ_BYTES))
        while True:
            try:
                with self._turn:
                    return bytes(self._socket.recv(_READ_BYTES))
            except ssl.SSLWantReadError:
                if not self._poll(select.POLLIN, seconds):
                    raise TimeoutError from None
            except ssl.SSLWantWriteError:
                self._poll(select.POLLOUT, seconds)

    def _poll(self, event: int, seconds: float | None) -> bool:
        """Wait until the socket is ready; False when the time passes first."""
        descriptor = self._socket.fileno()
        if descriptor < 0:
            raise OSError("the connection is closed")
        poll = select.poll()
        poll.register(descriptor, event)
        return bool(poll.poll(None if seconds is None else seconds * 1000))

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

    def wind_down(self, seconds: float) -> None:
        if type(self._socket) is not socket.socket:
            return  # TLS and ssh close both directions at a time
        until = time.monotonic() + seconds
        with contextlib.suppress(OSError):  # TimeoutError too
            self._socket.shutdown(socket.SHUT_WR)
            while (left := until - time.monotonic()) > 0 and self._read(left):
                pass

    def close(self) -> None:
        with self._closing:
            if self._closed:
                return
            self._closed = True
        hang_up(self._keep)


def hang_up(connection: Any) -> None:
    """Close what docker-py's ``attach_socket`` or ``exec_start`` returned, at once."""
    carrier = getattr(connection, "_sock", connection)
    with contextlib.suppress(OSError):
        # Wakes whoever reads. Of a TLS connection the plain part: its own farewell
        # would wait for the other side.
        socket.socket.shutdown(carrier, socket.SHUT_RDWR)
    # The response too: over TLS it holds the socket open.
    ends: list[Any] = [carrier, connection, getattr(connection, "_response", None)]
    for end in ends:
        with contextlib.suppress(OSError, AttributeError, ValueError):
            end.close()
