"""The head of an HTTP request as a proxy is sent it: taken apart strictly, or refused.

What stands in it is written by the code in the sandbox, and read once more by a
server. Whatever two readers could take for two things (bare line feeds, folded
lines, spaces before a colon, two lengths) would let it ask that server for another
host, or for a second thing; so nothing of that kind passes.
"""

from __future__ import annotations

import re

import attrs

from stockade.errors import StockadeError

__all__ = ["Head", "HeadError", "read_head"]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_TARGET = re.compile(r"[!-~]+\Z")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*\Z")
_VERSIONS = ("HTTP/1.1", "HTTP/1.0")
_MAX_LENGTH = 1 << 50
#: The proxy's own, and what would keep the connection open for another request.
_DROPPED = frozenset(
    {"host", "connection", "proxy-connection", "proxy-authorization", "keep-alive", "upgrade", "te"}
)


class HeadError(StockadeError):
    """The request makes no sense, or more than one."""


@attrs.frozen
class Head:
    """A request line and the headers that are passed on."""

    method: str
    target: str
    headers: tuple[str, ...]
    length: int  #: bytes of the body


def read_head(data: bytes) -> Head:
    """Of what stands before the empty line. Raises HeadError."""
    first, *lines = data.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or words[2] not in _VERSIONS:
        raise HeadError("the request line makes no sense")
    method, target, _ = words
    if not _TOKEN.match(method) or not _TARGET.match(target):
        raise HeadError("the request line makes no sense")
    headers = []
    lengths = set()
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not _TOKEN.match(name) or not _VALUE.match(value):
            raise HeadError(f"the header {name!r:.80} makes no sense")
        low = name.lower()
        if low == "transfer-encoding":
            raise HeadError("send the body with a Content-Length")
        if low == "content-length":
            lengths.add(_length(value.strip(" \t")))
        elif low not in _DROPPED:
            headers.append(line)
    if len(lengths) > 1:
        raise HeadError("there are two lengths")
    length = lengths.pop() if lengths else 0
    if length:
        headers.append(f"Content-Length: {length}")
    return Head(method, target, tuple(headers), length)


def _length(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 20 or int(text) > _MAX_LENGTH:
        raise HeadError("the Content-Length is no number")
    return int(text)
