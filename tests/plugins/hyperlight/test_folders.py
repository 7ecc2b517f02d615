"""The files of the Hyperlight wall, and the messages to its processes, without a microVM."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade.errors import FileTooLargeError, SpecialFileError
from stockade.file_backend import FileCall

if TYPE_CHECKING:
    from stockade_hyperlight.folders import Folders

pytest.importorskip("stockade_hyperlight", reason="pip install stockade-hyperlight (tox -e vm)")

PARTS = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Folders]:
    from stockade_hyperlight.folders import Folders

    made = Folders(1, str(tmp_path))
    yield made
    made.destroy()


def write(
    folders: Folders,
    path: str,
    data: bytes,
    *,
    mode: int | None = None,
    append: bool = False,
    offset: int | None = None,
) -> None:
    folders.write(path, [data], FileCall(), mode=mode, append=append, offset=offset)


def read(folders: Folders, path: str, max_bytes: int) -> bytes:
    return folders.read(path, FileCall(), offset=0, length=None, max_bytes=max_bytes)


@given(st.lists(PARTS, min_size=1, max_size=4).map("/".join))
def test_F3_a_path_is_one_name_that_leads_nowhere(path: str) -> None:
    from stockade_hyperlight.folders import decode, encode

    name = encode(path)
    assert "/" not in name
    assert not name.startswith(".")
    assert name.isascii()
    assert decode(name) == path


@pytest.mark.parametrize(
    "path", ["/../x", "/etc/passwd", "/output/../../etc/passwd", "/machine-1/x"]
)
def test_F3_other_places_are_not_there(folders: Folders, path: str) -> None:
    with pytest.raises(OSError):
        write(folders, path, b"x")
    with pytest.raises(OSError):
        read(folders, path, 100)
    assert sorted(os.listdir(folders.host)) == ["input", "output"]


def test_F3_a_link_in_the_folder_is_not_followed(folders: Folders, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    os.symlink(secret, Path(folders.host, "output", "link"))
    with pytest.raises(OSError):
        read(folders, "/output/link", 100)
    with pytest.raises(OSError):
        write(folders, "/output/link", b"changed")
    assert secret.read_text() == "hunter2"


def test_E2_the_limit_holds_from_outside_too(folders: Folders) -> None:
    write(folders, "/output/a", b"x" * 1_000_000)
    with pytest.raises(OSError, match="No space"):
        write(folders, "/output/b", b"x" * 100_000)
    write(folders, "/output/a", b"x" * 1_040_000)  # it replaces
    write(folders, "/input/a", b"x" * 1_000_000)  # a folder of its own


def test_F1_names_are_one_whatever_they_are_called_by(folders: Folders) -> None:
    write(folders, "/workspace/a/b", b"1")
    write(folders, "/tmp/a", b"2")
    assert read(folders, "/output/a/b", 10) == b"1"
    assert read(folders, "/output/tmp/a", 10) == b"2"
    with pytest.raises(FileTooLargeError):
        read(folders, "/tmp/a", 0)


def test_F5_parts_of_files(folders: Folders) -> None:
    write(folders, "/output/f", b"0123456789")
    write(folders, "/output/f", b"ab", append=True)
    write(folders, "/output/f", b"XY", offset=2)
    assert read(folders, "/output/f", 100) == b"01XY456789ab"
    part = folders.read("/output/f", FileCall(), offset=2, length=3, max_bytes=3)
    assert part == b"XY4"


def test_F2_a_fifo_is_refused_at_once(folders: Folders) -> None:
    os.mkfifo(Path(folders.host, "output", "p"))
    with pytest.raises(SpecialFileError):
        read(folders, "/output/p", 10)
    with pytest.raises(SpecialFileError):
        write(folders, "/output/p", b"x")


def test_folders_come_and_go(folders: Folders) -> None:
    folders.make_dir("/output/empty/deep", FileCall())
    assert folders.stat("/output/empty", FileCall(), follow_links=False).is_dir
    with pytest.raises(OSError, match="not empty"):
        folders.remove("/output/empty", FileCall(), tree=False)
    folders.remove("/output/empty/deep", FileCall(), tree=False)
    with pytest.raises(FileNotFoundError):
        folders.stat("/output/empty", FileCall(), follow_links=False)
    write(folders, "/output/one/two", b"", mode=0o640)
    assert [info.name for info in folders.list("/output/one", FileCall(), max_entries=100)] == [
        "two"
    ]
    folders.remove("/output/one", FileCall(), tree=True)
    assert folders.list("/output", FileCall(), max_entries=100) == []


def test_what_an_execution_wrote_is_the_sessions(folders: Folders) -> None:
    write(folders, "/output/kept", b"old")
    write(folders, "/output/changed", b"old")
    machine = folders.machine_folder()
    given_ = folders.give(machine)
    assert sorted(os.listdir(machine)) == ["changed", "kept"]
    Path(machine, "changed").write_bytes(b"newer")
    Path(machine, "made").write_bytes(b"new")
    folders.take(machine, given_)
    assert read(folders, "/output/kept", 10) == b"old"
    assert read(folders, "/output/changed", 10) == b"newer"
    assert read(folders, "/output/made", 10) == b"new"


def test_a_broken_other_end_is_reported() -> None:
    from stockade_hyperlight import wire

    ours, theirs = socket.socketpair()
    with ours, theirs:
        wire.send_json(ours, b"x", {"code": 1})
        assert wire.receive(theirs) == (b"x", b'{"code": 1}')
        ours.sendall(b"o" + (wire.MAX_BYTES + 1).to_bytes(4, "little"))
        with pytest.raises(EOFError, match="bytes"):
            wire.receive(theirs)
        ours.close()
        with pytest.raises(EOFError):
            wire.receive(theirs)
