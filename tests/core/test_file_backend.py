"""Files that a sandbox serves itself: what core does with them."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterable

import pytest

from stockade._entries import Entry, Missed, Misses, Piece, TreeItem
from stockade.errors import CancelledError, FileTooLargeError
from stockade.file_backend import FileBackend, FileCall, FileInfo


class Memory(FileBackend):
    """Files in a dictionary; a folder is there as long as a file is in it."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def read(
        self, path: str, call: FileCall, *, offset: int, length: int | None, max_bytes: int
    ) -> bytes:
        data = self.held[path][offset:][:length]
        if len(data) > max_bytes:
            raise FileTooLargeError(path, max_bytes)
        return data

    def write(
        self,
        path: str,
        data: Iterable[bytes],
        call: FileCall,
        *,
        mode: int | None,
        append: bool,
        offset: int | None,
    ) -> None:
        self.held[path] = b"".join(data)

    def list(self, path: str, call: FileCall, *, max_entries: int) -> list[FileInfo]:
        start = path.rstrip("/") + "/"
        found = {}
        for name, data in self.held.items():
            if name.startswith(start):
                first, slash, _ = name[len(start) :].partition("/")
                kind = "dir" if slash else "file"
                found[first] = FileInfo(first, kind, 0 if slash else len(data), 0o644)
        return list(found.values())

    def stat(self, path: str, call: FileCall, *, follow_links: bool) -> FileInfo:
        name = os.path.basename(path)
        if path in self.held:
            return FileInfo(name, "file", len(self.held[path]), 0o644)
        if any(held.startswith(f"{path}/") for held in self.held):
            return FileInfo(name, "dir", 0, 0o755)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def make_dir(self, path: str, call: FileCall) -> None:
        return

    def remove(self, path: str, call: FileCall, *, tree: bool) -> None:
        for name in [held for held in self.held if f"{held}/".startswith(f"{path}/")]:
            del self.held[name]


def brought(backend: FileBackend, path: str, **limits: int) -> list[TreeItem]:
    found: list[TreeItem] = []
    bounds = {"max_bytes": 1 << 20, "max_entries": 100, **limits}
    backend.get_tree(
        path,
        found.append,
        FileCall(),
        max_bytes=bounds["max_bytes"],
        max_entries=bounds["max_entries"],
    )
    return found


def held(**files: bytes) -> Memory:
    made = Memory()
    made.held = {f"/{name.replace('__', '/')}": data for name, data in files.items()}
    return made


def test_whole_folders_by_means_of_single_files() -> None:
    one, two = held(a__b=b"\0\xff", a__sub__c=b"x" * 1000), Memory()
    assert two.put_tree("/elsewhere", brought(one, "/a"), FileCall()) == []
    assert two.held == {"/elsewhere/b": b"\0\xff", "/elsewhere/sub/c": b"x" * 1000}


@pytest.mark.parametrize("limits", [{"max_bytes": 4000}, {"max_entries": 2}])
def test_a_folder_past_a_limit(limits: dict[str, int]) -> None:
    with pytest.raises(FileTooLargeError):
        brought(held(a__b=b"x" * 5000, a__c=b"", a__d=b""), "/a", **limits)


def test_holes_are_zeros_and_pieces_find_their_place() -> None:
    backend = Memory()
    backend.put_tree(
        "/a", [Entry("f", "file", size=9), Piece(2, b"xy"), Piece(6, b"z")], FileCall()
    )
    assert backend.held == {"/a/f": b"\0\0xy\0\0z\0\0"}


def test_what_a_wall_has_not_is_reported_and_the_rest_goes_on() -> None:
    backend = Memory()
    items: list[TreeItem] = [
        Entry("l", "link", target="f"),
        Entry("h", "hardlink", target="f"),
        Missed("p", "it is a FIFO"),
        Entry("f", "file", size=1),
        Piece(0, b"1"),
    ]
    missed: Misses = backend.put_tree("/a", items, FileCall())
    assert [one.path for one in missed] == ["l", "h", "p"]
    assert backend.held == {"/a/f": b"1"}


def test_a_copy_and_a_move_of_a_folder() -> None:
    backend = held(a__b=b"1", a__sub__c=b"2")
    assert backend.copy("/a", "/new", FileCall()) == []
    assert backend.held["/new/sub/c"] == b"2"
    with pytest.raises(FileExistsError):
        backend.copy("/a", "/new", FileCall())
    with pytest.raises(OSError, match="into itself"):
        backend.copy("/a", "/a/below", FileCall())
    backend.move("/new", "/moved", FileCall())
    assert sorted(backend.held) == ["/a/b", "/a/sub/c", "/moved/b", "/moved/sub/c"]


def test_a_call_has_its_time() -> None:
    call = FileCall(0.02)
    assert 0 < (call.remaining() or 0) <= 0.02
    time.sleep(0.03)
    with pytest.raises(TimeoutError, match=r"0\.02 s"):
        call.remaining()
    assert FileCall().remaining() is None


def test_a_cancelled_call_notifies_whoever_waits_for_it() -> None:
    call, cancelled = FileCall(), threading.Event()
    call.on_cancel(cancelled.set)
    call.cancel()
    call.cancel(ValueError("too late"))
    late = threading.Event()
    call.on_cancel(late.set)
    assert cancelled.is_set() and late.is_set() and call.cancelled
    with pytest.raises(CancelledError):
        call.check()
