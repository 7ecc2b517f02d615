"""What a caller is answered where a handler raises."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from stockade_server.errors import Refused, refusal

__all__ = ["Answering", "Handler", "answered"]

Handler = Callable[[Request], Awaitable[Response]]


class Answering:
    """A handler as an ASGI application. Of a plain function Starlette would make the same, with
    a layer around each message that is sent."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await answered(Request(scope, receive, send), self._handler)
        await response(scope, receive, send)


async def answered(request: Request, handler: Handler) -> Response:
    """What the handler answers, or the refusal that it raised."""
    try:
        return await handler(request)
    except HTTPException as error:  # of the form's reader
        return _answer(Refused(error.status_code, error.detail))
    except ClientDisconnect:
        return _answer(Refused(400, "the client went away"))
    except Exception as error:
        return _answer(refusal(error, request.headers.get("e2b-sandbox-id", "")))


def _answer(refused: Refused) -> Response:
    """As the control API and the proxy before a sandbox say it."""
    said = {"code": refused.status, "message": refused.message}
    headers = {"Should-Retry": "false"} if refused.status in (429, 503) else {}
    return JSONResponse(said, refused.status, headers=headers)
