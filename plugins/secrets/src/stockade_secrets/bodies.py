"""An answer's head and body on the way in: decoded as far as it can be, and masked (E11)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import h11

from stockade.toolkit.egress import RefusedError
from stockade_secrets.masking import Masker

__all__ = ["Body", "masked_head"]

_GZIP = ("gzip", "x-gzip")
_DEFLATE = "deflate"
_IDENTITY = "identity"
#: What is decoded at once: a bomb is passed on piece by piece, as any long answer.
_PIECE = 64 * 1024
_PARTIAL = 206
#: Of the connection to the server, or an invitation to go elsewhere by another protocol.
_DROPPED = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"transfer-encoding",
        b"trailer",
        b"upgrade",
        b"alt-svc",
        b"sec-websocket-extensions",
    }
)


def masked_head(
    response: h11.Response | h11.InformationalResponse, masker: Masker, *, decoded: bool = False
) -> list[tuple[bytes, bytes]]:
    """The headers for the program; ``decoded``: the body's length is no longer the server's."""
    dropped = _DROPPED | ({b"content-length", b"content-encoding"} if decoded else frozenset())
    return [
        (masker.all_of(name), masker.all_of(value))
        for name, value in response.headers.raw_items()
        if name.lower() not in dropped
    ]


class Body:
    """The body of one answer."""

    def __init__(self, response: h11.Response, masker: Masker, *, passes: bool) -> None:
        """``passes``: what cannot be looked into comes in; else RefusedError is raised."""
        codings = _codings(response.headers)
        self._masker: Masker | None = masker
        self._decoder: _Decoder | None = None
        if response.status_code == _PARTIAL and not passes:
            raise RefusedError("the server answers with a part, and none was asked for")
        if codings and len(codings) == 1 and codings[0] in (*_GZIP, _DEFLATE):
            self._decoder = _Decoder(codings[0])
        elif codings:
            if not passes:
                raise RefusedError(
                    f"the answer's encoding {', '.join(codings)!r:.40} cannot be looked into: "
                    "ask for gzip, or have it passed (uninspected='pass')"
                )
            self._masker = None

    @property
    def decoded(self) -> bool:
        return self._decoder is not None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What the program may have by now. Raises RefusedError for broken encodings."""
        if self._masker is None:
            yield data
            return
        for piece in (data,) if self._decoder is None else self._decoder.feed(data):
            if sure := self._masker.feed(piece):
                yield sure

    def end(self) -> bytes:
        return b"" if self._masker is None else self._masker.flush()


def _codings(headers: Sequence[tuple[bytes, bytes]]) -> list[str]:
    values = [value for name, value in headers if name.lower() == b"content-encoding"]
    words = b",".join(values).decode("latin-1").lower().split(",")
    return [word.strip() for word in words if word.strip() not in ("", _IDENTITY)]


class _Decoder:
    def __init__(self, coding: str) -> None:
        self._gzip = coding in _GZIP
        self._inflate = self._new()
        self._begun = False

    def _new(self, raw: bool = False) -> zlib._Decompress:
        return zlib.decompressobj(31 if self._gzip else -15 if raw else 15)

    def feed(self, data: bytes) -> Iterator[bytes]:
        if not self._begun and data and not self._gzip and data[0] & 0x0F != 8:
            self._inflate = self._new(raw=True)  # as some servers send it
        self._begun = self._begun or bool(data)
        try:
            yield from self._inflated(data)
        except zlib.error:
            raise RefusedError("the answer is not encoded as it says") from None

    def _inflated(self, data: bytes) -> Iterator[bytes]:
        while data or self._inflate.unconsumed_tail:
            if self._inflate.eof:
                if not self._gzip or not data.strip(b"\0"):
                    return  # what follows belongs to nothing
                self._inflate = self._new()  # another member
            piece = self._inflate.decompress(data, _PIECE)
            if piece:
                yield piece
            data = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
            if not piece and not self._inflate.eof and not data:
                return
