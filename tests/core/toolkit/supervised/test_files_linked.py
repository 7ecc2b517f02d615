"""Files over a real link: credit both ways, time, cancelling (F2, F4)."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockade.errors import CancelledError, FileTooLargeError
from stockade.file_backend import FileCall
from stockade.files._host import FolderWriter, read_folder
from stockade.toolkit.supervised import Link
from stockade.toolkit.supervised.files import SupervisedFiles


def test_F1_fifty_mebibytes_there_and_back(link: Link, tmp_path: Path) -> None:
    files = SupervisedFiles(link.builtin)
    data = os.urandom(1 << 20) * 50
    path = f"{tmp_path}/big"
    files.write(path, [data], FileCall(60), mode=None, append=False, offset=None)
    assert files.read(path, FileCall(60), offset=0, length=None, max_bytes=50 << 20) == data


def test_F4_a_tree_there_and_back(link: Link, tmp_path: Path) -> None:
    files = SupervisedFiles(link.builtin)
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    for number in range(300):
        (source / "sub" / f"f{number}").write_bytes(os.urandom(10_000))
    os.mkfifo(source / "p")
    missed = files.put_tree(f"{tmp_path}/there", read_folder(source), FileCall(60))
    assert [one.path for one in missed] == ["p"]
    with FolderWriter(tmp_path / "back") as writer:
        files.get_tree(
            f"{tmp_path}/there", writer.take, FileCall(60), max_bytes=1 << 30, max_entries=1000
        )
        assert writer.finish() == []
    for one in (source / "sub").iterdir():
        assert (tmp_path / "back" / "sub" / one.name).read_bytes() == one.read_bytes()


def test_F2_a_call_ends_at_its_time_and_when_it_is_cancelled(link: Link, tmp_path: Path) -> None:
    files = SupervisedFiles(link.builtin)

    def slow() -> Iterator[bytes]:
        for _ in itertools.count():
            time.sleep(0.01)
            yield b"x"

    def write(call: FileCall) -> None:
        files.write(f"{tmp_path}/f", slow(), call, mode=None, append=False, offset=None)

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        write(FileCall(0.5))
    call = FileCall(60)
    threading.Timer(0.5, call.cancel).start()
    with pytest.raises(CancelledError):
        write(call)
    assert time.monotonic() - began < 5
    assert files.list(str(tmp_path), FileCall(20), max_entries=10)[0].name == "f"


def test_F2_what_stops_the_reader_stops_the_server(link: Link, tmp_path: Path) -> None:
    files = SupervisedFiles(link.builtin)
    (tmp_path / "big").write_bytes(bytes(64 << 20))
    with pytest.raises(FileTooLargeError):
        files.read(f"{tmp_path}/big", FileCall(20), offset=0, length=None, max_bytes=1 << 20)

    def refuse(_: object) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError):
        files.get_tree(str(tmp_path), refuse, FileCall(20), max_bytes=1 << 30, max_entries=10)
    assert files.stat(f"{tmp_path}/big", FileCall(20), follow_links=False).size == 64 << 20
