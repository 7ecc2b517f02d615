"""Messages between the owner and its keeper: one packet each, JSON, descriptors beside it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from typing import Any

__all__ = ["pair", "receive", "send"]

#: A session's order holds its root's list of mounts and the supervisor's text.
_MAX_BYTES = 1 << 20


def pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MAX_BYTES)
    return ours, theirs


def send(link: socket.socket, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Raises OSError when the other side is gone, or the message is past what a packet takes."""
    data = json.dumps(message).encode()
    socket.send_fds(link, [data], list(descriptors), socket.MSG_NOSIGNAL)


def receive(link: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next message and its descriptors; None when the other side is gone.

    Raises TimeoutError where the link has a time limit.
    """
    try:
        data, descriptors, flags, _ = socket.recv_fds(link, _MAX_BYTES, 4, socket.MSG_CMSG_CLOEXEC)
    except TimeoutError:
        raise
    except OSError:
        return None
    if not data or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        for descriptor in descriptors:
            os.close(descriptor)
        return None
    return json.loads(data), list(descriptors)
