"""What the gateway itself says to a program, and how it takes its leave."""

from __future__ import annotations

import contextlib
import socket
import time

__all__ = ["answer", "leave", "receive", "send"]

_PIECE = 16 * 1024
#: What is read of a program that was answered and still sends, and for how long: closed
#: with bytes unread, its connection would lose the answer.
_MAX_IGNORED = 1 << 20
_LEAVE_SECONDS = 2.0


def receive(sock: socket.socket, until: float) -> bytes:
    """The next piece; raises TimeoutError past ``until``."""
    sock.settimeout(max(0.01, until - time.monotonic()))
    return sock.recv(_PIECE)


def answer(program: socket.socket, status: str, words: str) -> None:
    """An answer of the gateway's own."""
    body = words.encode("ascii", "backslashreplace") + b"\n"
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    send(program, head.encode("ascii") + body)


def send(program: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        program.settimeout(_LEAVE_SECONDS)
        program.sendall(data)


def leave(program: socket.socket, seconds: float = _LEAVE_SECONDS) -> None:
    """End what goes to the program, and read for a moment what it had sent already."""
    until = time.monotonic() + seconds
    ignored = 0
    with contextlib.suppress(OSError):
        program.shutdown(socket.SHUT_WR)
        while ignored < _MAX_IGNORED and time.monotonic() < until:
            piece = receive(program, until)
            if not piece:
                return
            ignored += len(piece)
