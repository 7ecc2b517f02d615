"""Files that a sandbox serves itself: what core does with them."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from stockade.errors import FileTooLargeError
from stockade.file_backend import FileBackend, FileInfo


class Memory(FileBackend):
    """Files in a dictionary; a folder is there as long as a file is in it."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def read(self, path: str, max_bytes: int) -> bytes:
        data = self.held[path]
        if len(data) > max_bytes:
            raise FileTooLargeError(path, max_bytes)
        return data

    def write(self, path: str, data: bytes, mode: int | None) -> None:
        self.held[path] = data

    def list(self, path: str) -> list[FileInfo]:
        start = path.rstrip("/") + "/"
        found = {}
        for name, data in self.held.items():
            if name.startswith(start):
                first, slash, _ = name[len(start) :].partition("/")
                kind = "dir" if slash else "file"
                found[first] = FileInfo(first, kind, 0 if slash else len(data), 0o644)
        return list(found.values())

    def stat(self, path: str) -> FileInfo:
        return FileInfo(os.path.basename(path), "file", len(self.held[path]), 0o644)

    def make_dir(self, path: str) -> None:
        return

    def remove(self, path: str, *, tree: bool) -> None:
        del self.held[path]


def test_whole_folders_by_means_of_single_files() -> None:
    one, two = Memory(), Memory()
    one.write("/a/b", b"\0\xff", None)
    one.write("/a/sub/c d", b"x" * 1000, None)
    packed = one.pack("/a", 1 << 20)
    assert packed is not None
    two.unpack("/elsewhere", packed)
    assert two.held == {"/elsewhere/b": b"\0\xff", "/elsewhere/sub/c d": b"x" * 1000}


def test_a_folder_past_the_limit() -> None:
    backend = Memory()
    backend.write("/a/b", b"x" * 5000, None)
    assert backend.pack("/a", 4000) is None


@pytest.mark.parametrize("name", ["../out", "a/../../out"])
def test_an_archive_that_leads_out_is_refused(name: str) -> None:
    backend = Memory()
    with pytest.raises(OSError, match="denied"):
        backend.unpack("/a", _archive(name))
    assert not backend.held


def test_links_are_refused(tmp_path: Path) -> None:
    backend = Memory()
    with pytest.raises(OSError, match="not permitted"):
        backend.unpack("/a", _archive("link", kind=tarfile.SYMTYPE))


def _archive(name: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.type = kind
        archive.addfile(member)
    return buffer.getvalue()
