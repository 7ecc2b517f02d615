"""Messages between an owner and its keeper over their control socket: JSON, one packet each."""

from __future__ import annotations

import array
import errno
import json
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["is_passing", "pair", "receive", "send"]

_MAX_BYTES = 1 << 20
#: The kernel takes 253 in one message.
_MAX_DESCRIPTORS = 64
#: What a machine that is short of something answers with for a while.
_PASSING = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC)


def is_passing(error: OSError) -> bool:
    """Whether what failed so may work in a moment."""
    return error.errno in _PASSING


def pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MAX_BYTES)
    return ours, theirs


def send(
    control: socket.socket, message: Mapping[str, Any], descriptors: Sequence[int] = ()
) -> None:
    """Raises OSError when the other side is gone, or the message is past what a packet takes."""
    data = json.dumps(message).encode()
    socket.send_fds(control, [data], list(descriptors), socket.MSG_NOSIGNAL)


def receive(control: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next message and its descriptors; None when the other side is gone.

    Raises TimeoutError where the socket has a time limit.
    """
    room = socket.CMSG_SPACE(_MAX_DESCRIPTORS * array.array("i").itemsize)
    try:
        # socket.recv_fds drops its flags before Python 3.13, so that programs which this
        # process starts would inherit what came.
        data, beside, flags, _ = control.recvmsg(_MAX_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    except TimeoutError:
        raise
    except OSError:
        return None
    descriptors = array.array("i")
    for level, kind, content in beside:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    if not data or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        for descriptor in descriptors:
            os.close(descriptor)
        return None
    return json.loads(data), list(descriptors)
