"""Snapshots of sandboxes: their files, kept until they are deleted or the server ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from typing import Any

import attrs

from stockade import Snapshot
from stockade.config import MIB
from stockade_server.connect import text_of
from stockade_server.errors import Refused
from stockade_server.sandbox import Sandbox
from stockade_server.settings import Settings, Template

__all__ = ["Kept", "Snapshots"]

_MOST_NAME = 128


@attrs.frozen
class Kept:
    """One snapshot, and whose it is."""

    snapshot_id: str
    name: str | None  #: its owner's own
    owner: str
    template: Template = attrs.field(repr=False)  #: that its sandboxes start with
    sandbox_id: str  #: of which it was taken
    path: str

    def described(self) -> dict[str, Any]:
        return {"snapshotID": self.snapshot_id, "names": [] if self.name is None else [self.name]}

    def is_called(self, word: str) -> bool:
        """By its id or its name; the tag that E2B puts behind one is always the same."""
        return word.removesuffix(":default") in (self.snapshot_id, self.name)


class Snapshots:
    """All of one server: in a folder of its own, which goes with it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known: dict[str, Kept] = {}
        self._taking: Counter[str] = Counter()
        self._folder: str | None = None
        #: One that is taken or loaded is in memory, whole: so many at one time.
        self._turns = asyncio.Semaphore(2)

    async def take(self, sandbox: Sandbox, body: Mapping[str, Any]) -> Kept:
        """Keep a sandbox's files. Raises Refused, and what ``Session.snapshot`` raises."""
        owner, name = sandbox.owner, body.get("name")
        if name is not None:
            name = text_of(body, "name").removesuffix(":default")
            if not name or len(name) > _MOST_NAME or not name.isprintable():
                raise Refused(400, f"name is a text of {_MOST_NAME} characters at most")
            if name in self._settings.templates or self.named(owner, name) is not None:
                raise Refused(409, f"{name!r} is taken; delete that snapshot, or take another name")
        most = self._settings.max_snapshots
        own = sum(one.owner == owner for one in self._known.values()) + self._taking[owner]
        if own >= most:
            raise Refused(429, f"this key has {most} snapshots, which is its limit; delete one")
        self._taking[owner] += 1
        try:
            snapshot = await self.of(sandbox)
            snapshot_id = f"snapshot-{secrets.token_hex(16)}"
            path = os.path.join(self._kept_in(), snapshot_id)
            await asyncio.to_thread(snapshot.save, path)
        finally:
            self._taking[owner] -= 1
        kept = Kept(snapshot_id, name, owner, sandbox.template, sandbox.sandbox_id, path)
        self._known[snapshot_id] = kept
        return kept

    async def of(self, sandbox: Sandbox) -> Snapshot:
        """A sandbox's files now, kept nowhere. Raises Refused of one that is paused."""
        async with self._turns:
            if sandbox.session.paused:
                raise Refused(409, f"the sandbox {sandbox.sandbox_id} is paused; connect to it")
            return await sandbox.session.snapshot(max_bytes=self._settings.max_snapshot_mb * MIB)

    async def load(self, kept: Kept) -> Snapshot:
        """Its files. Raises Refused where it was deleted meanwhile."""
        try:
            async with self._turns:
                return await asyncio.to_thread(Snapshot.load, kept.path)
        except FileNotFoundError:
            raise Refused(404, f"the snapshot {kept.snapshot_id} was deleted") from None

    def named(self, owner: str, word: str) -> Kept | None:
        """An owner's own, by its id or its name."""
        own = (one for one in self._known.values() if one.owner == owner)
        return next((one for one in own if one.is_called(word)), None)

    def all_of(self, owner: str, sandbox_id: str | None, word: str | None) -> list[Kept]:
        """An owner's own, the newest first; of one sandbox, or of one name."""
        return [
            one
            for one in reversed(self._known.values())
            if one.owner == owner
            and sandbox_id in (None, one.sandbox_id)
            and (word is None or one.is_called(word))
        ]

    async def delete(self, owner: str, word: str) -> None:
        """Raises Refused where there is none of that id or name."""
        kept = self.named(owner, word)
        if kept is None:
            raise Refused(404, f"there is no snapshot {word!r:.80}")
        del self._known[kept.snapshot_id]
        with contextlib.suppress(FileNotFoundError):
            await asyncio.to_thread(os.remove, kept.path)

    def close(self) -> None:
        """Remove them all; the server ends."""
        self._known.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _kept_in(self) -> str:
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="stockade-snapshots-")  # for this user alone
        return self._folder
