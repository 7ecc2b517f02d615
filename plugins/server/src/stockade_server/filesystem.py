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

from stockade.aio import AsyncSession
from stockade.aio.files import AsyncWatch
from stockade.files import FileEvent, FileInfo
from stockade_server.connect import text_of
from stockade_server.errors import Refused

__all__ = ["Filesystem"]

_MOST_ENTRIES = 10_000  #: of one listing, with all depths
_MOST_DEPTH = 64
_MOST_WATCHERS = 32
_MOST_EVENTS = 4096  #: that one answer holds

_TYPES = {"file": "FILE_TYPE_FILE", "dir": "FILE_TYPE_DIRECTORY", "link": "FILE_TYPE_SYMLINK"}
_BITS = {"file": modes.S_IFREG, "dir": modes.S_IFDIR, "link": modes.S_IFLNK}
_EVENTS = {
    "created": "EVENT_TYPE_CREATE",
    "modified": "EVENT_TYPE_WRITE",
    "removed": "EVENT_TYPE_REMOVE",
    "attributes": "EVENT_TYPE_CHMOD",
}


class Filesystem:
    """That of one sandbox. A relative path starts at its working folder."""

    def __init__(self, session: AsyncSession, working_dir: str) -> None:
        self._session = session
        self._working_dir = working_dir
        self._watchers: dict[str, tuple[str, AsyncWatch]] = {}
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
        folders = [(top, 1)]
        while folders:
            folder, level = folders.pop(0)
            left = _MOST_ENTRIES - len(found)
            for info in await self._session.files.list(folder, max_entries=max(left, 1)):
                path = posixpath.join(folder, info.name)
                found.append(await self._described(path, info))
                if info.is_dir and level < min(depth, _MOST_DEPTH):
                    folders.append((path, level + 1))
            if len(found) > _MOST_ENTRIES:
                raise Refused(413, f"there are more than {_MOST_ENTRIES} entries; list less deep")
        return {"entries": found}

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
        return {"entry": await self._entry(destination)}

    async def remove(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """``Remove``: a whole tree; what is not there is as good as removed."""
        path = self.path_of(text_of(body, "path"))
        with contextlib.suppress(FileNotFoundError):
            await self._session.files.remove(path, tree=True)
        return {}

    # -- watching ------------------------------------------------------------------

    async def create_watcher(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """``CreateWatcher``: events that wait until they are asked for."""
        path, watch = await self._watch(body)
        watcher_id = secrets.token_hex(16)
        self._watchers[watcher_id] = (path, watch)
        return {"watcherId": watcher_id}

    async def get_watcher_events(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """``GetWatcherEvents``: those since the last time"""
        found = self._watchers.get(text_of(body, "watcherId"))
        if found is None:
            raise Refused(404, "there is no such watcher")
        path, watch = found
        events: list[dict[str, Any]] = []
        while len(events) < _MOST_EVENTS:
            event, _ = watch.poll()
            if event is None:
                break
            events += _events_of(path, event)
        return {"events": events}

    async def remove_watcher(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """``RemoveWatcher``"""
        found = self._watchers.pop(text_of(body, "watcherId"), None)
        if found is None:
            raise Refused(404, "there is no such watcher")
        await self._unwatch(found[1])
        return {}

    async def watch_dir(
        self, body: Mapping[str, Any], deadline: float | None, keepalive: float
    ) -> AsyncGenerator[dict[str, Any], None]:
        """``WatchDir``: a stream of events, until it is left."""
        path, watch = await self._watch(body)
        until = None if deadline is None else asyncio.get_running_loop().time() + deadline
        try:
            yield {"start": {}}
            while until is None or asyncio.get_running_loop().time() < until:
                event = await watch.take(keepalive)
                if event is None:  # silence, or the end; and one may have come since
                    event, over = watch.poll()
                    if over:
                        raise Refused(404, f"{path} is not watched any more")
                if event is None:
                    yield {"keepalive": {}}
                    continue
                for one in _events_of(path, event):
                    yield {"filesystem": one}
            raise Refused(504, "the deadline of watching has passed")
        finally:
            await self._unwatch(watch)

    async def _watch(self, body: Mapping[str, Any]) -> tuple[str, AsyncWatch]:
        """A folder that is watched until ``_unwatch``: each takes a thread of this process."""
        if body.get("includeEntry") or body.get("allowNetworkMounts"):
            raise Refused(501, "includeEntry and allowNetworkMounts are not served: leave them out")
        path = self.path_of(text_of(body, "path"))
        if self._watched >= _MOST_WATCHERS:
            raise Refused(429, f"{_MOST_WATCHERS} folders are watched; stop watching one first")
        self._watched += 1
        try:
            watch = await self._session.files.watch(path, recursive=bool(body.get("recursive")))
        except BaseException:
            self._watched -= 1
            raise
        return path, watch

    async def _unwatch(self, watch: AsyncWatch) -> None:
        self._watched -= 1
        await watch.close()

    # -- entries -------------------------------------------------------------------

    async def _entry(self, path: str) -> dict[str, Any]:
        return await self._described(path, await self._session.files.stat(path))

    async def _described(self, path: str, info: FileInfo) -> dict[str, Any]:
        entry = _entry_of(path, info)
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
        "owner": "" if info.uid is None else str(info.uid),
        "group": "" if info.gid is None else str(info.gid),
    }
    if info.modified is not None:
        when = dt.datetime.fromtimestamp(info.modified, dt.timezone.utc)
        entry["modifiedTime"] = when.isoformat().replace("+00:00", "Z")
    if info.target is not None:
        entry["symlinkTarget"] = _fit(info.target)
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
