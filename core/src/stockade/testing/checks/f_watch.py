"""Checks of F6: changes below a folder are reported as they happen, bounded."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable

import pytest

from stockade.aio import AsyncSession
from stockade.capabilities import Feature
from stockade.errors import CancelledError
from stockade.files import FileEvent, Watch
from stockade.testing.base import ConformanceBase, expect
from stockade.testing.programs import unique

#: More than wait for a reader.
_MANY = 6000


def _is(kind: str, path: str, event: FileEvent) -> bool:
    return (event.kind, event.path) == (kind, path)


class Watching(ConformanceBase):
    """Each kind of change, folders below, bounds, ends, refusals."""

    def _await(
        self, watch: Watch, what: str, is_it: Callable[[FileEvent], object]
    ) -> list[FileEvent]:
        """What came until the event that is awaited."""
        came: list[FileEvent] = []
        until = time.monotonic() + self.scaled(10)
        while (left := until - time.monotonic()) > 0:
            event = watch.take(left)
            if event is None:
                break
            came.append(event)
            if is_it(event):
                return came
        expect(False, "F6", what, came)
        return came

    def test_F6_changes_are_reported(self) -> None:
        self.need(Feature.WATCH, Feature.SHELL)
        with self.shared() as session:
            here = f"{session.provider.config.working_dir}/{unique('watch')}"
            session.files.make_dir(here)
            path, new = f"{here}/a b", f"{here}/c"
            with session.files.watch(here) as watch:

                def awaited(kind: str, of: str) -> None:
                    what = f"{of} {kind}"
                    self._await(watch, what, functools.partial(_is, kind, of))

                session.files.write(path, b"1")
                awaited("created", path)
                session.files.write(path, b"more")
                awaited("modified", path)
                session.shell(f"chmod 600 '{path}'")
                awaited("attributes", path)
                session.shell(f"mv '{path}' {new}")
                came = self._await(watch, f"{new}, renamed", lambda event: event.path == new)
                whole = came[-1].kind == "renamed" and came[-1].old_path == path
                parts = {(event.kind, event.path) for event in came[-2:]}
                apart = parts == {("removed", path), ("created", new)}
                expect(whole or apart, "F6", "a rename, or its two halves", came)
                session.files.remove(new)
                awaited("removed", new)
                session.files.make_dir(f"{here}/folder")
                came = self._await(watch, "a folder", lambda event: event.kind == "created")
                expect(came[-1].is_dir, "F6", "that it is a folder", came[-1])

    def test_F6_folders_below_are_watched_where_asked_for(self) -> None:
        self.need(Feature.WATCH)
        with self.shared() as session:
            here = f"{session.provider.config.working_dir}/{unique('watch')}"
            session.files.make_dir(f"{here}/old")
            with (
                session.files.watch(here, recursive=True) as below,
                session.files.watch(here) as flat,
            ):
                for path in (f"{here}/old/a", f"{here}/new/deep/b", f"{here}/last"):
                    session.files.write(path, b"1")
                    self._await(below, path, functools.partial(_is, "created", path))
                came = self._await(flat, "the last", lambda event: event.path == f"{here}/last")
                deeper = [e.path for e in came if e.path.count("/") > here.count("/") + 1]
                expect(not deeper, "F6", "nothing from folders below", deeper)

    def test_F6_what_does_not_fit_is_marked(self) -> None:
        self.need(Feature.WATCH, Feature.SHELL)
        with self.session() as session:
            here = f"{session.provider.config.working_dir}/{unique('many')}"
            session.files.make_dir(here)
            with session.files.watch(here) as watch:
                line = f"i=0; while [ $i -lt {_MANY} ]; do : > {here}/$i; i=$((i+1)); done"
                done = session.shell(line, timeout=self.scaled(50))
                expect(done.success, "F6", f"{_MANY} files", done)
                missed, made = False, 0
                while (event := watch.take(self.scaled(3))) is not None:
                    missed = missed or event.kind == "missed"
                    made += event.kind == "created"
                right = missed or made == _MANY
                expect(right, "F6", f"all of {_MANY}, or a mark that some were missed", made)
                session.files.write(f"{here}/last", b"1")
                self._await(watch, "what comes later", lambda event: event.path.endswith("/last"))

    def test_F6_a_watch_has_ends(self) -> None:
        self.need(Feature.WATCH)
        with self.session() as session:
            here = f"{session.provider.config.working_dir}/{unique('ends')}"
            session.files.make_dir(f"{here}/inner")
            with session.files.watch(here) as closed:
                pass
            expect(closed.take(self.scaled(5)) is None, "F6", "no event once closed", closed)
            self._raises(session.files.watch(here, timeout=0.5), TimeoutError)
            gone = session.files.watch(f"{here}/inner")
            session.files.remove(f"{here}/inner")
            came = [event.kind for event in gone]
            expect(came[-1:] == ["removed"], "F6", "the end of the folder, and then none", came)
            with pytest.raises(FileNotFoundError):
                session.files.watch(f"{here}/none").close()
            session.files.write(f"{here}/file", b"1")
            with pytest.raises(NotADirectoryError):
                session.files.watch(f"{here}/file").close()
            asyncio.run(self._read_awaited(AsyncSession(session), here))
            ended = session.files.watch(here)
        self._raises(ended, CancelledError)

    async def _read_awaited(self, session: AsyncSession, here: str) -> None:
        async with session.files.watch(here) as watch:
            quiet = await watch.take(0.01)
            expect(quiet is None, "F6", "nothing yet", quiet)
            await session.files.write(f"{here}/awaited", b"1")
            async for event in watch:
                expect(event.path == f"{here}/awaited", "F6", "the event, awaited", event)
                break

    def _raises(self, watch: Watch, kind: type[BaseException]) -> None:
        """A reader gets this error in the end."""
        with pytest.raises(kind):
            while watch.take(self.scaled(10)) is not None:
                pass

    def test_F6_a_wall_that_cannot_watch_says_so(self) -> None:
        self.need(Feature.FILES)
        if self.claims(Feature.WATCH):
            return
        with self.shared() as session:
            self.refused("F6", session.files.watch, Feature.WATCH)
