"""Requests as OpenTelemetry spans, where its API is installed; sessions and commands are in them.

A span holds what the access log does: no header, no query, and of a sandbox's port no path.
"""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Traced"]

_MOST_PATH = 200  #: characters
_STARTS = ("http.response.start", "websocket.http.response.start")


class Traced:
    """ASGI middleware. A caller's ``traceparent`` makes its span the parent; what is opened and
    run for a request is its child, since core's threads take the context along."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        kind_of: Callable[[str], str],
        port_of: Callable[[Headers], int | None],
    ) -> None:
        """``kind_of``: a path's, of few; ``port_of``: the sandbox's port that a request is for."""
        self._app = app
        self._kind_of = kind_of
        self._port_of = port_of
        self._tracer = trace.get_tracer("stockade.server")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        port, method = self._port_of(headers), scope.get("method", "WEBSOCKET")
        about: dict[str, str | int] = {"http.request.method": method}
        if port is None:
            about["url.path"] = scope["path"][:_MOST_PATH]
        kind = self._kind_of(scope["path"]) if port is None else "port"
        with self._tracer.start_as_current_span(
            f"{method} {kind}",
            context=propagate.extract(dict(headers.items())),
            kind=SpanKind.SERVER,
            attributes=about,
        ) as span:

            async def noting(message: Message) -> None:
                if message["type"] in _STARTS:
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        span.set_status(Status(StatusCode.ERROR))
                await send(message)

            await self._app(scope, receive, noting)
