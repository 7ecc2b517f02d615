"""Connect's protocol in JSON: frames of streams, errors, deadlines.

A frame is a byte of flags, four of length and JSON. Flag 2 marks the last one of a stream.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import AsyncIterator, Mapping
from typing import Any

from stockade_server.bodies import object_of
from stockade_server.errors import Refused

__all__ = [
    "bytes_of",
    "data_event",
    "deadline_of",
    "end_frame",
    "frame",
    "keepalive_of",
    "messages_of",
    "text_of",
    "texts_of",
]

_HEAD = struct.Struct(">BI")
_PACKED, _END = 1, 2
#: What a client asks for with ``Keepalive-Ping-Interval``, and gets without.
_KEEPALIVE = 30.0
_LONGEST_DEADLINE = 30 * 86_400.0


def frame(message: Mapping[str, Any] | bytes) -> bytes:
    """One message of a stream; bytes are JSON already."""
    data = message if isinstance(message, bytes) else _json(message)
    return _HEAD.pack(0, len(data)) + data


def data_event(kind: str, data: bytes) -> bytes:
    """The message of a program's output, made without a reader of each character: base64 needs
    no quoting. ``kind`` is the server's own word."""
    return b'{"event":{"data":{"%s":"%s"}}}' % (kind.encode(), base64.b64encode(data))


def end_frame(error: Refused | None = None) -> bytes:
    """The end of a stream, with what went wrong."""
    said = {} if error is None else {"error": {"code": error.code, "message": error.message}}
    data = _json(said)
    return _HEAD.pack(_END, len(data)) + data


def _json(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


async def messages_of(pieces: AsyncIterator[bytes], most: int) -> AsyncIterator[dict[str, Any]]:
    """The messages of a client's stream, each of at most ``most`` bytes. Raises Refused."""
    held = bytearray()
    async for piece in pieces:
        held += piece
        while len(held) >= _HEAD.size:
            flags, length = _HEAD.unpack_from(held)
            if flags & _PACKED:
                raise Refused(501, "compressed messages are not understood; send none")
            if length > most:
                raise Refused(413, f"a message is longer than {most} bytes")
            if len(held) < _HEAD.size + length:
                break
            data = bytes(held[_HEAD.size : _HEAD.size + length])
            del held[: _HEAD.size + length]
            if flags & _END:
                return
            yield object_of(data)
    if held:
        raise Refused(400, "the stream ends in the middle of a message")


def deadline_of(headers: Mapping[str, str]) -> float | None:
    """Seconds that the caller gives it; None where it states none."""
    given = headers.get("connect-timeout-ms")
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and len(given) <= 10):
        raise Refused(400, "Connect-Timeout-Ms is a number of milliseconds, of 10 digits at most")
    return min(max(int(given), 1) / 1000, _LONGEST_DEADLINE)


def keepalive_of(headers: Mapping[str, str]) -> float:
    """Seconds after which a silent stream shows that it is there."""
    given = headers.get("keepalive-ping-interval", "")
    if given.isascii() and given.isdigit() and len(given) <= 4:
        return min(max(float(given), 1.0), 2 * _KEEPALIVE)
    return _KEEPALIVE


def bytes_of(value: object) -> bytes:
    """Bytes, which JSON holds as base64."""
    if not isinstance(value, str):
        raise Refused(400, "bytes are base64 in a text")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(400, "bytes are base64 in a text") from None


def text_of(table: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """A text without NUL. Raises Refused for anything else."""
    value = table.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or "\0" in value:
        raise Refused(400, f"{name} is a text without NUL")
    return value


def texts_of(table: Mapping[str, Any], name: str) -> dict[str, str]:
    """An object of texts; empty where there is none. Raises Refused for anything else."""
    value = table.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise Refused(400, f"{name} is an object of texts")
    return value
