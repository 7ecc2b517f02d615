"""Trees from a hostile sandbox stay inside their destination (F3, F4)."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade._entries import Entry, Missed, Misses, Piece
from stockade.errors import ArchiveError, StockadeError
from stockade.files import _tar as tar
from stockade.files._host import FolderWriter, read_folder


def pack(source: str | Path) -> bytes:
    """A host folder as an archive."""
    writer = tar.Writer()
    for item in read_folder(source):
        writer.take(item)
    return writer.end()


def unpack(data: bytes, destination: str | Path) -> Misses:
    """An archive into a host folder, and what of it was not brought."""
    items = tar.items(data)
    with FolderWriter(destination) as writer:
        for item in items:
            writer.take(item)
        return writer.finish()


def archive(*members: tuple[str, str, str]) -> bytes:
    """Members as (kind, name, link target or content)."""
    buffer = io.BytesIO()
    kinds = {
        "file": tarfile.REGTYPE,
        "dir": tarfile.DIRTYPE,
        "link": tarfile.SYMTYPE,
        "hard": tarfile.LNKTYPE,
        "fifo": tarfile.FIFOTYPE,
        "dev": tarfile.CHRTYPE,
    }
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for kind, name, more in members:
            info = tarfile.TarInfo(name)
            info.type = kinds[kind]
            info.mode = 0o7777
            content = more.encode() if kind == "file" else b""
            info.size = len(content)
            info.linkname = more if kind in ("link", "hard") else ""
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "members",
    [
        [("file", "/etc/evil", "x")],
        [("file", "../evil", "x")],
        [("file", "a/../../evil", "x")],
        [("link", "l", "."), ("file", "l/../../evil", "x")],
        [("hard", "h", "/etc/passwd")],
        [("hard", "h", "../evil")],
        [("hard", "h", "h")],
    ],
)
def test_F3_names_that_lead_out_are_refused_before_anything_is_written(
    tmp_path: Path, members: list[tuple[str, str, str]]
) -> None:
    destination = tmp_path / "deep" / "out"
    with pytest.raises(ArchiveError):
        unpack(archive(("file", "first", "x"), *members), destination)
    assert not destination.exists()


@pytest.mark.parametrize(
    "members",
    [
        [("link", "l", "/etc/passwd")],
        [("link", "l", "../evil")],
        [("link", "a/l", "../../evil")],
        [("link", "l", "")],
        [("link", "l", "sub"), ("file", "l/evil", "x")],
        [("link", "a", "b/c"), ("link", "b", "d"), ("dir", "d", "")],
        [("hard", "h", "not-there")],
        [("link", "s", "first"), ("hard", "h", "s")],
        [("fifo", "p", "")],
        [("dev", "null", "")],
    ],
)
def test_F3_F4_what_cannot_be_brought_is_reported_and_the_rest_is(
    tmp_path: Path, members: list[tuple[str, str, str]]
) -> None:
    destination = tmp_path / "deep" / "out"
    missed = unpack(archive(("file", "first", "x"), *members), destination)
    assert len(missed) == 1
    assert (destination / "first").read_text() == "x"
    for path in destination.rglob("*"):
        assert path.resolve().is_relative_to(destination.resolve())


def test_F3_a_planted_link_in_the_destination_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    destination = tmp_path / "out"
    destination.mkdir()
    (destination / "sub").symlink_to(outside)
    (destination / "file").symlink_to(outside / "file")
    (missed,) = unpack(archive(("file", "sub/evil", "x")), destination)
    assert "in the way" in missed.reason
    assert unpack(archive(("file", "file", "x")), destination) == []
    assert not list(outside.iterdir()) and not (destination / "file").is_symlink()


def test_F4_hard_links_times_and_modes_are_kept(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "closed").mkdir(parents=True)
    (source / "closed" / "f").write_text("one")
    os.link(source / "closed" / "f", source / "g")
    os.utime(source / "g", ns=(1, 1_234_567_890_123_456_789))
    (source / "old").write_text("")
    os.utime(source / "old", ns=(0, -1_500_000_000))
    (source / "closed").chmod(0o555)
    os.utime(source / "closed", ns=(1, 42_000_000_007))
    assert unpack(pack(source), tmp_path / "out") == []
    out = tmp_path / "out"
    try:
        assert os.path.samefile(out / "closed" / "f", out / "g")
        assert (out / "g").stat().st_mtime_ns == 1_234_567_890_123_456_789
        assert (out / "old").stat().st_mtime_ns == -1_500_000_000
        assert (out / "closed").stat().st_mode & 0o777 == 0o555
        assert (out / "closed").stat().st_mtime_ns == 42_000_000_007
    finally:
        for folder in (source, out):
            (folder / "closed").chmod(0o755)


def test_F4_a_hard_link_to_a_file_that_was_there_before_is_not_made(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("mine")
    with FolderWriter(tmp_path) as writer:
        writer.take(Entry("h", "hardlink", target="own"))
        assert len(writer.finish()) == 1
    assert not (tmp_path / "h").exists()


def test_F4_a_file_that_broke_off_is_not_left_half(tmp_path: Path) -> None:
    with FolderWriter(tmp_path) as writer:
        writer.take(Entry("f", "file", size=10))
        writer.take(Piece(0, b"12345"))
        writer.take(Missed("f", "Input/output error"))
        writer.take(Entry("g", "file", size=0))
        assert writer.finish() == [Missed("f", "Input/output error")]
    assert sorted(os.listdir(tmp_path)) == ["g"]


def test_F4_holes_cost_nothing(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with open(source / "sparse", "wb") as file:
        file.truncate(1 << 40)
        file.seek(1 << 39)
        file.write(b"x")
    items = list(read_folder(source))
    assert sum(len(item.data) for item in items if isinstance(item, Piece)) <= 1 << 20
    with FolderWriter(tmp_path / "out") as writer:
        for item in items:
            writer.take(item)
        assert writer.finish() == []
    about = (tmp_path / "out" / "sparse").stat()
    assert about.st_size == 1 << 40 and about.st_blocks * 512 <= 4 << 20


def test_F4_what_cannot_be_read_here_is_reported(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p")
    (tmp_path / "f").write_text("x")
    items = list(read_folder(tmp_path))
    assert [item.path for item in items if isinstance(item, Missed)] == ["p"]
    assert [item.path for item in items if isinstance(item, Entry)] == ["f"]


def test_special_bits_are_dropped(tmp_path: Path) -> None:
    unpack(archive(("file", "f", "x")), tmp_path / "out")
    assert (tmp_path / "out" / "f").stat().st_mode & 0o7000 == 0


def test_F4_a_folder_goes_in_and_out(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub dir" / "empty").mkdir(parents=True)
    (source / "sub dir" / "näme\n").write_bytes(bytes(range(256)) * 100)
    (source / "run").write_text("#!/bin/sh\n")
    (source / "run").chmod(0o755)
    (source / "link").symlink_to("sub dir/empty")
    unpack(pack(source), tmp_path / "out")
    out = tmp_path / "out"
    assert (out / "sub dir" / "näme\n").read_bytes() == bytes(range(256)) * 100
    assert (out / "sub dir" / "empty").is_dir() and os.access(out / "run", os.X_OK)
    assert os.readlink(out / "link") == "sub dir/empty"


def test_a_folder_is_needed(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    with pytest.raises(NotADirectoryError):
        list(read_folder(tmp_path / "f"))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=2048))
def test_F3_any_bytes_unpack_or_are_refused(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        try:
            unpack(data, root / "out")
        except StockadeError:
            pass
        assert set(os.listdir(root)) <= {"out"}


NAMES = st.sampled_from(["a", "b", "a/b", "..", "../x", "a/../b", "/x", ".", "a/./b", "b/c/d", "l"])
MEMBERS = st.lists(st.tuples(st.sampled_from(["file", "dir", "link", "hard"]), NAMES, NAMES))


@settings(max_examples=300, deadline=None)
@given(MEMBERS)
def test_F3_no_archive_writes_outside(members: list[tuple[str, str, str]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        try:
            unpack(archive(*members), root / "in" / "out")
        except (StockadeError, OSError):
            pass
        assert set(os.listdir(root)) <= {"in"}
        inside = root / "in"
        assert not inside.exists() or set(os.listdir(inside)) <= {"out"}
        for path in root.rglob("*"):
            assert os.path.realpath(path).startswith(os.path.realpath(root))
