"""Beginnings of TLS: real ones, made ones, and what a real server reads in them."""

from __future__ import annotations

import itertools
import ssl
import struct

__all__ = [
    "ANSWERS",
    "ASKS_AGAIN",
    "asked",
    "extension",
    "forged",
    "framed",
    "hello",
    "made",
    "records",
    "server_name",
    "what_openssl_reads",
]

#: A HelloRetryRequest: TLS 1.3, a suite, the group secp256r1.
ASKS_AGAIN = bytes.fromhex(
    "16030300380200003403 03cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c"
    "00130100000c002b00020304003300020017".replace(" ", "")
)
#: The begin of a ServerHello that asks for nothing more.
ANSWERS = b"\x16\x03\x03\0\x2a\x02\0\0\x26\x03\x03" + bytes(32) + b"\0\x13\x01\0"


def hello(name: str | None, *, newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED) -> bytes:
    """A real client's first message to a server of that name: one record."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = newest
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def what_openssl_reads(data: bytes) -> list[str | None]:
    """The names that a real server of TLS takes out of a connection's first bytes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    names: list[str | None] = []
    context.sni_callback = lambda _, name, __: names.append(name)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(data)
    server = context.wrap_bio(incoming, outgoing, server_side=True)
    try:
        server.do_handshake()
    except ssl.SSLError:
        pass
    return names


def framed(width: int, data: bytes) -> bytes:
    """Behind its own length."""
    return len(data).to_bytes(width, "big") + data


def extension(kind: int, data: bytes) -> bytes:
    return struct.pack(">H", kind) + framed(2, data)


def server_name(*names: bytes, kind: int = 0) -> bytes:
    entries = b"".join(bytes([kind]) + framed(2, name) for name in names)
    return extension(0, framed(2, entries))


def made(
    *extensions: bytes,
    session: bytes = bytes(32),
    suites: bytes = b"\x13\x01\x13\x02",
    compressions: bytes = b"\0",
    tail: bytes = b"",
) -> bytes:
    """A ClientHello, its message's head included."""
    body = b"\x03\x03" + bytes(range(32)) + framed(1, session) + framed(2, suites)
    body += framed(1, compressions) + framed(2, b"".join(extensions)) + tail
    return b"\x01" + framed(3, body)


def records(message: bytes, *cuts: int, kind: int = 22) -> bytes:
    """The message in records that end at these places."""
    places = [0, *cuts, len(message)]
    pieces = [message[a:b] for a, b in itertools.pairwise(places)]
    return b"".join(bytes([kind, 3, 1]) + framed(2, piece) for piece in pieces)


def asked(name: str = "good.example") -> bytes:
    """What makes OpenSSL's server read a made hello up to the name."""
    groups = extension(10, framed(2, b"\0\x1d\0\x17"))
    signatures = extension(13, framed(2, b"\x08\x04\x04\x03"))
    versions = extension(43, framed(1, b"\x03\x04"))
    share = extension(51, framed(2, b"\0\x1d" + framed(2, bytes(range(1, 33)))))
    return b"".join((server_name(name.encode()), groups, signatures, versions, share))


def forged(real: str, shown: str) -> bytes:
    """Two records, cut inside the session id: who does not join them reads the name ``shown``.

    To that reader the second record's head is the end of the session id, and its last
    five bytes are the length of cipher suites that reach into an extension without meaning.
    """
    shows = b"\x01\0" + framed(2, server_name(shown.encode()))
    suites, compressions = b"\x13\x01\x13\x02", b"\0"
    extensions = asked(real) + extension(21, shows)
    between = framed(2, suites) + framed(1, compressions) + b"\0\0" + asked(real) + bytes(4)
    session = bytes(27) + (3 + len(between)).to_bytes(2, "big") + bytes(3)
    message = made(extensions, session=session, suites=suites, compressions=compressions)
    return records(message, 4 + 2 + 32 + 1 + 20)
