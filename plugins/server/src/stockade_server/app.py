"""The ASGI application: who may call what, and which part answers."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stockade_server import transfer
from stockade_server.bodies import Bounds, json_of, pieces_of
from stockade_server.connect import (
    deadline_of,
    end_frame,
    frame,
    keepalive_of,
    messages_of,
)
from stockade_server.control import Control
from stockade_server.errors import Refused, not_served, refusal
from stockade_server.keys import owner_of, same
from stockade_server.sandboxes import Sandbox, Sandboxes
from stockade_server.settings import Settings, is_loopback
from stockade_server.streams import Streamed, while_connected

__all__ = ["make_app"]

_Handler = Callable[[Request], Awaitable[Response]]
_Events = AsyncGenerator[dict[str, Any], None]

_STREAM_TYPE = "application/connect+json"
_LONGEST_INPUT = 600.0  #: seconds, of a stream of input whose caller states none
_INSECURE_OWNER = "insecure"  #: the agent id of everybody where no key is needed
#: Users that a caller may name: the one that the sandbox has anyway.
_USERS = ("", "user")
_UPLOADS = ("/files", "/process.Process/StreamInput")

#: What the protocol has and this server does not serve.
_UNSERVED = {
    "/templates": ("building templates", "the operator names them in stockade.toml"),
    "/v2/templates": ("building templates", "the operator names them in stockade.toml"),
    "/v3/templates": ("building templates", "the operator names them in stockade.toml"),
    "/volumes": ("volumes", "the operator can mount a folder in the template's provider string"),
    "/secrets": ("secrets", "pass a variable to the sandbox or to a command"),
    "/snapshots": ("snapshots", "read the files that you need, and write them to a new sandbox"),
    "/teams": ("teams", "each key is an owner of its own"),
}
_UNSERVED_OF_SANDBOX = {
    "snapshots": ("snapshots", "read the files that you need, and write them to a new sandbox"),
    "fork": ("forking", "create a sandbox, and write the files that you need"),
    "network": ("changing the network", "the operator names hosts in the template"),
    "metrics": ("metrics", "run a command that prints them"),
    "logs": ("logs", "a command's output is all there is; have it written to a file"),
    "refreshes": ("refreshing", "set the timeout"),
}


def make_app(settings: Settings) -> Starlette:
    """A server's application. Its lifespan's end ends all sandboxes."""
    return _App(settings).made()


class _App:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sandboxes = Sandboxes(settings)
        self._control = Control(settings, self._sandboxes)

    def made(self) -> Starlette:
        def most(path: str) -> int:
            return settings.max_upload_bytes if path in _UPLOADS else settings.max_body_bytes

        settings = self._settings
        bounds = Middleware(Bounds, most=most, idle_seconds=settings.idle_seconds)
        made = Starlette(routes=self._routes(), middleware=[bounds], lifespan=self._lifespan)
        made.state.sandboxes = self._sandboxes
        return made

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await self._sandboxes.close()

    def _routes(self) -> list[Route]:
        one = "/sandboxes/{sandbox_id}"
        return [
            self._route("/v2/sandboxes", self._create, "POST"),
            self._route("/v2/sandboxes", self._list, "GET"),
            self._route("/sandboxes", self._create, "POST"),
            self._route(one, self._get, "GET"),
            self._route(one, self._kill, "DELETE"),
            self._route(f"{one}/timeout", self._timeout, "POST"),
            self._route(f"{one}/pause", self._pause, "POST"),
            self._route(f"{one}/connect", self._connect, "POST"),
            self._route(f"/v2{one}/connect", self._connect, "POST"),
            self._route("/templates", self._templates, "GET"),
            self._route("/health", self._health, "GET"),
            self._route("/files", self._files, "GET", "POST"),
            self._route("/execute", self._execute, "POST"),
            self._route("/contexts", self._contexts, "GET", "POST"),
            self._route("/contexts/{context_id}", self._context, "DELETE"),
            self._route("/contexts/{context_id}/restart", self._restart, "POST"),
            self._route("/{service}/{method}", self._call, "POST"),
            self._route("/{rest:path}", self._other, "GET", "POST", "PUT", "PATCH", "DELETE"),
        ]

    def _route(self, path: str, handler: _Handler, *methods: str) -> Route:
        async def guarded(request: Request) -> Response:
            try:
                self._check_browser(request)
                return await handler(request)
            except HTTPException as error:  # of the form's reader
                return _answer(Refused(error.status_code, error.detail))
            except ClientDisconnect:
                return _answer(Refused(400, "the client went away"))
            except Exception as error:
                refused = refusal(error, request.headers.get("e2b-sandbox-id", ""))
                return _answer(refused)

        return Route(path, guarded, methods=list(methods))

    def _check_browser(self, request: Request) -> None:
        """Without keys a page in this machine's browser would be a caller like any other."""
        if not self._settings.insecure:
            return
        host = request.url.hostname or ""
        if "origin" in request.headers or not (is_loopback(host) or host.endswith(".localhost")):
            raise Refused(403, "without keys only programs of this machine may call")

    # -- the control API ---------------------------------------------------------------

    def _owner(self, request: Request) -> str:
        if self._settings.insecure:
            return _INSECURE_OWNER
        owner = owner_of(request.headers.get("x-api-key", ""), self._settings.keys)
        if owner is None:
            raise Refused(401, "there is no such API key; the operator makes them")
        return owner

    async def _create(self, request: Request) -> Response:
        owner, body = self._owner(request), await json_of(request)
        made = await while_connected(request, self._control.create(owner, body))
        return JSONResponse(made, 201)

    async def _list(self, request: Request) -> Response:
        found, following = self._control.list(self._owner(request), request.query_params)
        headers = {} if following is None else {"x-next-token": following}
        return JSONResponse(found, headers=headers)

    async def _get(self, request: Request) -> Response:
        return JSONResponse(self._control.get(self._owner(request), _id(request)))

    async def _kill(self, request: Request) -> Response:
        await self._control.kill(self._owner(request), _id(request))
        return Response(status_code=204)

    async def _timeout(self, request: Request) -> Response:
        owner = self._owner(request)
        self._control.set_timeout(owner, _id(request), await json_of(request))
        return Response(status_code=204)

    async def _pause(self, request: Request) -> Response:
        owner = self._owner(request)
        await self._control.pause(owner, _id(request), await json_of(request))
        return Response(status_code=204)

    async def _connect(self, request: Request) -> Response:
        owner = self._owner(request)
        found, resumed = await self._control.connect(owner, _id(request), await json_of(request))
        return JSONResponse(found, 201 if resumed else 200)

    async def _templates(self, request: Request) -> Response:
        self._owner(request)
        return JSONResponse(await self._control.templates.listed())

    async def _other(self, request: Request) -> Response:
        path = request.url.path
        parts = path.strip("/").split("/")
        if "sandboxes" in parts[:2] and parts[-1] in _UNSERVED_OF_SANDBOX:
            raise not_served(*_UNSERVED_OF_SANDBOX[parts[-1]])
        for prefix, (what, instead) in _UNSERVED.items():
            if path == prefix or path.startswith(f"{prefix}/"):
                raise not_served(what, instead)
        raise Refused(404, "there is nothing at this path")

    # -- one sandbox's services ----------------------------------------------------------

    def _reached(self, request: Request) -> Sandbox:
        """The sandbox that a request is for, whose token it must bear."""
        sandbox = self._sandboxes.reached(_named(request))
        tokens = [(sandbox.access_token, "x-access-token")]
        if request.headers.get("e2b-sandbox-port") == "49999":  # calls of contexts bear this one
            tokens.append((sandbox.traffic_token, "e2b-traffic-access-token"))
        found = [same(request.headers.get(name, ""), token) for token, name in tokens]
        if not any(found):
            raise Refused(401, "the sandbox's access token is missing, or is another's")
        _check_user(request)
        return sandbox

    async def _health(self, request: Request) -> Response:
        if "e2b-sandbox-id" in request.headers:
            self._sandboxes.reached(_named(request))
        return Response(status_code=204)

    async def _files(self, request: Request) -> Response:
        sandbox, settings = self._reached(request), self._settings
        if request.method == "POST":
            return await transfer.upload(request, sandbox, settings.max_upload_bytes)
        return await transfer.download(request, sandbox, settings.idle_seconds)

    async def _execute(self, request: Request) -> Response:
        sandbox, body = self._reached(request), await json_of(request)
        context = sandbox.contexts.chosen(body)
        return self._streamed(sandbox.contexts.execute(context, body), "application/x-ndjson")

    async def _contexts(self, request: Request) -> Response:
        contexts = self._reached(request).contexts
        if request.method == "POST":
            return JSONResponse(contexts.make(await json_of(request)), 201)
        return JSONResponse(contexts.listed())

    async def _context(self, request: Request) -> Response:
        await self._reached(request).contexts.remove(request.path_params["context_id"])
        return Response(status_code=204)

    async def _restart(self, request: Request) -> Response:
        await self._reached(request).contexts.restart(request.path_params["context_id"])
        return Response(status_code=204)

    # -- Connect -----------------------------------------------------------------------

    async def _call(self, request: Request) -> Response:
        """A call of envd's two services."""
        name = f"{request.path_params['service']}/{request.path_params['method']}"
        if name.split("/", maxsplit=1)[0] not in ("process.Process", "filesystem.Filesystem"):
            return await self._other(request)
        sandbox = self._reached(request)
        streams = name in _STREAMS or name == "process.Process/StreamInput"
        wanted = _STREAM_TYPE if streams else "application/json"
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind != wanted:
            raise Refused(415, f"send {wanted}; this server speaks Connect in JSON")
        if streams:
            return await self._stream(request, sandbox, name)
        return await self._unary(request, sandbox, name)

    async def _unary(self, request: Request, sandbox: Sandbox, name: str) -> Response:
        call = _CALLS.get(name)
        try:
            if call is None:
                raise Refused(501, f"{name} is not served")
            work = call(sandbox)(await json_of(request))
            return JSONResponse(await while_connected(request, work))
        except Exception as error:
            refused = refusal(error, sandbox.sandbox_id)
            said = {"code": refused.code, "message": refused.message}
            return JSONResponse(said, refused.status)

    async def _stream(self, request: Request, sandbox: Sandbox, name: str) -> Response:
        most = self._settings.max_body_bytes
        if name not in _STREAMS:
            messages = messages_of(pieces_of(request, self._settings.max_upload_bytes), most)
            return await self._taken(request, sandbox, messages)
        body = await request.body()
        messages = messages_of(_whole(body), most)
        asked = [message async for message in messages]
        if len(asked) != 1:
            raise Refused(400, "the stream has one message, the request")
        keepalive, deadline = keepalive_of(request.headers), deadline_of(request.headers)
        events = _STREAMS[name](sandbox)(asked[0], deadline, keepalive)
        return self._streamed(_framed(events, sandbox), _STREAM_TYPE)

    async def _taken(
        self, request: Request, sandbox: Sandbox, messages: AsyncIterator[dict[str, Any]]
    ) -> Response:
        """The client's stream, which is read to its end before it is answered."""
        seconds = deadline_of(request.headers) or _LONGEST_INPUT
        try:
            await asyncio.wait_for(sandbox.processes.stream_input(messages), seconds)
            said = frame({}) + end_frame()
        except Exception as error:
            said = end_frame(refusal(error, sandbox.sandbox_id))
        return Response(said, media_type=_STREAM_TYPE)

    def _streamed(self, pieces: AsyncGenerator[bytes, None], kind: str) -> Response:
        return Streamed(pieces, media_type=kind, idle_seconds=self._settings.idle_seconds)


