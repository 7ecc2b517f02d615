"""One sandbox's services: envd's and the code interpreter's, for whoever has its token."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stockade_server import transfer
from stockade_server.bodies import json_of, pieces_of
from stockade_server.connect import (
    deadline_of,
    end_frame,
    frame,
    keepalive_of,
    messages_of,
)
from stockade_server.errors import Refused, not_served, refusal
from stockade_server.keys import same
from stockade_server.links import is_signed, signed_one
from stockade_server.ports import SERVICES, Target, target_of
from stockade_server.process import Event
from stockade_server.rates import Rates
from stockade_server.sandbox import Sandbox
from stockade_server.sandboxes import Sandboxes
from stockade_server.settings import Settings
from stockade_server.streams import Last, Streamed, while_connected

__all__ = ["CONNECT", "Inside"]

_Events = AsyncGenerator[Event, None] | AsyncGenerator[dict[str, Any], None]

#: The services that speak Connect.
CONNECT = ("process.Process", "filesystem.Filesystem")
_STREAM_TYPE = "application/connect+json"
_LONGEST_INPUT = 600.0  #: seconds, of a stream of input whose caller states none
#: Users that a caller may name: the one that the sandbox has anyway.
_USERS = ("", "user")


class Inside:
    """Of all sandboxes of a server."""

    def __init__(self, settings: Settings, sandboxes: Sandboxes, rates: Rates) -> None:
        self._settings = settings
        self._sandboxes = sandboxes
        self._rates = rates

    async def _reached(self, request: Request) -> Sandbox:
        """The sandbox that a request is for, whose token it must bear. It runs then."""
        target = self._target(request)
        sandbox = self._sandboxes.found(target.sandbox_id)
        tokens = [(sandbox.access_token, "x-access-token")]
        if target.port == SERVICES[1]:  # calls of contexts bear this one
            tokens.append((sandbox.traffic_token, "e2b-traffic-access-token"))
        found = [same(request.headers.get(name, ""), token) for token, name in tokens]
        if not any(found):
            raise Refused(401, "the sandbox's access token is missing, or is another's")
        self._rates.take(sandbox.owner)
        _check_user(request)
        return await self._sandboxes.woken(sandbox)

    def _target(self, request: Request) -> Target:
        target = target_of(request.headers, self._settings.domain)
        if target is None:
            raise Refused(
                400, "the header E2b-Sandbox-Id is missing; set E2B_SANDBOX_URL for the SDK"
            )
        return target

    async def _linked(self, request: Request) -> Sandbox:
        """The sandbox of a signed link to a file, which names it by its signature alone."""
        target = target_of(request.headers, self._settings.domain)
        everybodys = self._sandboxes.everybodys()
        if target is not None:
            everybodys = [one for one in everybodys if one.sandbox_id == target.sandbox_id]
        sandbox = signed_one(request.method, request.query_params, everybodys)
        self._rates.take(sandbox.owner)
        _check_user(request)
        return await self._sandboxes.woken(sandbox)

    async def health(self, request: Request) -> Response:
        """Whether a sandbox runs, or this server: it wakes nothing."""
        target = target_of(request.headers, self._settings.domain)
        if target is not None:
            self._sandboxes.running(target.sandbox_id)
        return Response(status_code=204)

    async def files(self, request: Request) -> Response:
        """``/files``: contents in and out."""
        settings = self._settings
        if is_signed(request.query_params):
            sandbox = await self._linked(request)
        else:
            sandbox = await self._reached(request)
        if request.method == "POST":
            return await transfer.upload(request, sandbox, settings.max_upload_bytes)
        return await transfer.download(request, sandbox, settings.idle_seconds)

    async def execute(self, request: Request) -> Response:
        """``/execute``: code in a context."""
        sandbox, body = await self._reached(request), await json_of(request)
        context = sandbox.contexts.chosen(body)
        return self._streamed(sandbox.contexts.execute(context, body), "application/x-ndjson")

    async def contexts(self, request: Request) -> Response:
        """``/contexts``: made and listed."""
        contexts = (await self._reached(request)).contexts
        if request.method == "POST":
            return JSONResponse(contexts.make(await json_of(request)), 201)
        return JSONResponse(contexts.listed())

    async def context(self, request: Request) -> Response:
        """``DELETE /contexts/{id}``"""
        await (await self._reached(request)).contexts.remove(request.path_params["context_id"])
        return Response(status_code=204)

    async def restart(self, request: Request) -> Response:
        """``POST /contexts/{id}/restart``"""
        await (await self._reached(request)).contexts.restart(request.path_params["context_id"])
        return Response(status_code=204)

    # -- Connect -----------------------------------------------------------------------

    async def call(self, request: Request) -> Response:
        """A call of envd's two services."""
        name = request.url.path.lstrip("/")
        sandbox = await self._reached(request)
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
    """Events as frames; an error is in the last one. A command's end goes with that, since each
    piece is a call of the system and a packet."""
    try:
        async with contextlib.aclosing(events):
            async for event in events:
                if isinstance(event, dict) and "end" in event.get("event", {}):
                    yield Last(frame(event) + end_frame())
                    return
                yield frame(event)
        yield Last(end_frame())
    except Exception as error:
        yield Last(end_frame(refusal(error, sandbox.sandbox_id)))


async def _whole(body: bytes) -> AsyncIterator[bytes]:
    yield body


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
