"""Checks of F: files."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from stockade.capabilities import Feature
from stockade.errors import FileTooLargeError, StockadeError
from stockade.testing.base import ConformanceBase, expect
from stockade.testing.programs import unique

_NAMES = ("plain", "with space", "-dash", "quote'\"", "new\nline", "näme-日本", "$x`y`", "*", "..x")


class FilesInAndOut(ConformanceBase):
    """F: files in and out."""

    def test_F1_what_is_written_is_read(self) -> None:
        self.need(Feature.FILES)
        data = bytes(range(256))
        with self.shared() as session:
            folder = f"{unique()}/b"
            for name in _NAMES:
                session.files.write(f"{folder}/{name}", data)
                seen = session.files.read(f"{folder}/{name}")
                expect(seen == data, "F1", f"the bytes of {name!r}", seen)
            session.files.write(f"{folder}/plain", b"")
            seen = session.files.read(f"{folder}/plain")
            expect(seen == b"", "F1", "a file that is replaced", seen)
            names = {info.name for info in session.files.list(folder)}
            expect(names == set(_NAMES), "F1", "all names listed", names)

    def test_F1_fifty_mebibytes(self) -> None:
        self.need(Feature.FILES)
        data = os.urandom(1 << 20) * 50
        path = f"/tmp/{unique('big')}"
        with self.shared() as session:
            session.files.write(path, data)
            same = session.files.read(path) == data
            session.files.remove(path)
            expect(same, "F1", "the same 50 MiB", "other bytes")

    def test_F2_errors_are_those_of_local_files(self) -> None:
        self.need(Feature.FILES)
        file, folder, none = unique("file"), unique("dir"), unique("none")
        with self.shared() as session:
            files = session.files
            files.write(file, b"0123456789")
            files.make_dir(f"{folder}/sub")
            for call, kind in (
                (lambda: files.read(none), FileNotFoundError),
                (lambda: files.read(f"{none}/none"), FileNotFoundError),
                (lambda: files.read(folder), IsADirectoryError),
                (lambda: files.write(folder, b""), IsADirectoryError),
                (lambda: files.read(f"{file}/x"), NotADirectoryError),
                (lambda: files.write(f"{file}/x", b""), NotADirectoryError),
                (lambda: files.list(file), NotADirectoryError),
                (lambda: files.list(none), FileNotFoundError),
                (lambda: files.remove(none), FileNotFoundError),
            ):
                _raises(call, kind)
            if self.claims(Feature.READ_ONLY_ROOT):
                _raises(lambda: files.write("/usr/x", b""), PermissionError)
            with pytest.raises(FileTooLargeError, match="limit of 5 bytes"):
                files.read(file, max_bytes=5)

    def test_F3_a_planted_link_leads_nowhere_on_the_host(self) -> None:
        self.need_a_wall()
        self.need(Feature.FILES, Feature.ARGV)
        link, out = unique("link"), unique("out")
        with tempfile.TemporaryDirectory() as folder, self.shared() as session:
            os.chmod(folder, 0o777)
            secret = Path(folder, "secret")
            secret.write_text("hunter2")
            secret.chmod(0o666)
            session.run(["ln", "-s", str(secret), link])
            session.run(["ln", "-s", folder, out])
            for path in (link, f"{out}/secret"):
                try:
                    seen = session.files.read(path)
                except (OSError, StockadeError):
                    seen = b""
                expect(b"hunter2" not in seen, "F3", f"nothing through {path}", seen)
                try:
                    session.files.write(path, b"changed")
                except (OSError, StockadeError):
                    pass
            expect(secret.read_text() == "hunter2", "F3", "the host's file untouched", "changed")

    def test_F3_a_folder_brought_out_stays_in_its_destination(self) -> None:
        self.need(Feature.FILES, Feature.ARGV)
        tree, later = unique("tree"), unique("later")
        with tempfile.TemporaryDirectory() as folder, self.shared() as session:
            outside, back = Path(folder, "outside"), Path(folder, "back")
            outside.mkdir()
            session.files.write(f"{tree}/plain", b"x")
            session.run(["ln", "-s", str(outside), f"{tree}/out"])
            # Nothing in its own tree, and a link in the next one into the same folder.
            session.run(["ln", "-s", "word/../outside", f"{tree}/up"])
            session.files.write(f"{later}/plain", b"x")
            session.run(["ln", "-s", ".", f"{later}/word"])
            for one in (tree, later):
                with contextlib.suppress(StockadeError, OSError):
                    session.files.get_tree(one, back)
            leads = (
                [
                    path
                    for path in back.rglob("*")
                    if not path.resolve().is_relative_to(back.resolve())
                ]
                if back.exists()
                else []
            )
            expect(not leads, "F3", "no link that leads out of the destination", leads)

    def test_F4_whole_folders_in_and_out(self) -> None:
        self.need(Feature.FILES)
        tree = unique("tree")
        with tempfile.TemporaryDirectory() as folder, self.shared() as session:
            source, back = Path(folder, "source"), Path(folder, "back")
            (source / "sub" / "empty").mkdir(parents=True)
            (source / "sub" / "data").write_bytes(bytes(range(256)) * 1000)
            (source / "run").write_text("#!/bin/sh\necho ran\n")
            (source / "run").chmod(0o755)
            session.files.put_tree(source, tree)
            if self.claims(Feature.ARGV):
                seen = session.run(["sh", "-c", f"{tree}/run"]).stdout
                expect(seen == "ran\n", "F4", "modes kept", seen)
            session.files.get_tree(tree, back)
            data = (back / "sub/data").read_bytes()
            expect(data == bytes(range(256)) * 1000, "F4", "the same bytes", data[:80])
            there = sorted(path.name for path in (back / "sub").iterdir())
            expect(there == ["data", "empty"], "F4", "empty folders too", there)

    def test_F4_a_listing_gives_kind_size_and_mode(self) -> None:
        self.need(Feature.FILES)
        here = unique("here")
        with self.shared() as session:
            session.files.write(f"{here}/file", b"12345", mode=0o640)
            session.files.make_dir(f"{here}/folder")
            right = {"file": "file", "folder": "dir"}
            if self.claims(Feature.ARGV):
                folder = session.provider.config.working_dir
                session.run(["ln", "-s", "nowhere", f"{folder}/{here}/link"])
                right["link"] = "link"
            seen = {info.name: info for info in session.files.list(here)}
            kinds = {name: info.kind for name, info in seen.items()}
            expect(kinds == right, "F4", repr(right), kinds)
            reported = (seen["file"].size, oct(seen["file"].mode))
            expect(reported == (5, "0o640"), "F4", "5 bytes, mode 640", reported)
            same = session.files.stat(f"{here}/file") == seen["file"]
            expect(same, "F4", "the same by stat", seen)


def _raises(call: Callable[[], object], kind: type[OSError]) -> None:
    try:
        seen: object = call()
    except kind:
        return
    except Exception as error:
        seen = error
    expect(False, "F2", kind.__name__, seen)
