"""How a TLS connection begins: read exactly as a server reads it, or refused (E10).

A ClientHello names the host in the clear. A program writes it, and the server of an
allowed name reads it again; if the two readings could differ, one allowed host of a
provider would open all its others. So records are joined as TLS joins them, and
whatever a server could read in another way is refused: more than one name, a field
that does not fill its place, an encrypted hello inside the one that shows.
"""

from __future__ import annotations

import attrs

from stockade.toolkit.egress.refused import RefusedError

__all__ = ["ALERT", "CHANGE_CIPHER_SPEC", "Handshake", "asks_again", "read_hello"]

#: Kinds of records. TLS 1.3 sends the first before a second ClientHello, for old middleboxes;
#: a server may warn by the second before it answers.
CHANGE_CIPHER_SPEC, ALERT = 20, 21
_HANDSHAKE = 22
_MAX_IGNORED = 4
_CLIENT_HELLO, _SERVER_HELLO = 1, 2
_MAX_RECORD = 1 << 14
#: A browser's greeting with keys for quantum computers takes 2 KiB.
_MAX_HELLO = 32 * 1024
_RECORD_HEAD, _MESSAGE_HEAD = 5, 4
#: Up to here a server's first message says whether it asks for another ClientHello.
_ANSWER = _MESSAGE_HEAD + 2 + 32
#: The random of a ServerHello that is a HelloRetryRequest (RFC 8446, 4.1.3).
_ASKS_AGAIN = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
_SERVER_NAME = 0
#: A hello inside the hello (ECH and its drafts, ESNI): the server would read another name.
#: What only fills the place of one looks the same, by design.
_ENCRYPTED = frozenset({*range(0xFE08, 0xFE0E), 0xFFCE, 0xFFCF})


class Handshake:
    """The first handshake message of one side: its records are taken, and joined.

    ``raw`` is all that was fed. ``rest`` is what of it belongs to no record of the message:
    bytes that nobody has judged.
    """

    def __init__(self, ignored: int = 0) -> None:
        """``ignored``: a kind of record that the reader passes over before the message."""
        self.raw = bytearray()
        self.joined = bytearray()
        self._at = 0
        self._ignored = ignored
        self._to_ignore = _MAX_IGNORED

    @property
    def rest(self) -> bytes:
        return bytes(self.raw[self._at :])

    def taken(self) -> bytes:
        """The records that were joined, as they came."""
        return bytes(self.raw[: self._at])

    def feed(self, data: bytes) -> None:
        self.raw += data

    def client_hello(self) -> bytes | None:
        """The body of a whole ClientHello; None: feed more. Raises RefusedError."""
        while (size := self._message_end()) is None or len(self.joined) < size:
            if not self._record():
                return None
        if len(self.joined) > size:
            raise RefusedError("expected a record that ends with the ClientHello, and it goes on")
        return bytes(self.joined[_MESSAGE_HEAD:])

    def answer(self) -> bytes | None:
        """The begin of a server's first message; None: feed more. Raises RefusedError."""
        while len(self.joined) < _ANSWER:
            if not self._record():
                return None
        return bytes(self.joined[:_ANSWER])

    def _message_end(self) -> int | None:
        """Where the ClientHello ends, once its length was read."""
        if self.joined and self.joined[0] != _CLIENT_HELLO:
            raise RefusedError("expected a TLS ClientHello, and another message came")
        if len(self.joined) < _MESSAGE_HEAD:
            return None
        length = int.from_bytes(self.joined[1:_MESSAGE_HEAD], "big")
        if length > _MAX_HELLO:
            raise RefusedError(f"expected a ClientHello of at most {_MAX_HELLO} bytes")
        return _MESSAGE_HEAD + length

    def _record(self) -> bool:
        """Join one more record of what was fed; whether there was a whole one."""
        head = self.raw[self._at : self._at + _RECORD_HEAD]
        if head and head[0] != _HANDSHAKE and not self._ignores(head[0]):
            raise RefusedError("expected TLS, and something else came")
        if len(head) < _RECORD_HEAD:
            return False
        length = int.from_bytes(head[3:], "big")
        # Empty fragments are forbidden, and would cost the gateway time for nothing.
        if head[1] != 3 or not 0 < length <= _MAX_RECORD:
            raise RefusedError("expected a TLS record, and its version or length is wrong")
        begin = self._at + _RECORD_HEAD
        if len(self.raw) < begin + length:
            return False
        self._at = begin + length
        if head[0] == _HANDSHAKE:
            self.joined += self.raw[begin : self._at]
        else:
            self._to_ignore -= 1
        return True

    def _ignores(self, kind: int) -> bool:
        return kind == self._ignored and self._to_ignore > 0 and not self.joined


def asks_again(answer: bytes) -> bool:
    """Whether a server's first message asks for another ClientHello. Raises RefusedError
    if it is no ServerHello."""
    if answer[0] != _SERVER_HELLO:
        raise RefusedError("expected a TLS ServerHello, and another message came")
    return answer[_MESSAGE_HEAD + 2 :] == _ASKS_AGAIN


def read_hello(body: bytes) -> str:
    """The one name that a ClientHello asks for, in lower case. Raises RefusedError."""
    hello = _Fields(body)
    hello.take(2 + 32)  # version, random
    if len(hello.sized(1)) > 32:
        raise RefusedError("expected a session id of at most 32 bytes in the ClientHello")
    suites = hello.sized(2)
    if not suites or len(suites) % 2 or not hello.sized(1):
        raise RefusedError("expected cipher suites and a compression in the ClientHello")
    extensions = _extensions(hello.sized(2) if hello.left else b"")
    hello.end()
    if _ENCRYPTED & extensions.keys():
        raise RefusedError(
            "the ClientHello holds an encrypted one (ECH), which may name another host; "
            "switch ECH off in the program"
        )
    if _SERVER_NAME not in extensions:
        raise RefusedError("expected the host's name in the ClientHello (SNI), and there is none")
    return _name(extensions[_SERVER_NAME])


def _extensions(block: bytes) -> dict[int, bytes]:
    fields, found = _Fields(block), dict[int, bytes]()
    while fields.left:
        kind = int.from_bytes(fields.take(2), "big")
        if kind in found:
            raise RefusedError(f"the ClientHello has the extension {kind} twice")
        found[kind] = fields.sized(2)
    return found


def _name(extension: bytes) -> str:
    outer = _Fields(extension)
    names = _Fields(outer.sized(2))
    outer.end()
    kind, name = names.take(1), names.sized(2)
    if names.left or kind != b"\0":
        raise RefusedError("expected one host's name in the ClientHello, and there are several")
    if not name.isascii():
        raise RefusedError("expected a host's name in ASCII in the ClientHello")
    return name.decode("ascii").lower()


@attrs.define
class _Fields:
    """Bytes that are taken from the front; every length must be so."""

    left: bytes

    def take(self, count: int) -> bytes:
        if count > len(self.left):
            raise RefusedError("the ClientHello ends inside one of its fields")
        taken, self.left = self.left[:count], self.left[count:]
        return taken

    def sized(self, width: int) -> bytes:
        """A field behind its own length of ``width`` bytes."""
        return self.take(int.from_bytes(self.take(width), "big"))

    def end(self) -> None:
        if self.left:
            raise RefusedError("the ClientHello goes on after its last field")
