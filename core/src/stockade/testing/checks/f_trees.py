"""Checks of F: what files are, in parts, in time, and trees with all that belongs to them."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from stockade.aio import AsyncSession
from stockade.capabilities import Feature
from stockade.errors import FileTooLargeError, StockadeError, TransferError
from stockade.session import Session
from stockade.testing.base import ConformanceBase, expect
from stockade.testing.programs import unique

_LONG_AGO = 1_234_567_890
#: Past what any file call may bring out unless more is asked for.
_HUGE = 100 << 30
_TIB = 1 << 40


def _drips(seconds: float) -> Iterator[bytes]:
    """Bytes that take their time, but end."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.02)
        yield b"x"


class FilesAsTheyAre(ConformanceBase):
    """F: refusals at once, time limits, trees with links and times, files in parts."""

    # -- F2 --------------------------------------------------------------------

    def test_F2_what_is_no_regular_file_is_refused_at_once(self) -> None:
        self.need(Feature.FILES, Feature.SHELL)
        here = unique("special")
        with self.shared() as session:
            session.files.make_dir(here)
            made = session.shell(f"cd {here} && ln -s /dev/zero lz")
            expect(made.success, "F2", "a link", made)
            # Some walls let nobody make a FIFO.
            fifo = session.shell(f"cd {here} && mkfifo p && ln -s p lp").success
            files = session.files
            for path in (f"{here}/{name}" for name in ("lz", *(("p", "lp") if fifo else ()))):
                self._refused_at_once(functools.partial(files.read, path))
                self._refused_at_once(functools.partial(files.write, path, b"x"))
                self._refused_at_once(functools.partial(files.copy, path, f"{here}/copy"))

    def test_F2_a_file_of_holes_is_refused_at_once(self) -> None:
        self.need(Feature.FILES, Feature.SHELL)
        here = unique("holes")
        with self.shared() as session, tempfile.TemporaryDirectory() as folder:
            session.files.make_dir(here)
            self._sparse(session, f"{here}/big", _HUGE)
            self._refused_at_once(lambda: session.files.read(f"{here}/big"), FileTooLargeError)
            self._sparse(session, f"{here}/big", _TIB)
            self._refused_at_once(lambda: session.files.get_tree(here, folder), FileTooLargeError)
            session.files.remove(here, tree=True)

    def _sparse(self, session: Session, path: str, size: int) -> None:
        session.shell(f"dd if=/dev/null of={path} bs=1 seek={size}")
        if not session.files.exists(path) or session.files.stat(path).size != size:
            pytest.skip(f"no file of {size} bytes, all hole, can be made in this sandbox")

    def _refused_at_once(self, call: Callable[[], object], kind: type[OSError] = OSError) -> None:
        began = time.monotonic()
        try:
            seen: object = call()
        except (OSError, StockadeError) as error:
            seen = error
        self.within("F2", 5.0, began, "a refusal")
        refused = isinstance(seen, kind) and not isinstance(seen, TimeoutError)
        expect(refused, "F2", f"{kind.__name__}, at once", seen)

    def test_F2_a_call_has_its_time(self) -> None:
        self.need(Feature.FILES)
        path = unique("slow")
        with self.shared() as session:
            began = time.monotonic()
            try:
                session.files.write(path, _drips(self.scaled(20)), timeout=self.scaled(1.0))
                seen: object = "no error"
            except TimeoutError as error:
                seen = error
            self.within("F2", 4.0, began, "the end")
            expect(isinstance(seen, TimeoutError), "F2", "TimeoutError", seen)
            session.files.write(path, b"after")
            expect(session.files.read(path) == b"after", "F2", "a usable session", "not")

    def test_F2_a_call_can_be_cancelled(self) -> None:
        self.need(Feature.FILES)
        path = unique("slow")

        async def cancelled(session: Session) -> float:
            files = AsyncSession(session).files
            task = asyncio.ensure_future(files.write(path, _drips(self.scaled(20)), timeout=None))
            await asyncio.sleep(self.scaled(0.5))
            began = time.monotonic()
            task.cancel()
            await asyncio.wait([task])
            expect(task.cancelled(), "F2", "a cancelled call", task)
            return began

        with self.shared() as session:
            self.within("F2", 3.0, asyncio.run(cancelled(session)), "the end")
            session.files.write(path, b"after")
            expect(session.files.read(path) == b"after", "F2", "a usable session", "not")

    # -- F4 --------------------------------------------------------------------

    def test_F4_a_listing_is_bounded(self) -> None:
        self.need(Feature.FILES)
        here = unique("many")
        with self.shared() as session:
            for number in range(12):
                session.files.write(f"{here}/{number}", b"")
            expect(len(session.files.list(here)) == 12, "F4", "12 entries", "others")
            try:
                seen: object = session.files.list(here, max_entries=11)
            except FileTooLargeError as error:
                seen = error
            named = isinstance(seen, FileTooLargeError) and "11" in str(seen)
            expect(named, "F4", "an error that names the limit of 11", seen)

    def test_F4_a_listing_of_thousands_is_one_program(self) -> None:
        self.need(Feature.FILES, Feature.SHELL)
        here = unique("thousands")
        with self.shared() as session:
            make = "i=0; while [ $i -lt 3000 ]; do : > $i; i=$((i+1)); done"
            made = session.shell(f"mkdir {here} && cd {here} && {make}")
            expect(made.success, "F4", "3,000 files", made)
            runtime = session.provider.runtime
            with mock.patch.object(
                runtime.executor, "execute", wraps=runtime.executor.execute
            ) as executions:
                seen = len(session.files.list(here))
            expect(seen == 3000, "F4", "3,000 entries", seen)
            expect(executions.call_count <= 1, "F4", "one execution", executions.call_count)
            session.files.remove(here, tree=True)

    def test_F4_modes_times_and_hard_links_are_kept(self) -> None:
        self.need(Feature.FILES, Feature.ARGV)
        tree = unique("tree")
        with tempfile.TemporaryDirectory() as folder, self.shared() as session:
            source, back = Path(folder, "source"), Path(folder, "back")
            (source / "sub").mkdir(parents=True)
            (source / "sub" / "one").write_bytes(b"same")
            (source / "sub" / "one").chmod(0o640)
            os.link(source / "sub" / "one", source / "two")
            os.symlink("sub/one", source / "link")
            (source / "sub").chmod(0o750)
            for path in (source / "two", source / "sub"):
                os.utime(path, (_LONG_AGO, _LONG_AGO))
            missed = session.files.put_tree(source, tree)
            expect(missed == [], "F4", "all brought in", missed)
            self._as_made(session, tree)
            missed = session.files.get_tree(tree, back)
            expect(missed == [], "F4", "all brought out", missed)
            linked = os.path.samefile(back / "sub" / "one", back / "two")
            expect(linked, "F4", "one file of two names outside", "two files")
            about = (back / "two").stat(), (back / "sub").stat()
            reported = [(oct(one.st_mode & 0o777), int(one.st_mtime)) for one in about]
            right = [("0o640", _LONG_AGO), ("0o750", _LONG_AGO)]
            expect(reported == right, "F4", f"modes and times {right} outside", reported)
            expect(os.readlink(back / "link") == "sub/one", "F4", "the link", "another")

    def _as_made(self, session: Session, tree: str) -> None:
        folder = session.provider.config.working_dir
        line = f"cd {folder}/{tree} && echo more >> two && cat sub/one"
        info = session.files.stat(f"{tree}/two")
        reported = (oct(info.mode), info.modified_ns and info.modified_ns // 10**9)
        expect(
            reported == ("0o640", _LONG_AGO), "F4", f"mode 640, time {_LONG_AGO} inside", reported
        )
        seen = session.run(["sh", "-c", line]).stdout
        expect(seen == "samemore\n", "F4", "one file of two names inside", seen)
        session.run(["sh", "-c", f"cd {folder}/{tree} && printf same > two"])
        session.run(["sh", "-c", f"cd {folder}/{tree} && touch -d @{_LONG_AGO} two"])

    def test_F4_what_could_not_be_brought_is_reported(self) -> None:
        self.need(Feature.FILES, Feature.SHELL)
        tree = unique("tree")
        with tempfile.TemporaryDirectory() as folder, self.shared() as session:
            source = Path(folder, "source")
            source.mkdir()
            os.mkfifo(source / "fifo")
            (source / "plain").write_bytes(b"came")
            missed = [one.path for one in session.files.put_tree(source, tree)]
            expect(missed == ["fifo"], "F4", "the FIFO reported, going in", missed)
            made = session.shell(f"cd {tree} && ln -s /elsewhere out")
            expect(made.success, "F4", "a link that leads out", made)
            right = ["fifo"] if session.shell(f"cd {tree} && mkfifo fifo").success else []
            right.append("out")
            back = Path(folder, "back")
            missed = sorted(one.path for one in session.files.get_tree(tree, back))
            expect(missed == right, "F4", f"{right} reported, coming out", missed)
            seen = (back / "plain").read_bytes()
            expect(seen == b"came", "F4", "the rest brought", seen)
            try:
                reported: object = session.files.get_tree(tree, Path(folder, "strict"), strict=True)
            except TransferError as error:
                reported = error
            expect(
                isinstance(reported, TransferError), "F4", "TransferError where asked for", reported
            )

    # -- F5 --------------------------------------------------------------------

    def test_F5_mode_owner_size_time_and_target(self) -> None:
        self.need(Feature.FILES, Feature.SHELL)
        here = unique("here")
        with self.shared() as session:
            session.files.write(f"{here}/file", b"12345", mode=0o640)
            folder = f"{session.provider.config.working_dir}/{here}"
            made = session.shell(f"cd {folder} && touch -d @{_LONG_AGO} file && ln -s file link")
            expect(made.success, "F5", "a time and a link", made)
            owner = session.shell("id -u; id -g").stdout.split()
            info = session.files.stat(f"{here}/file")
            reported = (info.kind, info.size, oct(info.mode), str(info.uid), str(info.gid))
            right = ("file", 5, "0o640", *owner)
            expect(reported == right, "F5", repr(right), reported)
            expect(info.modified == _LONG_AGO, "F5", f"the time {_LONG_AGO}", info.modified)
            link = session.files.stat(f"{here}/link")
            leads = (link.kind, link.target)
            expect(leads == ("link", "file"), "F5", "a link to 'file'", leads)
            followed = session.files.stat(f"{here}/link", follow_links=True)
            expect(followed.size == 5, "F5", "5 bytes behind the link", followed)

    def test_F5_move_and_copy(self) -> None:
        self.need(Feature.FILES)
        here, there = unique("here"), f"/tmp/{unique('there')}"
        with self.shared() as session:
            files = session.files
            files.write(f"{here}/d/file", b"12345", mode=0o640)
            files.copy(f"{here}/d/file", f"{here}/new/copy")
            copied = files.stat(f"{here}/new/copy")
            expect(oct(copied.mode) == "0o640", "F5", "mode 640 of the copy", oct(copied.mode))
            missed = files.copy(f"{here}/d", f"{here}/e")
            expect(missed == [], "F5", "a whole folder copied", missed)
            # Another folder, and on most walls another file system.
            files.move(f"{here}/d", f"{there}/d")
            files.move(f"{there}/d/file", f"{there}/file")
            for path in (f"{here}/new/copy", f"{here}/e/file", f"{there}/file"):
                seen = files.read(path)
                expect(seen == b"12345", "F5", f"the bytes at {path}", seen)
            gone = not files.exists(f"{here}/d") and not files.exists(f"{there}/d/file")
            expect(gone, "F5", "nothing where it was moved from", "something")
            files.remove(there, tree=True)

    def test_F5_parts_of_files(self) -> None:
        self.need(Feature.FILES)
        path = unique("parts")
        with self.shared() as session:
            files = session.files
            files.write(path, b"0123456789")
            seen: object = files.read(path, offset=3, length=4, max_bytes=4)
            expect(seen == b"3456", "F5", "four bytes from the third on", seen)
            seen = files.read(path, offset=8, length=100)
            expect(seen == b"89", "F5", "what there is up to the end", seen)
            files.write(path, b"ab", append=True)
            files.write(path, b"XY", offset=2)
            seen = files.read(path)
            expect(seen == b"01XY456789ab", "F5", "both parts in their places", seen)

    def test_F5_a_file_of_any_size_in_pieces(self) -> None:
        self.need(Feature.FILES)
        path = f"/tmp/{unique('large')}"
        block = os.urandom(1 << 20)
        with self.shared() as session:
            session.files.write(path, (block for _ in range(80)))
            seen, size = hashlib.sha256(), 0
            for piece in session.files.read_pieces(path):
                seen.update(piece)
                size += len(piece)
            session.files.remove(path)
        same = seen.digest() == hashlib.sha256(block * 80).digest()
        expect(same, "F5", "the same 80 MiB", f"{size} bytes")
