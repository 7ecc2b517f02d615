"""The control API: sandboxes made, listed, kept, paused and ended."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from starlette.datastructures import QueryParams

from stockade_server.connect import text_of, texts_of
from stockade_server.errors import Refused, not_served
from stockade_server.sandboxes import DEFAULT_SECONDS, Sandbox, Sandboxes
from stockade_server.settings import Settings
from stockade_server.templates import Templates, figures

__all__ = ["Control"]

#: What the SDKs take the services inside for: they ask by themselves for nothing newer.
_ENVD_VERSION = "0.6.1"
_MOST_MARKS, _MOST_TEXT = 64, 4096  #: of metadata and variables
_MOST_PAGE = 100

#: Fields of a creation that are not served, and what to do instead.
_UNSERVED = {
    "mcp": ("an MCP gateway", "start one as a command"),
    "iam": ("an identity", "pass a credential as a variable"),
    "volumeMounts": (
        "volumes",
        "the operator can mount a folder in the template",
    ),
    "network": (
        "rules for the network",
        "the operator names hosts in the template",
    ),
    "autoPause": ("pausing at the timeout", "call pause before it, or set a longer timeout"),
    "autoResume": ("resuming by itself", "call connect"),
}


class Control:
    """What a key's owner asks for."""

    def __init__(self, settings: Settings, sandboxes: Sandboxes) -> None:
        self._settings = settings
        self._sandboxes = sandboxes
        self.templates = Templates(settings, _ENVD_VERSION)

    async def create(self, owner: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """``POST /v2/sandboxes``"""
        name = text_of(body, "templateID")
        template = self._settings.templates.get(name)
        if template is None:
            known = ", ".join(self._settings.templates)
            raise Refused(404, f"there is no template {name!r:.80}; there are: {known}")
        for field, (what, instead) in _UNSERVED.items():
            if _is_asked(body.get(field)):
                raise not_served(what, instead)
        internet = body.get("allow_internet_access")
        sandbox = await self._sandboxes.create(
            owner,
            template,
            seconds=_seconds(body, DEFAULT_SECONDS),
            metadata=_texts(body, "metadata"),
            env=_texts(body, "envVars"),
            offline=internet is False,
        )
        if internet is True and not sandbox.network:
            await self._sandboxes.end(sandbox)
            raise Refused(
                403, f"the template {name} has no network, and a caller cannot give it one"
            )
        return self._handed(sandbox)

    def list(self, owner: str, query: QueryParams) -> tuple[list[dict[str, Any]], str | None]:
        """``GET /v2/sandboxes``: one page, and where the next one begins."""
        states = set(filter(None, query.get("state", "").split(",")))
        wanted = _metadata_filter(query.get("metadata", ""))
        template, after = query.get("template"), _moment(query.get("startedAfter"))
        found = [
            one
            for one in self._sandboxes.all_of(owner)
            if (not states or one.state in states)
            and (template is None or one.template == template)
            and one.started_at >= after
            and wanted.items() <= dict(one.metadata).items()
        ]
        if query.get("order", "desc") != "asc":
            found.reverse()
        token = query.get("nextToken")
        if token is not None:
            ids = [one.sandbox_id for one in found]
            if token not in ids:
                raise Refused(400, "the page's first sandbox is gone; list anew")
            found = found[ids.index(token) :]
        most = _page(query.get("limit"))
        following = found[most].sandbox_id if len(found) > most else None
        return [self._described(one) for one in found[:most]], following

    def get(self, owner: str, sandbox_id: str) -> dict[str, Any]:
        """``GET /sandboxes/{id}``"""
        sandbox = self._sandboxes.owned(sandbox_id, owner)
        secret = {"envdAccessToken": sandbox.access_token}
        return {**self._described(sandbox), **secret, "allowInternetAccess": sandbox.network}

    async def kill(self, owner: str, sandbox_id: str) -> None:
        """``DELETE /sandboxes/{id}``"""
        await self._sandboxes.end(self._sandboxes.owned(sandbox_id, owner))

    def set_timeout(self, owner: str, sandbox_id: str, body: Mapping[str, Any]) -> None:
        """``POST /sandboxes/{id}/timeout``: from now on."""
        sandbox = self._sandboxes.owned(sandbox_id, owner)
        self._sandboxes.last_until(sandbox, time.time() + _seconds(body, None))

    async def pause(self, owner: str, sandbox_id: str, body: Mapping[str, Any]) -> None:
        """``POST /sandboxes/{id}/pause``: processes stop, and stay in memory."""
        sandbox = self._sandboxes.owned(sandbox_id, owner)
        if body.get("memory") is False:
            raise not_served("pausing without memory", "pause with it")
        if sandbox.session.paused:
            raise Refused(409, f"the sandbox {sandbox_id:.64} is paused already")
        await sandbox.session.pause()

    async def connect(
        self, owner: str, sandbox_id: str, body: Mapping[str, Any]
    ) -> tuple[dict[str, Any], bool]:
        """``POST /v2/sandboxes/{id}/connect``: the sandbox, and whether it was resumed. Its
        end is put off where the timeout asks for that, and never brought forward."""
        sandbox = self._sandboxes.owned(sandbox_id, owner)
        if body.get("timeout") is not None:
            ends_at = time.time() + _seconds(body, None)
            if ends_at > sandbox.ends_at:
                self._sandboxes.last_until(sandbox, ends_at)
        resumed = sandbox.session.paused
        if resumed:
            await sandbox.session.resume()
        return self._handed(sandbox), resumed

    # -- how they are described --------------------------------------------------------

    def _handed(self, sandbox: Sandbox) -> dict[str, Any]:
        """To the one who may use it: with the tokens."""
        return {
            "templateID": sandbox.template,
            "sandboxID": sandbox.sandbox_id,
            "clientID": "stockade",
            "alias": sandbox.template,
            "envdVersion": _ENVD_VERSION,
            "envdAccessToken": sandbox.access_token,
            "trafficAccessToken": sandbox.traffic_token,
        }

    def _described(self, sandbox: Sandbox) -> dict[str, Any]:
        return {
            "templateID": sandbox.template,
            "alias": sandbox.template,
            "sandboxID": sandbox.sandbox_id,
            "clientID": "stockade",
            "startedAt": _time(sandbox.started_at),
            "endAt": _time(sandbox.ends_at),
            **figures(sandbox.limits),
            "state": sandbox.state,
            "envdVersion": _ENVD_VERSION,
            "metadata": dict(sandbox.metadata),
        }


def _is_asked(value: object) -> bool:
    """Whether a field asks for anything: ``{"enabled": false}`` does not."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += one.values()
        elif one:
            return True
    return False


def _seconds(body: Mapping[str, Any], default: int | None) -> float:
    value = body.get("timeout", default)
    if value is None and default is not None:
        value = default
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 10**9:
        raise Refused(400, "timeout is a whole number of seconds")
    return float(value)


def _texts(body: Mapping[str, Any], name: str) -> dict[str, str]:
    table = texts_of(body, name)
    if len(table) > _MOST_MARKS:
        raise Refused(400, f"{name} is an object of {_MOST_MARKS} texts at most")
    if any(len(key) + len(value) > _MOST_TEXT for key, value in table.items()):
        raise Refused(400, f"{name} holds texts of {_MOST_TEXT} characters at most")
    return table


def _metadata_filter(text: str) -> dict[str, str]:
    """The SDKs quote each name and value once more before they encode the whole."""
    return {unquote(name): unquote(value) for name, value in parse_qsl(text)}


def _page(text: str | None) -> int:
    if text is None:
        return _MOST_PAGE
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= _MOST_PAGE):
        raise Refused(400, f"limit is a number from 1 to {_MOST_PAGE}")
    return int(text[:6])


def _moment(text: str | None) -> float:
    if text is None:
        return 0.0
    try:
        return dt.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):  # of years that this machine's clock has not
        raise Refused(400, "startedAfter is a time, such as 2026-01-31T12:00:00Z") from None


def _time(seconds: float) -> str:
    when = dt.datetime.fromtimestamp(seconds, dt.timezone.utc)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
