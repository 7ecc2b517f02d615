"""The head of an HTTP request as a proxy is sent it: taken apart strictly, or refused (E10).

What stands in it is written by the code in the sandbox, and read once more by a
server. Whatever two readers could take for two things (bare line feeds, folded
lines, spaces before a colon, two lengths) would let it ask that server for another
host, or for a second thing; so nothing of that kind passes.
"""

from __future__ import annotations

import re

import attrs

from stockade.toolkit.egress.refused import RefusedError

__all__ = ["Head", "read_head"]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
#: No ``#``: a server may end the target there, or not.
_TARGET = re.compile(r"[!\"$-~]+\Z")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*\Z")
_VERSIONS = ("HTTP/1.1", "HTTP/1.0")
_MAX_LENGTH = 1 << 50
#: What the gateway writes itself, what belongs to the connection to it, and what would keep
#: the connection to the server open for another request.
_DROPPED = frozenset(
    {
        "host",
        "content-length",
        "connection",
        "proxy-connection",
        "proxy-authorization",
        "keep-alive",
        "upgrade",
        "http2-settings",
        "te",
        "trailer",
    }
)
#: What says which host was asked for, before a proxy took the request over: none did.
_CLAIMS = ("forwarded", "x-forwarded-", "x-original-host", "x-host")


@attrs.frozen
class Head:
    """A request line, and the headers that are passed on."""

    method: str
    target: str
    version: str
    headers: tuple[str, ...]
    length: int  #: bytes of the body


def read_head(data: bytes) -> Head:
    """Of what stands before the empty line. Raises RefusedError."""
    first, *lines = data.decode("latin-1").split("\r\n")
    method, target, version = _request_line(first)
    fields = [_field(line) for line in lines]
    if sum(name == "host" for name, _ in fields) > 1:
        raise RefusedError("expected one Host header, and there are several")
    length = _length(fields)
    headers = [line for line, (name, _) in zip(lines, fields, strict=True) if _passes(name)]
    if length:
        headers.append(f"Content-Length: {length}")
    return Head(method, target, version, tuple(headers), length)


def _request_line(line: str) -> tuple[str, str, str]:
    words = line.split(" ")
    if len(words) != 3 or not _TOKEN.match(words[0]) or not _TARGET.match(words[1]):
        raise RefusedError("expected a request line: METHOD http://NAME/PATH HTTP/1.1")
    if words[2] not in _VERSIONS:
        raise RefusedError(f"expected {' or '.join(_VERSIONS)}, and it is {words[2]!r:.40}")
    return words[0], words[1], words[2]


def _field(line: str) -> tuple[str, str]:
    """A header's name, as servers compare names, and its value."""
    name, colon, value = line.partition(":")
    if not colon or not _TOKEN.match(name) or not _VALUE.match(value):
        raise RefusedError(f"expected one header a line, as NAME: VALUE, and there is {line!r:.80}")
    # Servers behind CGI's variables read Content_Length as Content-Length.
    return name.lower().replace("_", "-"), value.strip(" \t")


def _length(fields: list[tuple[str, str]]) -> int:
    """The body's length: in one place, said once or alike."""
    if any(name == "transfer-encoding" for name, _ in fields):
        raise RefusedError("Transfer-Encoding is not carried: send the body with a Content-Length")
    lengths = {value for name, value in fields if name == "content-length"}
    if len(lengths) > 1:
        raise RefusedError("expected one Content-Length, and there are several")
    text = lengths.pop() if lengths else "0"
    if not (text.isascii() and text.isdigit()) or len(text) > 20 or int(text) > _MAX_LENGTH:
        raise RefusedError(f"expected a number as Content-Length, and it is {text!r:.40}")
    return int(text)


def _passes(name: str) -> bool:
    return name not in _DROPPED and not name.startswith(_CLAIMS)
