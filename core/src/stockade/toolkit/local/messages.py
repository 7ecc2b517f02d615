"""Messages between an owner and its keeper over their control socket: one packet each.

While a sandbox is made they are JSON, with descriptors beside it. Once it is up what is asked
and answered has a fixed form, which the supervisor's own keeper (hostkeeper.c) reads as well.
"""

from __future__ import annotations

import array
import contextlib
import errno
import json
import os
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = [
    "END",
    "EXPECT",
    "EXPIRE",
    "KILLED",
    "STATE",
    "Answer",
    "answer_with",
    "is_passing",
    "pair",
    "question",
    "read",
    "receive",
    "receive_answer",
    "receive_packet",
    "send",
    "send_answer",
    "taken",
]

#: What is asked: how the program stands; whether the watch has killed the execution of a pid;
#: a new lifetime in milliseconds, -1 for none; the end; and what is not answered, that an
#: execution is about to start.
STATE, KILLED, EXPIRE, END, EXPECT = range(1, 6)
_QUESTION = struct.Struct("<Iq")
_ANSWER = struct.Struct("<IIq")

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

    Raises TimeoutError if the socket has a time limit.
    """
    received = receive_packet(control)
    return None if received is None else (read(received[0]), received[1])


def read(packet: bytes) -> dict[str, Any]:
    """A packet of ``receive_packet``'s that is no question."""
    message: dict[str, Any] = json.loads(packet)
    return message


def answer_with(owner: socket.socket, act: Callable[[], dict[str, Any] | None]) -> bool:
    """Do it, and answer with what it gives or with how it failed; whether it worked."""
    answer: dict[str, Any]
    try:
        answer = {**(act() or {}), "ok": True}
    except Exception as error:
        passing = isinstance(error, OSError) and is_passing(error)
        answer = {"ok": False, "error": f"{type(error).__name__}: {error}", "passing": passing}
    with contextlib.suppress(OSError):
        send(owner, answer)
    return bool(answer["ok"])


def receive_packet(control: socket.socket) -> tuple[bytes, list[int]] | None:
    """As ``receive``, of either kind."""
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
    return data, list(descriptors)


# -- once a sandbox is up --------------------------------------------------------


class Answer(NamedTuple):
    """To one question."""

    ok: bool
    #: How many were killed for memory, for STATE; whether one was, for KILLED.
    number: int = 0
    ended: int = -1  #: the program's wait status, -1 while it runs
    words: str = ""  #: what went wrong


def question(what: int, value: int = 0) -> bytes:
    """The packet that asks."""
    return _QUESTION.pack(what, value)


def taken(data: bytes) -> tuple[int, int] | None:
    """What a packet asks, and its value; None if it is a message of the other kind."""
    return _QUESTION.unpack(data) if len(data) == _QUESTION.size else None


def send_answer(control: socket.socket, answer: Answer) -> None:
    """Raises OSError when the other side is gone."""
    head = _ANSWER.pack(answer.ok, answer.number, answer.ended)
    control.send(head + answer.words.encode(errors="replace")[:4096], socket.MSG_NOSIGNAL)


def receive_answer(control: socket.socket) -> Answer | None:
    """None when the other side is gone. Raises OSError."""
    data = control.recv(_MAX_BYTES)
    if len(data) < _ANSWER.size:
        return None
    ok, number, ended = _ANSWER.unpack_from(data)
    return Answer(bool(ok), number, ended, data[_ANSWER.size :].decode(errors="replace"))