_CALLS: Mapping[str, Callable[[Sandbox], Callable[[Mapping[str, Any]], Any]]] = {
    "process.Process/List": lambda one: one.processes.listed,
    "process.Process/SendInput": lambda one: one.processes.send_input,
    "process.Process/CloseStdin": lambda one: one.processes.close_stdin,
    "process.Process/SendSignal": lambda one: one.processes.send_signal,
    "process.Process/Update": lambda one: one.processes.update,
    "filesystem.Filesystem/Stat": lambda one: one.filesystem.stat,
    "filesystem.Filesystem/ListDir": lambda one: one.filesystem.list_dir,
    "filesystem.Filesystem/MakeDir": lambda one: one.filesystem.make_dir,
    "filesystem.Filesystem/Move": lambda one: one.filesystem.move,
    "filesystem.Filesystem/Remove": lambda one: one.filesystem.remove,
    "filesystem.Filesystem/CreateWatcher": lambda one: one.filesystem.create_watcher,
    "filesystem.Filesystem/GetWatcherEvents": lambda one: one.filesystem.get_watcher_events,
    "filesystem.Filesystem/RemoveWatcher": lambda one: one.filesystem.remove_watcher,
}
_STREAMS: Mapping[
    str, Callable[[Sandbox], Callable[[Mapping[str, Any], float | None, float], _Events]]
] = {
    "process.Process/Start": lambda one: one.processes.start,
    "process.Process/Connect": lambda one: one.processes.connect,
    "filesystem.Filesystem/WatchDir": lambda one: one.filesystem.watch_dir,
}


