"""Ports of a sandbox: which one a request is for, and how it is carried there."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator

import attrs
import h11
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from stockade_server.answers import answered
from stockade_server.errors import Refused, not_served, refusal
from stockade_server.keys import owner_of, same
from stockade_server.logins import COOKIES
from stockade_server.rates import Rates
from stockade_server.sandbox import Sandbox
from stockade_server.sandboxes import Sandboxes
from stockade_server.settings import Settings
from stockade_server.sockets import carry, refuse
from stockade_server.streams import Streamed, while_connected
from stockade_server.ways import check_port, way_to

__all__ = ["SERVICES", "Ports", "Target", "target_of"]

#: Ports that this server itself answers for a sandbox: envd and the code interpreter.
SERVICES = (49983, 49999)
_HOST = re.compile(r"(\d{1,5})-([A-Za-z0-9-]{1,64})\.(.+)")
_MOST_HEAD = 64 * 1024  #: bytes of an answer's head
_PIECE = 64 * 1024
#: Of one connection alone, whichever way it goes.
_HOPS = (
    *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer"),
    *(b"transfer-encoding", b"upgrade", b"proxy-authenticate", b"proxy-authorization"),
)
#: For this server, and no business of the sandbox.
_OURS = (b"e2b-sandbox-id", b"e2b-sandbox-port", b"e2b-traffic-access-token")


@attrs.frozen
class Target:
    """A sandbox's port."""

    sandbox_id: str
    port: int


def target_of(headers: Headers, domain: str | None) -> Target | None:
    """By ``E2b-Sandbox-Id`` and ``E2b-Sandbox-Port``, or by the host ``PORT-ID.DOMAIN``."""
    sandbox_id = headers.get("e2b-sandbox-id")
    if sandbox_id is not None:
        port = headers.get("e2b-sandbox-port", str(SERVICES[0]))
        return Target(sandbox_id, int(port) if re.fullmatch("[0-9]{1,5}", port) else 0)
    found = _HOST.fullmatch(headers.get("host", ""))
    if domain is None or found is None:
        return None
    if found[3].lower().partition(":")[0] != domain.lower().partition(":")[0]:
        return None
    return Target(found[2], int(found[1]))


class Ports:
    """ASGI middleware: requests to a sandbox's own port go there, whatever their path."""

    def __init__(
        self, app: ASGIApp, *, settings: Settings, sandboxes: Sandboxes, rates: Rates
    ) -> None:
        self._app = app
        self._rates = rates
        self._settings = settings
        self._sandboxes = sandboxes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        target = None
        if scope["type"] in ("http", "websocket"):
            target = target_of(Headers(scope=scope), self._settings.domain)
        if target is None or target.port in SERVICES:
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await self._carried(scope, receive, send, target)
            return
        request, port = Request(scope, receive), target

        async def handler(_: Request) -> Response:
            return await self._forwarded(request, port)

        await (await answered(request, handler))(scope, receive, send)

    async def _admitted(self, headers: Headers, target: Target) -> Sandbox:
        """The sandbox, which runs then, where its port may be reached. Raises Refused."""
        sandbox, port = self._sandboxes.found(target.sandbox_id), target.port
        token = headers.get("e2b-traffic-access-token", "")
        if not sandbox.wanted.rules.public and not same(token, sandbox.traffic_token):
            raise Refused(403, "the header e2b-traffic-access-token is missing, or is another's")
        self._rates.take(sandbox.owner)
        check_port(sandbox, port)
        return await self._sandboxes.woken(sandbox)

    async def _carried(self, scope: Scope, receive: Receive, send: Send, target: Target) -> None:
        """A WebSocket."""
        headers = Headers(scope=scope)
        try:
            sandbox = await self._admitted(headers, target)
            await carry(
                scope,
                receive,
                send,
                way=await way_to(sandbox, target.port),
                headers=self._headers(headers, sandbox, target.port),
                most=self._settings.max_body_bytes,
                idle_seconds=self._settings.idle_seconds,
            )
        except Exception as error:
            await refuse(send, refusal(error, target.sandbox_id))

    async def _forwarded(self, request: Request, target: Target) -> Response:
        port = target.port
        if "upgrade" in request.headers or request.method == "CONNECT":
            raise not_served("another protocol than HTTP and WebSockets", "speak one of these")
        sandbox = await self._admitted(request.headers, target)
        upstream = _Upstream(sandbox, port)
        try:
            await upstream.open()
            headers = list(self._headers(request.headers, sandbox, port))
            if "transfer-encoding" in request.headers:  # which is what the body's length is by
                headers = [one for one in headers if one[0] != b"Content-Length"]
                headers.append((b"Transfer-Encoding", b"chunked"))
            head = await upstream.ask(request, [*headers, (b"Connection", b"close")])
        except BaseException:
            await upstream.aclose()
            raise
        return Streamed(
            upstream,
            status_code=head.status_code,
            raw_headers=[one for one in head.headers if one[0] not in _HOPS],
            idle_seconds=self._settings.idle_seconds,
        )

    def _headers(
        self, headers: Headers, sandbox: Sandbox, port: int
    ) -> Iterator[tuple[bytes, bytes]]:
        """The caller's own, without what is between it and this server."""
        mask = sandbox.wanted.rules.host_mask
        for name, value in headers.raw:
            text = value.decode("latin-1")
            if name in _HOPS or name in _OURS:
                continue
            if name == b"x-api-key" and owner_of(text, self._settings.keys) is not None:
                continue
            if name == b"x-access-token" and same(text, sandbox.access_token):
                continue
            kept = _without_ours(value) if name == b"cookie" else value
            if name == b"cookie" and not kept:
                continue
            masks = name == b"host" and mask is not None
            given = (mask or "").replace("${PORT}", str(port)).encode() if masks else kept
            yield name.title(), given  # as most programs write them


