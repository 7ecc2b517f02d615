"""Answers that come piece by piece, and work that ends when its caller goes away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

import anyio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from stockade_server.errors import Refused

__all__ = ["Last", "Streamed", "while_connected"]

_log = logging.getLogger("stockade.server")

_T = TypeVar("_T")


async def _gone(receive: Receive) -> None:
    """Wait until the client goes away."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _first(work: asyncio.Task[Any], receive: Receive) -> bool:
    """Wait for work, or for the client's going away, which cancels it; whether it was done."""
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        return work.done()
    finally:
        for task in (gone, work):
            task.cancel()
        await asyncio.wait({work, gone})
        for task in (gone, work):
            if not task.cancelled():
                task.exception()  # it is known now, whoever asks for it


async def while_connected(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """The work's result; it is cancelled when the client goes away. Read the body before."""
    task = asyncio.ensure_future(work)
    if not await _first(task, request.receive):
        raise Refused(400, "the client went away")
    return task.result()


class Pieces(Protocol):
    """What a body is made of, such as a generator."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> object: ...


class Last(bytes):
    """A body's last piece, where its maker knows that: it goes with the body's end."""


class Streamed(Response):
    """A body of pieces. A client that goes away, or does not read, ends what makes them."""

    def __init__(
        self,
        pieces: Pieces,
        *,
        idle_seconds: float,
        media_type: str | None = None,
        headers: dict[str, str] | None = None,
        status_code: int = 200,
        raw_headers: Sequence[tuple[bytes, bytes]] | None = None,
    ) -> None:
        self.pieces = pieces
        self.idle_seconds = idle_seconds
        self.status_code = status_code
        self.media_type = media_type
        self.background = None
        if raw_headers is None:
            self.init_headers(headers)
        else:  # of somebody else's answer: as they are
            self.raw_headers = list(raw_headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.ensure_future(self._send(send))
        try:
            done = await _first(task, receive)
        finally:
            await self.pieces.aclose()
        failed = task.exception() if done else None
        if isinstance(failed, (Refused, TimeoutError)):
            _log.info("an answer is broken off: %s", failed)  # and the connection is closed
        elif failed is not None:
            raise failed

    async def _send(self, send: Send) -> None:
        head = {"type": "http.response.start", "headers": self.raw_headers}
        await send({**head, "status": self.status_code})
        async for piece in self.pieces:
            more = not isinstance(piece, Last)
            body = {"type": "http.response.body", "body": piece, "more_body": more}
            # Before Python 3.12 `asyncio.wait_for` may swallow the cancellation that the client's
            # going away is: the program was read on then, for nobody and without an end.
            with anyio.fail_after(self.idle_seconds):
                await send(body)
            if not more:
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})
