"""The control API: sandboxes made, listed, kept, paused and ended."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote

import attrs
from starlette.datastructures import QueryParams

from stockade_server.connect import text_of, texts_of
from stockade_server.errors import Refused, not_served, refusal
from stockade_server.network import check_update, rules_of
from stockade_server.sandbox import Sandbox
from stockade_server.sandboxes import Sandboxes
from stockade_server.settings import Settings
from stockade_server.snapshots import Snapshots
from stockade_server.templates import Templates, figures
from stockade_server.wanted import DEFAULT_SECONDS, Wanted

__all__ = ["Control"]

_T = TypeVar("_T")

#: What the SDKs take the services inside for: they ask by themselves for nothing newer.
_ENVD_VERSION = "0.6.4"
_MOST_MARKS, _MOST_TEXT = 64, 4096  #: of metadata and variables
_MOST_PAGE = 100
_MOST_FORKS = 100
_FORK_SECONDS = 15  #: that a fork lasts whose caller says nothing

#: Fields of a creation that are not served, and what to do instead.
_UNSERVED = {
    "mcp": ("an MCP gateway", "start one as a command"),
    "iam": ("an identity", "pass a credential as a variable"),
    "volumeMounts": ("volumes", "the operator can mount a folder in the template"),
}
_WITHOUT_MEMORY = ("pausing without memory", "pause with it, or take a snapshot")


class Control:
    """What a key's owner asks for."""

    def __init__(self, settings: Settings, sandboxes: Sandboxes, snapshots: Snapshots) -> None:
        self._settings = settings
        self._sandboxes = sandboxes
        self.templates = Templates(settings, _ENVD_VERSION)
        self._snapshots = snapshots

    async def create(self, owner: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """``POST /v2/sandboxes``"""
        name = text_of(body, "templateID")
        for field, (what, instead) in _UNSERVED.items():
            if _is_asked(body.get(field)):
                raise not_served(what, instead)
        wanted = Wanted(
            seconds=_seconds(body, DEFAULT_SECONDS),
            metadata=_texts(body, "metadata"),
            env=_texts(body, "envVars"),
            rules=rules_of(body),
            pauses=body.get("autoPause") is True,
            resumes=_is_asked(body.get("autoResume")),
        )
        if wanted.pauses and body.get("autoPauseMemory") is False:
            raise not_served(*_WITHOUT_MEMORY)
        kept = self._snapshots.named(owner, name)
        template = self._settings.templates.get(name) if kept is None else kept.template
        if template is None:
            known = ", ".join(self._settings.templates)
            raise Refused(404, f"there is no template {name!r:.80}; there are: {known}")
        if kept is not None:
            wanted = attrs.evolve(wanted, snapshot=await self._snapshots.load(kept))
        return self._handed(await self._sandboxes.create(owner, template, wanted))

    def page(self, owner: str, query: QueryParams) -> tuple[list[dict[str, Any]], str | None]:
        """``GET /v2/sandboxes``: one page, and where the next one begins."""
        states = set(filter(None, query.get("state", "").split(",")))
        wanted = _metadata_filter(query.get("metadata", ""))
        template, after = query.get("template"), _moment(query.get("startedAfter"))
        found = [
            one
            for one in self._sandboxes.all_of(owner)
            if (not states or one.state in states)
            and (template is None or one.template.name == template)
            and one.started_at >= after
            and wanted.items() <= dict(one.wanted.metadata).items()
        ]
        if query.get("order", "desc") != "asc":
            found.reverse()
        page, following = _page_of(found, [one.sandbox_id for one in found], query)
        return [self._described(one) for one in page], following

    def get(self, owner: str, sandbox_id: str) -> dict[str, Any]:
        """``GET /sandboxes/{id}``"""
        sandbox = self._sandboxes.owned(sandbox_id, owner)
        secret = {"envdAccessToken": sandbox.access_token}
        lifecycle = {
            "autoResume": sandbox.wanted.resumes,
            "onTimeout": "pause" if sandbox.wanted.pauses else "kill",
        }
        network = {"allowInternetAccess": sandbox.network, "lifecycle": lifecycle}
        return {**self._described(sandbox), **secret, **network}

    async def kill(self, owner: str, sandbox_id: str) -> None:
        """``DELETE /sandboxes/{id}``"""
        await self._sandboxes.end(self._sandboxes.owned(sandbox_id, owner))

    def set_timeout(self, owner: str, sandbox_id: str, body: Mapping[str, Any]) -> None:
        """``POST /sandboxes/{id}/timeout``: from now on."""
        sandbox = self._sandboxes.owned(sandbox_id, owner)
        self._sandboxes.last_until(sandbox, time.time() + _seconds(body, None))

    def refresh(self, owner: str, sandbox_id: str, body: Mapping[str, Any]) -> None:
        """``POST /sandboxes/{id}/refreshes``: its end is put off, never brought forward."""
        sandbox = self._sandboxes.owned(sandbox_id, owner)
        ends_at = time.time() + _seconds(body, 0, "duration")
        if ends_at > sandbox.ends_at:
            self._sandboxes.last_until(sandbox, ends_at)

    async def pause(self, owner: str, sandbox_id: str, body: Mapping[str, Any]) -> None:
        """``POST /sandboxes/{id}/pause``: processes stop, and stay in memory."""
        sandbox = self._sandboxes.owned(sandbox_id, owner)
        if body.get("memory") is False:
            raise not_served(*_WITHOUT_MEMORY)
        await self._sandboxes.pause(sandbox)

    async def connect(
        self, owner: str, sandbox_id: str, body: Mapping[str, Any]
    ) -> tuple[dict[str, Any], bool]:
        """``POST /v2/sandboxes/{id}/connect``: the sandbox, and whether it was resumed. Its
        end is put off where the timeout asks for that; of one that runs it is never brought
        forward."""
        sandbox = self._sandboxes.owned(sandbox_id, owner)
        seconds, stated = _seconds(body, DEFAULT_SECONDS), body.get("timeout") is not None
        if stated:
            self._sandboxes.check_end(sandbox, time.time() + seconds)
        resumed = await self._sandboxes.resume(sandbox, seconds)
        if stated and not resumed:
            self._sandboxes.last_until(sandbox, max(sandbox.ends_at, time.time() + seconds))
        return self._handed(sandbox), resumed

    def set_network(self, owner: str, sandbox_id: str, body: Mapping[str, Any]) -> None:
        """``PUT /sandboxes/{id}/network``"""
        sandbox = self._sandboxes.owned(sandbox_id, owner)
        check_update(body, sandbox.wanted.rules, sandbox.network)

    async def metrics(
        self, owner: str, sandbox_id: str, query: QueryParams
    ) -> list[dict[str, Any]]:
        """``GET /sandboxes/{id}/metrics``"""
        sandbox = self._sandboxes.owned(sandbox_id, owner)
        start, end = (_unix(query.get(name), name) for name in ("start", "end"))
        return await sandbox.meter.between(start, end)

    async def metrics_of_all(self, owner: str, query: QueryParams) -> dict[str, Any]:
        """``GET /sandboxes/metrics``: the latest of each that is named, where its wall counts.
        One that is gone, or another's, is left out."""
        named = {one for text in query.getlist("sandbox_ids") for one in text.split(",") if one}
        if not 0 < len(named) <= _MOST_PAGE:
            raise Refused(400, f"sandbox_ids are ids with commas between, {_MOST_PAGE} at most")
        found = [one for one in self._sandboxes.all_of(owner) if one.sandbox_id in named]
        latest = {one.sandbox_id: await one.meter.latest() for one in found}
        return {"sandboxes": {name: seen for name, seen in latest.items() if seen is not None}}

    def logs(self, owner: str, sandbox_id: str, query: QueryParams, *, old: bool) -> dict[str, Any]:
        """``GET /v2/sandboxes/{id}/logs``; ``old``: without the version."""
        journal = self._sandboxes.owned(sandbox_id, owner).journal
        return journal.old(query) if old else journal.page(query)

    # -- snapshots and forks -----------------------------------------------------------

    async def snapshot(
        self, owner: str, sandbox_id: str, body: Mapping[str, Any]
    ) -> dict[str, Any]:
        """``POST /sandboxes/{id}/snapshots``"""
        sandbox = self._sandboxes.owned(sandbox_id, owner)
        return (await self._snapshots.take(sandbox, body)).described()

    def snapshots(self, owner: str, query: QueryParams) -> tuple[list[dict[str, Any]], str | None]:
        """``GET /snapshots``: one page, and where the next one begins."""
        found = self._snapshots.all_of(owner, query.get("sandboxID"), query.get("name"))
        page, following = _page_of(found, [one.snapshot_id for one in found], query)
        return [one.described() for one in page], following

    async def delete_snapshot(self, owner: str, word: str) -> None:
        """``DELETE /templates/{id}``, of a snapshot alone."""
        if word in self._settings.templates:
            raise not_served("deleting templates", "the operator names them in stockade.toml")
        await self._snapshots.delete(owner, word)

    async def fork(
        self, owner: str, sandbox_id: str, body: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """``POST /sandboxes/{id}/fork``: new sandboxes with its files, each for itself."""
        sandbox, count = self._sandboxes.owned(sandbox_id, owner), body.get("count", 1)
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= _MOST_FORKS:
            raise Refused(400, f"count is a number from 1 to {_MOST_FORKS}")
        wanted = attrs.evolve(
            sandbox.wanted,
            seconds=_seconds(body, _FORK_SECONDS),
            snapshot=await self._snapshots.of(sandbox),
        )
        made: list[dict[str, Any]] = []
        for _ in range(count):
            try:
                one = await self._sandboxes.create(owner, sandbox.template, wanted)
            except Exception as error:
                refused = refusal(error)
                made.append({"error": {"code": refused.status, "message": refused.message}})
            else:
                made.append({"sandbox": self._handed(one)})
        return made

    # -- how they are described --------------------------------------------------------

    def _handed(self, sandbox: Sandbox) -> dict[str, Any]:
        """To the one who may use it: with the tokens."""
        domain = self._settings.domain
        return {
            "templateID": sandbox.template.name,
            "sandboxID": sandbox.sandbox_id,
            "clientID": "stockade",
            "alias": sandbox.template.name,
            "envdVersion": _ENVD_VERSION,
            **({} if domain is None else {"domain": domain}),
            "envdAccessToken": sandbox.access_token,
            "trafficAccessToken": sandbox.traffic_token,
        }

    def _described(self, sandbox: Sandbox) -> dict[str, Any]:
        return {
            "templateID": sandbox.template.name,
            "alias": sandbox.template.name,
            "sandboxID": sandbox.sandbox_id,
            "clientID": "stockade",
            "startedAt": _time(sandbox.started_at),
            "endAt": _time(sandbox.ends_at),
            **figures(sandbox.limits),
            "state": sandbox.state,
            "envdVersion": _ENVD_VERSION,
            "metadata": dict(sandbox.wanted.metadata),
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


def _seconds(body: Mapping[str, Any], default: int | None, name: str = "timeout") -> float:
    value = body.get(name, default)
    if value is None and default is not None:
        value = default
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 10**9:
        raise Refused(400, f"{name} is a whole number of seconds")
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


def _page_of(
    found: Sequence[_T], ids: Sequence[str], query: QueryParams
) -> tuple[Sequence[_T], str | None]:
    """One page of what was found, and the id with which the next one begins."""
    token, begin = query.get("nextToken"), 0
    if token is not None:
        if token not in ids:
            raise Refused(400, "the page's first one is gone; list anew")
        begin = ids.index(token)
    end = begin + _page(query.get("limit"))
    return found[begin:end], ids[end] if end < len(ids) else None


def _page(text: str | None) -> int:
    if text is None:
        return _MOST_PAGE
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= _MOST_PAGE):
        raise Refused(400, f"limit is a number from 1 to {_MOST_PAGE}")
    return int(text[:6])


def _unix(text: str | None, name: str) -> float | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise Refused(400, f"{name} is a time in seconds since 1970")
    return float(text)


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
