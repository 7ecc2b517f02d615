"""SSH through the gateway: a server is carried once it has shown a key that is known (E11)."""

from __future__ import annotations

import os
import socket
import struct

import attrs

from stockade.toolkit.egress.limits import Limits
from stockade.toolkit.egress.opening import Greeting
from stockade.toolkit.egress.refused import RefusedError
from stockade.toolkit.egress.relay import relay

__all__ = ["Shell", "carry_ssh", "farewell"]

_BANNER = b"SSH-2.0-"
_BLOCK = 8
_DISCONNECT, _BY_APPLICATION = 1, 11
_MAX_WORDS = 1024


@attrs.frozen
class Shell:
    """How far a program's SSH has come."""

    _greeting: Greeting | None = None

    @property
    def greeted(self) -> bool:
        """Whether a server's version has reached the program."""
        return self._greeting is not None and self._greeting.named


def carry_ssh(
    program: socket.socket, server: socket.socket, greeting: Greeting, begun: bytes, limits: Limits
) -> None:
    """Carry a connection; ``begun``: what the program has sent of it already.

    Raises RefusedError, before anybody was logged in, for another server than the one that is
    known and for another protocol.
    """
    first = _First(begun)
    server.sendall(begun)
    relay(program, server, upload=None, idle=limits.idle_seconds, looks=first, hears=greeting)
    if not greeting.over:
        raise OSError("the connection ended before its encryption began")


class _First:
    """Sees that a program begins as programs of SSH do."""

    def __init__(self, begun: bytes) -> None:
        self._seen = b""
        self(begun)

    def __call__(self, data: bytes) -> None:
        if len(self._seen) < len(_BANNER):
            self._seen = (self._seen + data)[: len(_BANNER)]
            if not _BANNER.startswith(self._seen):
                raise RefusedError("expected SSH, and the program speaks another protocol")


def farewell(words: str, *, greeted: bool) -> bytes:
    """What has a program of SSH say these words, as long as nothing is encrypted; ``greeted``:
    it knows already whom it talks to."""
    text = words.encode("ascii", "backslashreplace")[:_MAX_WORDS]
    payload = struct.pack(">BII", _DISCONNECT, _BY_APPLICATION, len(text)) + text
    payload += struct.pack(">I", 0)  # in no language that has a name
    padding = _BLOCK - (len(payload) + 5) % _BLOCK
    padding += _BLOCK if padding < 4 else 0
    packet = struct.pack(">IB", len(payload) + padding + 1, padding) + payload
    packet += os.urandom(padding)
    return packet if greeted else b"SSH-2.0-stockade\r\n" + packet