def _without_ours(cookies: bytes) -> bytes:
    """Cookies for a sandbox, without that of this server's page: browsers send it to every port
    of a host."""
    found = [one.strip() for one in cookies.split(b";")]
    ours = tuple(name.encode() + b"=" for name in COOKIES)
    return b"; ".join(one for one in found if one and not one.startswith(ours))


class _Upstream:
    """One request to a program in a sandbox: what it answers may be anything."""

    def __init__(self, sandbox: Sandbox, port: int) -> None:
        self._sandbox = sandbox
        self._port = port
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST_HEAD)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._sending: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect. Raises Refused."""
        way = await way_to(self._sandbox, self._port)
        try:
            self._reader, self._writer = await asyncio.open_connection(**way.given())
        except BaseException as error:
            way.close()
            if isinstance(error, OSError):
                raise self._closed() from None
            raise

    async def ask(self, request: Request, headers: list[tuple[bytes, bytes]]) -> h11.Response:
        """Send the request, and wait for the answer's head. Raises Refused."""
        path: bytes = request.scope.get("raw_path") or request.url.path.encode()
        query: bytes = request.scope.get("query_string", b"")
        target = path + b"?" + query if query else path
        try:
            asked = h11.Request(method=request.method, target=target, headers=headers)
            self._write(self._http.send(asked))
        except h11.LocalProtocolError as error:
            raise Refused(400, f"the request cannot be passed on: {error}") from None
        self._sending = asyncio.ensure_future(self._send(request))
        head = asyncio.ensure_future(self._head())
        try:
            await asyncio.wait({self._sending, head}, return_when=asyncio.FIRST_COMPLETED)
            if not head.done():
                await self._sending  # what is wrong with the body is its caller's
                return await while_connected(request, _of(head))
            return head.result()
        finally:
            head.cancel()

    async def _send(self, request: Request) -> None:
        async for piece in request.stream():
            if piece:
                await self._pass(self._http.send(h11.Data(data=piece)))
        await self._pass(self._http.send(h11.EndOfMessage()))

    async def _pass(self, data: bytes | None) -> None:
        """A program that has answered need not read any more."""
        with contextlib.suppress(OSError):
            self._write(data)
            if self._writer is not None:
                await self._writer.drain()

    def _write(self, data: bytes | None) -> None:
        if data and self._writer is not None:
            self._writer.write(data)

    async def _head(self) -> h11.Response:
        while True:
            event = await self._event()
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise self._closed()

    async def _event(self) -> h11.Event | type[h11.PAUSED]:
        """The next thing that the program says. Raises Refused where it breaks off."""
        assert self._reader is not None
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                data = await self._reader.read(_PIECE)
                if not data and not self._sandbox.alive:  # what was cut off must not look whole
                    raise self._closed()
                self._http.receive_data(data)
        except (OSError, h11.RemoteProtocolError):
            raise self._closed() from None
        return event  # type: ignore[return-value]

    def _closed(self) -> Refused:
        return Refused(502, f"nothing answers HTTP at port {self._port} of the sandbox")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The answer's body."""
        while isinstance(event := await self._event(), h11.Data):
            yield bytes(event.data)

    async def aclose(self) -> None:
        """Let go of the connection; may be called again."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait({self._sending})
            if not self._sending.cancelled():
                self._sending.exception()  # it is known now, whoever asks for it
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()


async def _of(head: asyncio.Task[h11.Response]) -> h11.Response:
    return await head
