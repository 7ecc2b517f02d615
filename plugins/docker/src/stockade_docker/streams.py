"""A supervisor's streams over the engine's raw, framed connection.

docker-py's own reading of such a connection grows faster than linearly with the
output, so the engine's frames are taken apart here: eight bytes of head (which stream,
how long), then as many bytes.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from typing import Any

from stockade.toolkit.supervised import Transport

__all__ = ["EngineTransport", "hang_up"]

_READ_BYTES = 256 * 1024
_SEND_BYTES = 256 * 1024
_HEAD = 8
_STDERR = 2


class EngineTransport(Transport):
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
        self._stream = 1
        self._ended = threading.Event()
        self._closing = threading.Lock()
        self._closed = False
        #: What came on the standard error, such as a runtime's last words; for messages.
        self.stderr = b""

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
                self._wait(write=True, seconds=None)
            except ssl.SSLWantReadError:  # a new key is agreed on; whoever receives takes part
                self._wait(write=False, seconds=0.05)

    def receive(self) -> bytes:
        while True:
            data = self._read()
            if not data:
                self._ended.set()
                return b""
            found = self._take_apart(data)
            if found:
                return found

    def _read(self) -> bytes:
        if not self._tls:
            return bytes(self._socket.recv(_READ_BYTES))
        while True:
            try:
                with self._turn:
                    return bytes(self._socket.recv(_READ_BYTES))
            except ssl.SSLWantReadError:
                self._wait(write=False, seconds=None)
            except ssl.SSLWantWriteError:
                self._wait(write=True, seconds=None)

    def _wait(self, *, write: bool, seconds: float | None) -> None:
        """Wait until the socket is ready, or ``seconds`` pass."""
        descriptor = self._socket.fileno()
        if descriptor < 0:
            raise OSError("the connection is closed")
        reading, writing = ([], [descriptor]) if write else ([descriptor], [])
        select.select(reading, writing, [], seconds)

    def _take_apart(self, data: bytes) -> bytes:
        found: list[bytes] = []
        if self._head:
            data = self._head + data
            self._head = b""
        at, end = 0, len(data)
        while at < end:
            if not self._left:
                if end - at < _HEAD:
                    self._head = data[at:]
                    break
                self._stream = data[at]
                self._left = int.from_bytes(data[at + 4 : at + _HEAD], "big")
                at += _HEAD
                continue
            piece = data[at : at + self._left]
            self._left -= len(piece)
            at += len(piece)
            if self._stream == _STDERR:
                self.stderr = (self.stderr + piece)[-2048:]
            else:
                found.append(piece)
        return b"".join(found)

    def wind_down(self, seconds: float) -> None:
        if type(self._socket) is not socket.socket:
            return  # TLS and ssh close both directions at a time
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            self._ended.wait(seconds)

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