async def _framed(events: _Events, sandbox: Sandbox) -> AsyncGenerator[bytes, None]:
    """Events as frames; an error is in the last one."""
    try:
        async with contextlib.aclosing(events):
            async for event in events:
                yield frame(event)
        yield end_frame()
    except Exception as error:
        yield end_frame(refusal(error, sandbox.sandbox_id))


async def _whole(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _id(request: Request) -> str:
    found: str = request.path_params["sandbox_id"]
    return found


def _named(request: Request) -> str:
    sandbox_id = request.headers.get("e2b-sandbox-id")
    if sandbox_id is None:
        raise Refused(400, "the header E2b-Sandbox-Id is missing; set E2B_SANDBOX_URL for the SDK")
    port = request.headers.get("e2b-sandbox-port", "49983")
    if port not in ("49983", "49999"):
        raise not_served("a port of the sandbox", "fetch from it with a command inside")
    return sandbox_id


def _check_user(request: Request) -> None:
    """Commands and files are the sandbox's own user's: none other is promised."""
    user = request.query_params.get("username", "")
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            user = base64.b64decode(given, validate=True).decode().partition(":")[0]
        except (binascii.Error, ValueError):
            raise Refused(400, "Authorization is no Basic user") from None
    if user not in _USERS:
        raise not_served(f"the user {user!r:.40}", "leave user out: there is one")


def _answer(refused: Refused) -> Response:
    """As the control API and the proxy before a sandbox say it."""
    said = {"code": refused.status, "message": refused.message}
    headers = {"Should-Retry": "false"} if refused.status in (429, 503) else {}
    return JSONResponse(said, refused.status, headers=headers)
