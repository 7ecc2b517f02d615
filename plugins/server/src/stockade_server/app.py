"""The ASGI application: who may call what, and which part answers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Scope

from stockade_server.answers import Answering, Handler
from stockade_server.bodies import Bounds, json_of
from stockade_server.control import Control
from stockade_server.errors import Refused, not_served
from stockade_server.inside import CONNECT, Inside
from stockade_server.keys import owner_of
from stockade_server.openapi import document, page
from stockade_server.ports import SERVICES, Ports, target_of
from stockade_server.rates import Rates
from stockade_server.sandboxes import INSECURE_OWNER, Sandboxes
from stockade_server.settings import Settings, is_loopback
from stockade_server.snapshots import Snapshots
from stockade_server.streams import while_connected
from stockade_server.ui import Ui, guarded
from stockade_server.watching import AccessLog, Counts, Watched, kind_of

__all__ = ["make_app"]

_UPLOADS = ("/files", "/process.Process/StreamInput")

#: What the protocol has and this server does not serve.
_UNSERVED = {
    "/templates": ("building templates", "the operator names them in stockade.toml"),
    "/v2/templates": ("building templates", "the operator names them in stockade.toml"),
    "/v3/templates": ("building templates", "the operator names them in stockade.toml"),
    "/volumes": ("volumes", "the operator can mount a folder in the template's provider string"),
    "/secrets": ("secrets", "pass a variable to the sandbox or to a command"),
    "/teams": ("teams", "each key is an owner of its own"),
    "/files/compose": ("composing files", "run cat inside"),
}
_UNSERVED_OF_SANDBOX = {
    "resume": ("resuming by this call", "call connect, which resumes"),
}


def make_app(settings: Settings) -> Starlette:
    """A server's application. Its lifespan's end ends all sandboxes."""
    return _App(settings).made()


class _App:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sandboxes = Sandboxes(settings)
        self._snapshots = Snapshots(settings)
        self._control = Control(settings, self._sandboxes, self._snapshots)
        self._rates = Rates(settings.max_requests_per_second)
        self._inside = Inside(settings, self._sandboxes, self._rates)
        self._ui = Ui(settings, self._sandboxes, self._rates)
        self._counts = Counts()
        self._log: AccessLog | None = None

    def made(self) -> Starlette:
        """Raises OSError where the log cannot be written."""
        settings, path = self._settings, self._settings.access_log
        self._log = AccessLog(path) if path is not None else None
        middleware = [
            Middleware(Watched, counts=self._counts, log=self._log, port_of=self._port_of),
            Middleware(Bounds, most=self._most, idle_seconds=settings.idle_seconds),
            Middleware(Ports, settings=settings, sandboxes=self._sandboxes, rates=self._rates),
        ]
        with contextlib.suppress(ModuleNotFoundError):  # of stockade-server[otel]
            from stockade_server.tracing import Traced

            middleware.insert(1, Middleware(Traced, kind_of=kind_of, port_of=self._port_of))
        made = Starlette(routes=self._routes(), middleware=middleware, lifespan=self._lifespan)
        made.state.sandboxes = self._sandboxes
        return made

    def _most(self, scope: Scope) -> int:
        """The bytes that a request's body may have."""
        to_port = self._port_of(Headers(scope=scope)) is not None
        uploads = to_port or scope["path"] in _UPLOADS
        return self._settings.max_upload_bytes if uploads else self._settings.max_body_bytes

    def _port_of(self, headers: Headers) -> int | None:
        """The sandbox's own port that a request is for."""
        target = target_of(headers, self._settings.domain)
        return None if target is None or target.port in SERVICES else target.port

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        await self._sandboxes.begin()
        try:
            yield
        finally:
            await self._sandboxes.close()
            self._snapshots.close()
            if self._log is not None:
                self._log.close()

    def _routes(self) -> list[Route]:
        api = self._api()
        described, shown = document(api), page(api)

        async def openapi(_: Request) -> Response:
            return guarded(JSONResponse(described))

        async def docs(_: Request) -> Response:
            return guarded(HTMLResponse(shown))

        return [
            *api,
            *self._ui.routes(),
            self._route("/openapi.json", openapi, "GET"),
            self._route("/docs", docs, "GET"),
            self._route("/{rest:path}", self._other, "GET", "POST", "PUT", "PATCH", "DELETE"),
        ]

    def _api(self) -> list[Route]:
        one, inside = "/sandboxes/{sandbox_id}", self._inside
        return [
            # They are looked through in this order, and most requests are these.
            *(self._route(f"/{name}/{{method}}", inside.call, "POST") for name in CONNECT),
            self._route("/files", inside.files, "GET", "POST"),
            self._route("/execute", inside.execute, "POST"),
            self._route("/v2/sandboxes", self._create, "POST"),
            self._route("/v2/sandboxes", self._list, "GET"),
            self._route("/sandboxes", self._create, "POST"),
            self._route("/sandboxes/metrics", self._metrics_of_all, "GET"),
            self._route(one, self._get, "GET"),
            self._route(one, self._kill, "DELETE"),
            self._route(f"{one}/timeout", self._timeout, "POST"),
            self._route(f"{one}/refreshes", self._refresh, "POST"),
            self._route(f"{one}/pause", self._pause, "POST"),
            self._route(f"{one}/connect", self._connect, "POST"),
            self._route(f"/v2{one}/connect", self._connect, "POST"),
            self._route("/templates", self._templates, "GET"),
            self._route(f"{one}/network", self._network, "PUT"),
            self._route(f"{one}/metrics", self._metrics, "GET"),
            self._route(f"{one}/logs", self._logs, "GET"),
            self._route(f"/v2{one}/logs", self._logs, "GET"),
            self._route(f"{one}/fork", self._fork, "POST"),
            self._route(f"{one}/snapshots", self._snapshot, "POST"),
            self._route("/snapshots", self._list_snapshots, "GET"),
            self._route("/templates/{template_id:path}", self._delete_snapshot, "DELETE"),
            self._route("/ready", self._ready, "GET"),
            self._route("/metrics", self._own_metrics, "GET"),
            self._route("/health", inside.health, "GET"),
            self._route("/contexts", inside.contexts, "GET", "POST"),
            self._route("/contexts/{context_id}", inside.context, "DELETE"),
            self._route("/contexts/{context_id}/restart", inside.restart, "POST"),
        ]

    def _route(self, path: str, handler: Handler, *methods: str) -> Route:
        async def checked(request: Request) -> Response:
            self._check_browser(request)
            return await handler(request)

        return Route(path, Answering(checked), methods=list(methods))

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
            return INSECURE_OWNER
        owner = owner_of(request.headers.get("x-api-key", ""), self._settings.keys)
        if owner is None:
            raise Refused(401, "there is no such API key; the operator makes them")
        request.scope["stockade.owner"] = owner
        self._rates.take(owner)
        return owner

    async def _create(self, request: Request) -> Response:
        owner, body = self._owner(request), await json_of(request)
        made = await while_connected(request, self._control.create(owner, body))
        return JSONResponse(made, 201)

    async def _list(self, request: Request) -> Response:
        found, following = self._control.page(self._owner(request), request.query_params)
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

    async def _refresh(self, request: Request) -> Response:
        owner = self._owner(request)
        self._control.refresh(owner, _id(request), await json_of(request))
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

    async def _network(self, request: Request) -> Response:
        owner = self._owner(request)
        self._control.set_network(owner, _id(request), await json_of(request))
        return Response(status_code=204)

    async def _metrics(self, request: Request) -> Response:
        owner = self._owner(request)
        found = await self._control.metrics(owner, _id(request), request.query_params)
        return JSONResponse(found)

    async def _metrics_of_all(self, request: Request) -> Response:
        owner = self._owner(request)
        work = self._control.metrics_of_all(owner, request.query_params)
        return JSONResponse(await while_connected(request, work))

    async def _logs(self, request: Request) -> Response:
        owner, old = self._owner(request), not request.url.path.startswith("/v2/")
        found = self._control.logs(owner, _id(request), request.query_params, old=old)
        return JSONResponse(found)

    async def _fork(self, request: Request) -> Response:
        owner, body = self._owner(request), await json_of(request)
        made = await while_connected(request, self._control.fork(owner, _id(request), body))
        return JSONResponse(made, 201)

    async def _snapshot(self, request: Request) -> Response:
        owner, body = self._owner(request), await json_of(request)
        made = await while_connected(request, self._control.snapshot(owner, _id(request), body))
        return JSONResponse(made, 201)

    async def _list_snapshots(self, request: Request) -> Response:
        found, following = self._control.snapshots(self._owner(request), request.query_params)
        headers = {} if following is None else {"x-next-token": following}
        return JSONResponse(found, headers=headers)

    async def _delete_snapshot(self, request: Request) -> Response:
        owner = self._owner(request)
        await self._control.delete_snapshot(owner, request.path_params["template_id"])
        return Response(status_code=204)

    # -- the operator's ------------------------------------------------------------------

    async def _ready(self, _: Request) -> Response:
        """Whether sandboxes can be made."""
        return Response(status_code=503 if self._sandboxes.closed else 204)

    async def _own_metrics(self, request: Request) -> Response:
        """For Prometheus, with any key: ``X-API-KEY``, or ``Authorization: Bearer``."""
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or owner_of(given, self._settings.keys) is None:
            self._owner(request)
        return PlainTextResponse(self._counts.text(self._sandboxes))

    async def _other(self, request: Request) -> Response:
        path = request.url.path
        parts = path.strip("/").split("/")
        if "sandboxes" in parts[:2] and parts[-1] in _UNSERVED_OF_SANDBOX:
            raise not_served(*_UNSERVED_OF_SANDBOX[parts[-1]])
        for prefix, (what, instead) in _UNSERVED.items():
            if path == prefix or path.startswith(f"{prefix}/"):
                raise not_served(what, instead)
        raise Refused(404, "there is nothing at this path")


def _id(request: Request) -> str:
    found: str = request.path_params["sandbox_id"]
    return found
