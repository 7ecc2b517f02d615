"""WebSockets to a sandbox's port: messages are carried both ways, each side held to the other."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Iterable
from typing import Any

import anyio
from starlette.types import Message, Receive, Scope, Send
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Subprotocol

from stockade_server.errors import Refused
from stockade_server.ways import Way

__all__ = ["carry", "refuse"]

_log = logging.getLogger("stockade.server.sockets")
_log.setLevel(logging.CRITICAL)  # what a program inside does wrong is its caller's to know

_OPEN_SECONDS = 10.0
_CLOSE_SECONDS = 5.0
_WAITING = 2  #: messages of the program that wait for a client who reads slowly
_BROKEN_OFF = (OSError, WebSocketException)
_GONE = 1001  #: the code of an end that nobody asked for


class _Straight(connect):
    """A program inside must not send this server elsewhere."""

    def process_redirect(self, exc: Exception) -> Exception:
        """Called by the library where the answer is no success."""
        return exc


async def refuse(send: Send, refused: Refused) -> None:
    """Answer the request for a WebSocket as any other request is refused."""
    body = json.dumps({"code": refused.status, "message": refused.message}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    start = "websocket.http.response.start"
    await send({"type": start, "status": refused.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})


async def carry(
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    way: Way,
    headers: Iterable[tuple[bytes, bytes]],
    most: int,
    idle_seconds: float,
) -> None:
    """Open the program's side, then the caller's, and carry messages until one side ends.

    ``most``: the bytes of a message. A side that does not read for ``idle_seconds`` is left.
    Raises Refused where the program speaks no WebSocket; the caller is not answered then.
    """
    program = await _opened(scope, way, list(headers), most)
    try:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept", "subprotocol": program.subprotocol})
        await _carried(program, receive, send, idle_seconds)
    finally:
        with contextlib.suppress(OSError, WebSocketException):
            with anyio.fail_after(_CLOSE_SECONDS):
                await program.close()
        program.transport.abort()  # where the program has not said that it ends, too


async def _opened(
    scope: Scope, way: Way, headers: list[tuple[bytes, bytes]], most: int
) -> ClientConnection:
    named = {name.lower(): value.decode("latin-1") for name, value in headers}
    more = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in headers
        if name.lower() != b"host" and not name.lower().startswith(b"sec-websocket-")
    ]
    path, query = scope.get("raw_path") or scope["path"].encode(), scope["query_string"]
    target = (path + b"?" + query if query else path).decode("latin-1")
    protocols = [Subprotocol(one) for one in scope.get("subprotocols", [])]
    try:
        return await _Straight(
            f"ws://{named.get(b'host', 'localhost')}{target}",
            **way.given(),
            additional_headers=more,
            subprotocols=protocols or None,
            user_agent_header=None,
            compression=None,
            proxy=None,
            open_timeout=_OPEN_SECONDS,
            ping_interval=None,  # the caller's own are for both
            close_timeout=_CLOSE_SECONDS,
            max_size=most,
            max_queue=_WAITING,
            logger=_log,
        )
    except (OSError, WebSocketException, EOFError):
        raise Refused(502, "nothing answers WebSockets at this port of the sandbox") from None
    except ValueError as error:
        raise Refused(400, f"the request cannot be passed on: {error}") from None


async def _carried(
    program: ClientConnection, receive: Receive, send: Send, idle_seconds: float
) -> None:
    """Until either side ends, whose code the other is given."""
    ways = {
        asyncio.ensure_future(_inward(program, receive, idle_seconds)),
        asyncio.ensure_future(_outward(program, send, idle_seconds)),
    }
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.wait(ways)
    for way in ways:
        error = None if way.cancelled() else way.exception()
        if error is not None and not isinstance(error, _BROKEN_OFF):
            raise error
    with contextlib.suppress(OSError, RuntimeError):
        with anyio.fail_after(_CLOSE_SECONDS):
            await send(_end(program))


def _end(program: ClientConnection) -> Message:
    """The end as the caller gets it, who may have gone already."""
    code = _sendable(program.close_code)
    reason = (program.close_reason or "") if code == program.close_code else ""
    return {"type": "websocket.close", "code": code, "reason": reason}


def _sendable(code: int | None) -> int:
    """The code of one side's end for the other. Some say that there was none, and are not sent."""
    if code is None or code in (1005, 1006, 1015) or not 1000 <= code < 5000:
        return _GONE
    return code


async def _inward(program: ClientConnection, receive: Receive, idle_seconds: float) -> None:
    while True:
        message: dict[str, Any] = dict(await receive())
        if message["type"] == "websocket.disconnect":
            words = message.get("reason") or ""
            with anyio.fail_after(_CLOSE_SECONDS):
                await program.close(_sendable(message.get("code")), words)
            return
        text = message.get("text")
        data = message["bytes"] if text is None else text
        with anyio.fail_after(idle_seconds):
            await program.send(data)


async def _outward(program: ClientConnection, send: Send, idle_seconds: float) -> None:
    while True:
        try:
            data = await program.recv()
        except ConnectionClosed:
            return
        kind = "text" if isinstance(data, str) else "bytes"
        with anyio.fail_after(idle_seconds):
            await send({"type": "websocket.send", kind: data})
