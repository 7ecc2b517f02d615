"""Checks of F: files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from stockade.capabilities import Feature
from stockade.errors import FileTooLargeError, StockadeError
from stockade.testing.base import ConformanceBase, expect

_NAMES = ("plain", "with space", "-dash", "quote'\"", "new\nline", "näme-日本", "$x`y`", "*", "..x")


class FilesInAndOut(ConformanceBase):
    """F: files in and out."""

    def test_F1_what_is_written_is_read(self) -> None:
        self.need(Feature.FILES)
        data = bytes(range(256))
        with self.session() as session:
            for name in _NAMES:
                session.files.write(f"a/b/{name}", data)
                expect(session.files.read(f"a/b/{name}") == data, "F1", f"{name!r}", "other bytes")
            session.files.write("a/b/plain", b"")
            expect(session.files.read("a/b/plain") == b"", "F1", "replaced", "not")
            names = {info.name for info in session.files.list("a/b")}
            expect(names == set(_NAMES), "F4", "all names listed", names)

    def test_F1_fifty_mebibytes(self) -> None:
        self.need(Feature.FILES)
        data = os.urandom(1 << 20) * 50
        with self.session() as session:
            session.files.write("/tmp/big", data)
            expect(session.files.read("/tmp/big") == data, "F1", "the same 50 MiB", "other bytes")

    def test_F2_errors_are_those_of_local_files(self) -> None:
        self.need(Feature.FILES)
        with self.session() as session:
            files = session.files
            files.write("file", b"0123456789")
            files.make_dir("dir/sub")
            for call, kind in (
                (lambda: files.read("none"), FileNotFoundError),
                (lambda: files.read("none/none"), FileNotFoundError),
                (lambda: files.read("dir"), IsADirectoryError),
                (lambda: files.write("dir", b""), IsADirectoryError),
                (lambda: files.read("file/x"), NotADirectoryError),
                (lambda: files.write("file/x", b""), NotADirectoryError),
                (lambda: files.list("file"), NotADirectoryError),
                (lambda: files.list("none"), FileNotFoundError),
                (lambda: files.write("/usr/x", b""), PermissionError),
                (lambda: files.remove("none"), FileNotFoundError),
            ):
                with pytest.raises(kind):
                    call()
            with pytest.raises(FileTooLargeError, match="limit of 5 bytes"):
                files.read("file", max_bytes=5)

    def test_F3_a_planted_link_leads_nowhere_on_the_host(self) -> None:
        self.need(Feature.FILES)
        with tempfile.TemporaryDirectory() as folder, self.session() as session:
            os.chmod(folder, 0o777)
            secret = Path(folder, "secret")
            secret.write_text("hunter2")
            secret.chmod(0o666)
            session.run(["ln", "-s", str(secret), "link"])
            session.run(["ln", "-s", folder, "out"])
            for path in ("link", "out/secret"):
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

    def test_F4_whole_folders_in_and_out(self) -> None:
        self.need(Feature.FILES)
        with tempfile.TemporaryDirectory() as folder, self.session() as session:
            source, back = Path(folder, "source"), Path(folder, "back")
            (source / "sub" / "empty").mkdir(parents=True)
            (source / "sub" / "data").write_bytes(bytes(range(256)) * 1000)
            (source / "run").write_text("#!/bin/sh\necho ran\n")
            (source / "run").chmod(0o755)
            session.files.put_tree(source, "tree")
            expect(session.shell("tree/run").stdout == "ran\n", "F4", "modes kept", "not")
            session.files.get_tree("tree", back)
            expect((back / "sub/data").read_bytes() == bytes(range(256)) * 1000, "F4", "same", "")
            expect((back / "sub/empty").is_dir(), "F4", "empty folders too", "not")

    def test_F4_a_listing_tells_kind_size_and_mode(self) -> None:
        self.need(Feature.FILES)
        with self.session() as session:
            session.files.write("here/file", b"12345", mode=0o640)
            session.files.make_dir("here/folder")
            session.shell("ln -s nowhere here/link")
            seen = {info.name: info for info in session.files.list("here")}
            kinds = {name: info.kind for name, info in seen.items()}
            right = {"file": "file", "folder": "dir", "link": "link"}
            expect(kinds == right, "F4", repr(right), kinds)
            told = (seen["file"].size, oct(seen["file"].mode))
            expect(told == (5, "0o640"), "F4", "5 bytes, mode 640", told)
            expect(session.files.stat("here/file") == seen["file"], "F4", "the same by stat", seen)
