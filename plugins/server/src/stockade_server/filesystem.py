"""envd's file system service: what is there, changes, watching."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import posixpath
import secrets
import stat as modes
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import attrs

from stockade.aio import AsyncSession
from stockade.aio.files import AsyncWatch
from stockade.files import FileEvent, FileInfo
from stockade_server.connect import text_of
from stockade_server.errors import Refused
from stockade_server.metadata import FileMetadata
from stockade_server.names import Names

__all__ = ["Filesystem"]

_MOST_ENTRIES = 10_000  #: of one listing, with all depths
_MOST_DEPTH = 64
_MOST_WATCHERS = 32
_MOST_EVENTS = 4096  #: that one answer holds
#: That an answer waits for events of what was done just before it was asked for: seconds.
_SETTLE_SECONDS = 0.05

_TYPES = {"file": "FILE_TYPE_FILE", "dir": "FILE_TYPE_DIRECTORY", "link": "FILE_TYPE_SYMLINK"}
_BITS = {"file": modes.S_IFREG, "dir": modes.S_IFDIR, "link": modes.S_IFLNK}
_EVENTS = {
    "created": "EVENT_TYPE_CREATE",
    "modified": "EVENT_TYPE_WRITE",
    "removed": "EVENT_TYPE_REMOVE",
    "attributes": "EVENT_TYPE_CHMOD",
}


@attrs.frozen
class _Watcher:
    """A folder that is watched."""

    path: str
    watch: AsyncWatch
    entries: bool  #: whether events tell what is there now


class Filesystem:
    """That of one sandbox. A relative path starts at its working folder."""

    def __init__(self, session: AsyncSession, working_dir: str) -> None:
        self._session = session
        self._working_dir = working_dir
        self._names = Names(session)
        self.metadata = FileMetadata()
        self._watchers: dict[str, _Watcher] = {}
        self._watched = 0

    def path_of(self, given: str) -> str:
        """The absolute path that a caller means. Raises Refused where there is none."""
        if not given or "\0" in given:
            raise Refused(400, "a path is a text without NUL, and not empty")
        return posixpath.normpath(posixpath.join(self._working_dir, given))

    # -- calls of one answer -------------------------------------------------------

    async def stat(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """``Stat``"""
        return {"entry": await self._entry(self.path_of(text_of(body, "path")))}

    async def list_dir(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """``ListDir``, to a depth"""
        top, depth = self.path_of(text_of(body, "path")), body.get("depth") or 1
        if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
            raise Refused(400, "depth is a number from 1")
        found: list[dict[str, Any]] = []
        # What is listed still, the next one last: a folder comes before what is in it.
        waiting = await self._level(top, 1, _MOST_ENTRIES)
        while waiting:
            path, level, info = waiting.pop()
            found.append(await self._described(path, info))
            if info.is_dir and level < min(depth, _MOST_DEPTH):
                left = _MOST_ENTRIES - len(found) - len(waiting)
                waiting += await self._level(path, level + 1, left)
            if len(found) + len(waiting) > _MOST_ENTRIES:
                raise Refused(413, f"there are more than {_MOST_ENTRIES} entries; list less deep")
        return {"entries": found}

    async def _level(self, folder: str, level: int, most: int) -> list[tuple[str, int, FileInfo]]:
        """What is in one folder, the last first."""
        found = await self._session.files.list(folder, max_entries=max(most, 1))
        return [(posixpath.join(folder, one.name), level, one) for one in reversed(found)]

    async def make_dir(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """``MakeDir``: with its parents; one that is there is a conflict."""
        path = self.path_of(text_of(body, "path"))
        if await self._session.files.exists(path):
            raise Refused(409, f"{path} is there already")
        await self._session.files.make_dir(path)
        return {"entry": await self._entry(path)}

    async def move(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """``Move``"""
        source = self.path_of(text_of(body, "source"))
        destination = self.path_of(text_of(body, "destination"))
        await self._session.files.move(source, destination)
        self.metadata.move(source, destination)
        return {"entry": await self._entry(destination)}

    async def remove(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """``Remove``: a whole tree; what is not there is as good as removed."""
        path = self.path_of(text_of(body, "path"))
        with contextlib.suppress(FileNotFoundError):
            await self._session.files.remove(path, tree=True)
        self.metadata.remove(path)
        return {}

    # -- watching ------------------------------------------------------------------

    async def create_watcher(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """``CreateWatcher``: events that wait until they are asked for."""
        watcher = await self._watch(body)
        watcher_id = secrets.token_hex(16)
        self._watchers[watcher_id] = watcher
        return {"watcherId": watcher_id}

    async def get_watcher_events(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """``GetWatcherEvents``: those since the last time"""
        watcher = self._watchers.get(text_of(body, "watcherId"))
        if watcher is None:
            raise Refused(404, "there is no such watcher")
        events: list[dict[str, Any]] = []
        while len(events) < _MOST_EVENTS:
            event, over = watcher.watch.poll()
            if event is None and not over:
                event = await watcher.watch.take(_SETTLE_SECONDS)
            if event is None:
                break
            events += await self._told(watcher, event)
        return {"events": events}

    async def remove_watcher(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """``RemoveWatcher``"""
        watcher = self._watchers.pop(text_of(body, "watcherId"), None)
        if watcher is None:
            raise Refused(404, "there is no such watcher")
        await self._unwatch(watcher)
        return {}

    async def watch_dir(
        self, body: Mapping[str, Any], deadline: float | None, keepalive: float
    ) -> AsyncGenerator[dict[str, Any], None]:
        """``WatchDir``: a stream of events, until it is left."""
        watcher = await self._watch(body)
        watch = watcher.watch
        until = None if deadline is None else asyncio.get_running_loop().time() + deadline
        try:
            yield {"start": {}}
            while until is None or asyncio.get_running_loop().time() < until:
                event = await watch.take(keepalive)
                if event is None:  # silence, or the end; and one may have come since
                    event, over = watch.poll()
                    if over:
                        raise Refused(404, f"{watcher.path} is not watched any more")
                if event is None:
                    yield {"keepalive": {}}
                    continue
                for one in await self._told(watcher, event):
                    yield {"filesystem": one}
            raise Refused(504, "the deadline of watching has passed")
        finally:
            await self._unwatch(watcher)

    async def _watch(self, body: Mapping[str, Any]) -> _Watcher:
        """A folder that is watched until ``_unwatch``: each takes a thread of this process.

        ``allowNetworkMounts`` changes nothing: what can be watched is watched.
        """
        path = self.path_of(text_of(body, "path"))
        if self._watched >= _MOST_WATCHERS:
            raise Refused(429, f"{_MOST_WATCHERS} folders are watched; stop watching one first")
        self._watched += 1
        try:
            watch = await self._session.files.watch(path, recursive=bool(body.get("recursive")))
        except BaseException:
            self._watched -= 1
            raise
        return _Watcher(path, watch, bool(body.get("includeEntry")))

    async def _unwatch(self, watcher: _Watcher) -> None:
        self._watched -= 1
        await watcher.watch.close()

    async def _told(self, watcher: _Watcher, event: FileEvent) -> list[dict[str, Any]]:
        """An event, with what is there now where the watcher wants that, and something is."""
        told = _events_of(watcher.path, event)
        if watcher.entries and event.kind != "removed":
            with contextlib.suppress(OSError):
                told[-1]["entry"] = await self._entry(event.path)
        return told

    # -- entries -------------------------------------------------------------------

    async def _entry(self, path: str) -> dict[str, Any]:
        return await self._described(path, await self._session.files.stat(path))

    async def _described(self, path: str, info: FileInfo) -> dict[str, Any]:
        entry = _entry_of(path, info)
        entry["owner"] = await self._names.owner(info.uid)
        entry["group"] = await self._names.group(info.gid)
        metadata = self.metadata.of(path)
        if metadata:
            entry["metadata"] = metadata
        if info.kind != "link":
            return entry
        entry["isSymlink"] = True
        try:  # a link is described as what it leads to, and marked
            target = await self._session.files.stat(path, follow_links=True)
        except OSError:
            return entry
        return {**entry, "type": _TYPES.get(target.kind, "FILE_TYPE_UNSPECIFIED")}


def _entry_of(path: str, info: FileInfo) -> dict[str, Any]:
    bits = _BITS.get(info.kind, 0) | info.mode
    entry: dict[str, Any] = {
        "name": _fit(posixpath.basename(path)),
        "type": _TYPES.get(info.kind, "FILE_TYPE_UNSPECIFIED"),
        "path": _fit(path),
        "size": str(info.size),
        "mode": info.mode,
        "permissions": modes.filemode(bits),
    }
    if info.modified is not None:
        when = dt.datetime.fromtimestamp(info.modified, dt.timezone.utc)
        entry["modifiedTime"] = when.isoformat().replace("+00:00", "Z")
    if info.target is not None:
        target = posixpath.join(posixpath.dirname(path), info.target)
        entry["symlinkTarget"] = _fit(posixpath.normpath(target))
    return entry


def _fit(name: str) -> str:
    """A name that JSON can hold, whatever its bytes are."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _events_of(top: str, event: FileEvent) -> list[dict[str, Any]]:
    """One change as the protocol has it: a new name is a file that was created."""
    if event.kind == "missed":
        raise Refused(429, "changes came faster than they were read, and some are lost; watch anew")
    name = _fit(posixpath.relpath(event.path, top))
    if event.kind == "renamed":
        old = _fit(posixpath.relpath(event.old_path or event.path, top))
        return [
            {"name": old, "type": "EVENT_TYPE_RENAME"},
            {"name": name, "type": "EVENT_TYPE_CREATE"},
        ]
    return [{"name": name, "type": _EVENTS.get(event.kind, "EVENT_TYPE_UNSPECIFIED")}]
