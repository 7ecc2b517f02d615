"""Messages between the owner and its keeper: a length, JSON, and descriptors beside it."""

from __future__ import annotations

import errno
import json
import socket
import struct
from typing import Any

__all__ = ["MARKS", "MAX_MESSAGE_BYTES", "is_passing", "receive", "send"]

#: Variables of a keeper's environment by which other processes know it: the session's id,
#: and its owner.
MARKS = ("STOCKADE_SESSION", "STOCKADE_OWNER")

_HEAD = struct.Struct("!I")
#: Arguments and environment together are at most a few MiB (the kernel's own limit).
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
#: What a machine that is short of something answers with for a while.
_PASSING = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC)


def is_passing(error: Exception) -> bool:
    """Whether what failed so may work in a moment."""
    return isinstance(error, OSError) and error.errno in _PASSING


def send(link: socket.socket, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
    """Send one message; the caller holds a lock where several threads send."""
    data = json.dumps(message).encode()
    # The descriptors travel with the head, which is too short to be split.
    socket.send_fds(link, [_HEAD.pack(len(data))], list(descriptors))
    link.sendall(data)


def receive(link: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next message and its descriptors, or None when the other side is gone."""
    try:
        head, descriptors, _, _ = socket.recv_fds(link, _HEAD.size, 3, socket.MSG_CMSG_CLOEXEC)
        head += _exactly(link, _HEAD.size - len(head)) if head else b""
        if len(head) < _HEAD.size:
            return None
        (size,) = _HEAD.unpack(head)
        data = _exactly(link, size) if size <= MAX_MESSAGE_BYTES else b""
    except OSError:
        return None
    return (json.loads(data), list(descriptors)) if data else None


def _exactly(link: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = link.recv(min(size - len(data), 1 << 20))
        if not part:
            return b""
        data += part
    return bytes(data)
