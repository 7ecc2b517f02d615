"""``/ui``: a page for people. It is static, and asks for what it shows; whatever comes from inside
a sandbox is put into it as text."""

from __future__ import annotations

import datetime as dt
import functools
import importlib.resources
import secrets
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from stockade_server.answers import Handler, answered
from stockade_server.errors import Refused
from stockade_server.logins import Login, Logins, check_origin
from stockade_server.looking import events
from stockade_server.rates import Rates
from stockade_server.sandbox import Sandbox
from stockade_server.sandboxes import INSECURE_OWNER, Sandboxes
from stockade_server.settings import Settings, is_loopback
from stockade_server.streams import Streamed

__all__ = ["Ui", "guarded"]

_MOST_SHOWN = 30  #: entries of a sandbox's log
_MOST_WORDS = 200  #: characters of a command
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with none, browsers say nothing of a form's origin
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def guarded(response: Response) -> Response:
    """With the headers under which a browser runs nothing of anybody else's."""
    response.headers.update(_HEADERS)
    return response


class Ui:
    """The page's routes."""

    def __init__(self, settings: Settings, sandboxes: Sandboxes, rates: Rates) -> None:
        self._settings = settings
        self._sandboxes = sandboxes
        self._rates = rates
        self._logins = Logins(settings.keys)
        #: Of everybody, where no key is needed.
        self._guard = secrets.token_urlsafe(32)

    def routes(self) -> list[Route]:
        one = "/ui/sandboxes/{sandbox_id}"
        return [
            self._route("/ui", self._page, "GET"),
            self._route("/ui/style.css", functools.partial(_asset, "style.css", "text/css"), "GET"),
            self._route(
                "/ui/script.js", functools.partial(_asset, "script.js", "text/javascript"), "GET"
            ),
            self._route("/ui/login", self._enter, "POST"),
            self._route("/ui/logout", self._leave, "POST"),
            self._route("/ui/sandboxes", self._list, "GET"),
            self._route(f"{one}/output", self._output, "GET"),
            self._route(f"{one}/end", self._end, "POST"),
        ]

    def _route(self, path: str, handler: Handler, method: str) -> Route:
        async def checked(request: Request) -> Response:
            host = request.url.hostname or ""
            if self._settings.insecure and not is_loopback(host):
                raise Refused(403, "without keys only this machine's browsers may look")
            return await handler(request)

        async def endpoint(request: Request) -> Response:
            return guarded(await answered(request, checked))

        return Route(path, endpoint, methods=[method])

    # -- who looks -----------------------------------------------------------------

    def _login(self, request: Request) -> Login | None:
        if self._settings.insecure:
            return Login(INSECURE_OWNER, self._guard, 0.0)
        return self._logins.of(request)

    def _looker(self, request: Request) -> Login:
        login = self._login(request)
        if login is None:
            raise Refused(401, "log in first")
        request.scope["stockade.owner"] = login.owner
        self._rates.take(login.owner)
        return login

    async def _page(self, request: Request) -> Response:
        name = "login.html" if self._login(request) is None else "index.html"
        return await _asset(name, "text/html", request)

    async def _enter(self, request: Request) -> Response:
        check_origin(request)
        key = (await request.form(max_files=0, max_fields=4)).get("key", "")
        response = RedirectResponse("/ui", 303)
        self._logins.enter(request, str(key), response)
        return response

    async def _leave(self, request: Request) -> Response:
        check_origin(request, self._looker(request).guard)
        response = Response(status_code=204)
        self._logins.leave(request, response)
        return response

    # -- what is seen --------------------------------------------------------------

    async def _list(self, request: Request) -> Response:
        login = self._looker(request)
        shown = [_shown(one) for one in reversed(self._sandboxes.all_of(login.owner))]
        about = {"guard": login.guard, "now": time.time(), "login": not self._settings.insecure}
        return JSONResponse({"sandboxes": shown, **about})

    async def _output(self, request: Request) -> Response:
        sandbox = self._own(request, self._looker(request))
        return Streamed(
            events(sandbox),
            media_type="text/event-stream",
            idle_seconds=self._settings.idle_seconds,
        )

    async def _end(self, request: Request) -> Response:
        login = self._looker(request)
        check_origin(request, login.guard)
        await self._sandboxes.end(self._own(request, login))
        return Response(status_code=204)

    def _own(self, request: Request, login: Login) -> Sandbox:
        return self._sandboxes.owned(request.path_params["sandbox_id"], login.owner)


async def _asset(name: str, kind: str, _: Request) -> Response:
    return Response(_content(name), media_type=kind)


@functools.cache
def _content(name: str) -> bytes:
    return (importlib.resources.files("stockade_server") / "page" / name).read_bytes()


def _shown(sandbox: Sandbox) -> dict[str, Any]:
    return {
        "id": sandbox.sandbox_id,
        "template": sandbox.template.name,
        "wall": sandbox.session.provider.name,
        "state": sandbox.state,
        "startedAt": sandbox.started_at,
        "endsAt": sandbox.ends_at,
        "metadata": dict(sandbox.wanted.metadata),
        "running": [one.words[:_MOST_WORDS] for one in sandbox.processes.running()],
        "verdict": sandbox.processes.last_end,
        "log": [
            {"time": _clock(one.at), "level": one.level, "message": one.message}
            for one in sandbox.journal.latest(_MOST_SHOWN)
        ],
    }


def _clock(milliseconds: int) -> str:
    when = dt.datetime.fromtimestamp(milliseconds / 1000, dt.timezone.utc)
    return when.strftime("%H:%M:%S")
