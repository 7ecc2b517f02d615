"""Messages between a session and the process that holds its microVM.

One byte of kind, four of length, the payload. Both ends are stockade's, but the payload
may be of the guest's making: what comes from the child is bounded and checked.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

__all__ = ["MAX_BYTES", "receive", "send", "send_json"]

#: More in one message is a broken other end.
MAX_BYTES = 16 * 1024 * 1024
_HEAD = struct.Struct("=cI")


def send(connection: socket.socket, kind: bytes, payload: bytes = b"") -> None:
    connection.sendall(_HEAD.pack(kind, len(payload)) + payload)


def send_json(connection: socket.socket, kind: bytes, value: Any) -> None:
    send(connection, kind, json.dumps(value).encode())


def receive(connection: socket.socket) -> tuple[bytes, bytes]:
    """The next message's kind and payload. Raises EOFError when the other end is gone."""
    kind, length = _HEAD.unpack(_exactly(connection, _HEAD.size))
    if length > MAX_BYTES:
        raise EOFError(f"a message of {length} bytes")
    return kind, _exactly(connection, length)


def _exactly(connection: socket.socket, length: int) -> bytes:
    parts = []
    while length:
        try:
            part = connection.recv(min(length, 1 << 20))
        except OSError as error:
            raise EOFError(str(error)) from error
        if not part:
            raise EOFError("the other end is gone")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
