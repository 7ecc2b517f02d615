"""How a server shows its key: the part of a connection that is not yet encrypted (RFC 4253).

Both sides name their versions, agree on algorithms and exchange keys. In its answer to the
exchange the server sends its key, and signs with it what becomes the connection's number. So the
gateway knows whose tunnel it carries, and the agent knows that a signature is asked for in it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from stockade.toolkit.egress import RefusedError
from stockade_secrets.ssh.wire import Fields, MalformedError

__all__ = ["Greeting"]

_MAX_LINES = 50
_MAX_LINE = 1024
#: As OpenSSH has it for one packet; and for all of them until the encryption begins.
_MAX_PACKET = 256 * 1024
_MAX_ALL = 1 << 20
_NEW_KEYS = 21
#: Where a server's key stands: of Diffie-Hellman, of curves and of what resists quantum
#: computers; and of groups that were negotiated.
_REPLIES = (31, 33)
_BANNER = b"SSH-2.0-"


class Greeting:
    """Watches what one server sends, until nobody can read it any more."""

    def __init__(self, shown: Callable[[bytes, bytes], None]) -> None:
        """``shown`` is called with the server's key and its signature, before the program gets
        either, and raises RefusedError for what must not go on."""
        self._shown = shown
        self._data = b""
        self._read = 0
        self._lines = 0
        self._named = False  # its version has come
        self._keyed = False  # its key has come
        self._over = False

    @property
    def named(self) -> bool:
        """Whether the server has said what it speaks."""
        return self._named

    @property
    def over(self) -> bool:
        """Whether the rest is encrypted."""
        return self._over

    def __call__(self, data: bytes) -> None:
        """The next bytes. Raises RefusedError."""
        if self._over:
            return
        self._data += data
        self._read += len(data)
        if self._read > _MAX_ALL + len(data):
            raise RefusedError("the server's greeting does not end")
        try:
            while not self._over and self._step():
                pass
        except MalformedError:
            raise RefusedError("the server does not speak SSH as it is understood here") from None

    def _step(self) -> bool:
        """Take a line or a packet; whether there was one."""
        return self._packet() if self._named else self._line()

    def _line(self) -> bool:
        line, end, rest = self._data.partition(b"\n")
        if len(line) > _MAX_LINE:
            raise MalformedError
        if not end:
            return False
        self._data = rest
        self._lines += 1
        self._named = line.startswith((_BANNER, b"SSH-1.99-"))
        if not self._named and (line.startswith(b"SSH-") or self._lines >= _MAX_LINES):
            raise MalformedError
        return True

    def _packet(self) -> bool:
        if len(self._data) < 5:
            return False
        length, padding = struct.unpack_from(">IB", self._data)
        if not padding + 2 <= length <= _MAX_PACKET:
            raise MalformedError
        if len(self._data) < 4 + length:
            return False
        payload = self._data[5 : 4 + length - padding]
        self._data = self._data[4 + length :]
        self._take(payload)
        return True

    def _take(self, payload: bytes) -> None:
        if payload[0] == _NEW_KEYS:
            if not self._keyed:
                raise MalformedError
            self._over = True
            self._data = b""
        elif payload[0] in _REPLIES:
            fields = Fields(payload[1:])
            try:
                key, _, signature = fields.text(), fields.text(), fields.text()
                fields.end()
            except MalformedError:
                return  # a group that is proposed (two numbers), say
            if self._keyed:
                raise MalformedError
            self._keyed = True
            self._shown(key, signature)
