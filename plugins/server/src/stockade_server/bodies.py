"""Requests' bodies: bounded in bytes and in time, before anything reads them."""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stockade_server.errors import Refused

__all__ = ["Bounds", "json_of", "object_of", "pieces_of"]


class Bounds:
    """ASGI middleware: a body that is too long, or does not come, is refused (413, 408)."""

    def __init__(self, app: ASGIApp, *, most: Callable[[Scope], int], idle_seconds: float) -> None:
        """``most``: the bytes that a request's body may have."""
        self._app = app
        self._most = most
        self._idle = idle_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most, taken, whole = self._most(scope), 0, False

        async def bounded() -> Message:
            nonlocal taken, whole
            if whole:  # what comes now is the client's going away
                return await receive()
            try:
                with anyio.fail_after(self._idle):
                    message = await receive()
            except TimeoutError:
                raise Refused(408, "the request's body did not come") from None
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                whole = not message.get("more_body", False)
                if taken > most:
                    raise Refused(413, f"the request's body is longer than {most} bytes")
            return message

        await self._app(scope, bounded, send)


async def json_of(request: Request) -> dict[str, Any]:
    """The body as a JSON object; empty where there is none."""
    return object_of(await request.body())


def object_of(data: bytes) -> dict[str, Any]:
    """A JSON object. Raises Refused for anything else."""
    if not data.strip():
        return {}
    try:
        text = data.decode()  # of bytes `loads` takes UTF-16, too, and halves of surrogates
        found = json.loads(text)
        if "\\u" in text:  # half a surrogate is in no text that a system takes
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise Refused(400, "the request's body is no JSON") from None
    if not isinstance(found, dict):
        raise Refused(400, "the request's body is no JSON object")
    return found


async def pieces_of(request: Request, most: int) -> AsyncIterator[bytes]:
    """A body's bytes, unpacked where it is gzip; ``most`` holds for what comes out."""
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding not in ("identity", "gzip"):
        raise Refused(415, f"Content-Encoding {encoding:.40} is not understood; send gzip or none")
    try:
        async for piece in _plain(request) if encoding == "identity" else _unpacked(request, most):
            yield piece
    except ClientDisconnect:
        raise Refused(400, "the client went away") from None


async def _plain(request: Request) -> AsyncIterator[bytes]:
    async for piece in request.stream():
        if piece:
            yield piece


async def _unpacked(request: Request, most: int) -> AsyncIterator[bytes]:
    unpacker, total = zlib.decompressobj(wbits=31), 0
    async for packed in request.stream():
        rest = packed
        while rest:
            if unpacker.eof:  # it would keep all that still comes
                raise Refused(400, "the body goes on after its gzip; send a single member")
            try:
                piece = unpacker.decompress(rest, 1 << 20)  # a bomb goes off by the piece
            except zlib.error:
                raise Refused(400, "the request's body is no gzip") from None
            rest = unpacker.unconsumed_tail or unpacker.unused_data
            total += len(piece)
            if total > most:
                raise Refused(413, f"the request's body is longer than {most} bytes unpacked")
            if piece:
                yield piece
    if not unpacker.eof:
        raise Refused(400, "the request's body ends in the middle of its gzip")
