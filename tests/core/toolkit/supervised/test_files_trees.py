"""The supervisor's file server at changes and whole trees, without a sandbox (F3 to F5, G1)."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.toolkit.supervised.file_server import Inside, Served
from stockade._entries import Entry, Missed, Piece, TreeItem
from stockade.errors import FileTooLargeError, StockadeError
from stockade.file_backend import FileCall
from stockade.files._host import FolderWriter
from stockade.toolkit.supervised.files import SupervisedFiles

# -- changes -------------------------------------------------------------------------


def test_F5_a_move_within_and_between_file_systems(
    inside: Inside, tmp_path: Path, elsewhere: Path
) -> None:
    inside.write("d/f", b"x", mode=0o600)
    os.link(tmp_path / "d" / "f", tmp_path / "d" / "h")
    os.symlink("f", tmp_path / "d" / "l")
    inside.move("d", "new/place")
    away = SupervisedFiles(inside.served)
    away.move(inside.path("new/place"), f"{elsewhere}/sub/d", FileCall(20))
    moved = elsewhere / "sub" / "d"
    assert not (tmp_path / "new" / "place").exists()
    assert os.path.samefile(moved / "f", moved / "h") and os.readlink(moved / "l") == "f"
    away.move(f"{moved}/f", inside.path("f"), FileCall(20))
    away.move(f"{moved}/l", inside.path("l"), FileCall(20))
    assert sorted(os.listdir(moved)) == ["h"]
    assert inside.stat("f").mode == 0o600 and os.readlink(tmp_path / "l") == "f"


def test_F5_what_cannot_be_moved_whole_stays_whole(
    inside: Inside, tmp_path: Path, elsewhere: Path
) -> None:
    inside.write("d/f", b"x")
    os.mkfifo(tmp_path / "d" / "p")
    with pytest.raises(OSError, match="not moved.*FIFO"):
        inside.files.move(inside.path("d"), f"{elsewhere}/d", FileCall(20))
    assert sorted(os.listdir(tmp_path / "d")) == ["f", "p"] and not os.listdir(elsewhere)


def test_F5_a_move_replaces_as_a_rename_does(
    inside: Inside, tmp_path: Path, elsewhere: Path
) -> None:
    inside.write("one", b"1")
    (elsewhere / "target").write_text("kept")
    os.symlink("target", elsewhere / "l")
    inside.files.move(inside.path("one"), f"{elsewhere}/l", FileCall(20))
    assert (elsewhere / "target").read_text() == "kept" and not (elsewhere / "l").is_symlink()
    inside.write("d/f", b"1")
    inside.write("full/f", b"2")
    with pytest.raises(OSError, match="not empty"):
        inside.move("d", "full")
    with pytest.raises(OSError, match="into itself"):
        inside.move("d", "d/below")
    (tmp_path / "empty").mkdir()
    inside.move("d", "empty")
    assert inside.read("empty/f") == b"1"


def test_F5_copies(inside: Inside, tmp_path: Path) -> None:
    inside.write("d/f", b"x", mode=0o755)
    os.link(tmp_path / "d" / "f", tmp_path / "d" / "h")
    os.symlink("nowhere", tmp_path / "d" / "l")
    os.mkfifo(tmp_path / "d" / "p")
    os.utime(tmp_path / "d" / "f", ns=(0, 42))
    assert inside.copy("d/f", "deep/copy") == []
    assert inside.stat("deep/copy").mode == 0o755 and inside.stat("deep/copy").modified_ns == 42
    assert inside.copy("d", "e") == [Missed("p", "it is a FIFO, not a regular file")]
    assert os.path.samefile(tmp_path / "e" / "f", tmp_path / "e" / "h")
    assert not os.path.samefile(tmp_path / "e" / "f", tmp_path / "d" / "f")
    assert os.readlink(tmp_path / "e" / "l") == "nowhere"
    with pytest.raises(shutil.SameFileError):
        inside.copy("d/f", "d/h")
    with pytest.raises(OSError, match="into itself"):
        inside.copy("d", "d/sub/below")
    assert inside.read("d/f") == b"x"


def test_a_copy_keeps_holes(inside: Inside, tmp_path: Path) -> None:
    inside.write("s", b"x", offset=10 << 30)
    inside.copy("s", "t")
    about = (tmp_path / "t").stat()
    assert about.st_size == (10 << 30) + 1 and about.st_blocks < 1 << 10


def test_a_tree_of_any_depth_is_removed(inside: Inside, tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(700):
        os.mkdir("d", dir_fd=here)
        with open(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=here), "wb"):
            below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    inside.remove("d", tree=True)
    assert os.listdir(tmp_path) == ["f"]


def test_a_link_in_a_tree_that_is_removed_is_not_followed(inside: Inside, tmp_path: Path) -> None:
    inside.write("kept/f", b"x")
    inside.write("d/sub/f", b"x")
    os.symlink(tmp_path / "kept", tmp_path / "d" / "sub" / "l")
    inside.remove("d", tree=True)
    assert os.listdir(tmp_path) == ["kept"] and inside.read("kept/f") == b"x"
    os.symlink("kept", tmp_path / "l")
    inside.remove("l", tree=True)
    assert inside.read("kept/f") == b"x"


# -- trees ---------------------------------------------------------------------------


def test_F4_a_tree_out_and_in_again(inside: Inside, tmp_path: Path) -> None:
    inside.write("one/closed/näme\n", bytes(range(256)) * 1000, mode=0o640)
    os.link(tmp_path / "one/closed/näme\n", tmp_path / "one/hard")
    os.symlink("/elsewhere", tmp_path / "one/link")
    (tmp_path / "one/empty").mkdir()
    os.utime(tmp_path / "one/link", ns=(0, 7_000_000_001), follow_symlinks=False)
    os.utime(tmp_path / "one/closed", ns=(0, 42_000_000_007))
    (tmp_path / "one/empty").chmod(0o2711)
    items = inside.get("one")
    assert inside.put("two", *items) == []
    for name in ("closed/näme\n", "hard", "link", "empty", "closed"):
        one, two = (os.lstat(tmp_path / top / name) for top in ("one", "two"))
        assert (one.st_mode, one.st_mtime_ns, one.st_nlink) == (
            two.st_mode,
            two.st_mtime_ns,
            two.st_nlink,
        )
    assert os.path.samefile(tmp_path / "two/hard", tmp_path / "two/closed/näme\n")
    assert (tmp_path / "two/hard").read_bytes() == bytes(range(256)) * 1000


def test_F4_what_cannot_be_brought_is_reported_and_the_rest_comes(
    inside: Inside, tmp_path: Path
) -> None:
    inside.write("t/f", b"x")
    os.mkfifo(tmp_path / "t/p")
    deep = tmp_path / "t"
    for _ in range(300):
        deep = deep / "d"
        deep.mkdir()
    items = inside.get("t")
    missed = [item for item in items if isinstance(item, Missed)]
    assert {one.path for one in missed} == {"p", "/".join("d" * 256)}
    assert any(isinstance(item, Entry) and item.path == "f" for item in items)


def test_F4_a_closed_folder_and_file_are_reported() -> None:
    user = 65534 if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        inside = Inside(Path(folder), Served(user=user))
        inside.write("t/closed/f", b"x")
        inside.write("t/secret", b"x", mode=0)
        inside.write("t/f", b"x")
        Path(folder, "t/closed").chmod(0)
        try:
            items = inside.get("t")
            missed = {item.path: item.reason for item in items if isinstance(item, Missed)}
            with pytest.raises(PermissionError):
                inside.read("t/secret")
            with pytest.raises(PermissionError):
                inside.list("t/closed")
        finally:
            Path(folder, "t/closed").chmod(0o700)
    assert missed == {"closed": os.strerror(13), "secret": os.strerror(13)}
    assert {item.path for item in items if isinstance(item, Entry)} == {"f", "closed"}


def test_F4_limits_of_a_tree(inside: Inside, tmp_path: Path) -> None:
    inside.write("t/a", b"x" * 600)
    inside.write("t/b", b"x" * 600)
    assert len([i for i in inside.get("t", max_bytes=1200) if isinstance(i, Entry)]) == 2
    with pytest.raises(FileTooLargeError):
        inside.get("t", max_bytes=1199)
    with pytest.raises(FileTooLargeError, match="1 entries"):
        inside.get("t", max_entries=1)
    os.truncate(tmp_path / "t/a", 1 << 40)
    began = time.monotonic()
    with pytest.raises(FileTooLargeError):
        inside.get("t")
    items = inside.get("t", max_bytes=2 << 40)
    assert time.monotonic() - began < 5
    with FolderWriter(tmp_path / "out") as writer:
        for item in items:
            writer.take(item)
        assert writer.finish() == []
    assert (tmp_path / "out/a").stat().st_size == 1 << 40


def test_F3_no_entry_goes_through_a_link(inside: Inside, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    inside.write("in/real/f", b"kept")
    os.symlink(tmp_path / "outside", tmp_path / "in/planted")
    os.symlink("real/f", tmp_path / "in/file")
    missed = inside.put(
        "in",
        Entry("planted/evil", "file", size=1),
        Piece(0, b"x"),
        Entry("came", "link", target=str(tmp_path / "outside")),
        Entry("came/evil", "file", size=1),
        Piece(0, b"x"),
        Entry("came", "dir"),
        Entry("file", "file", size=3),
        Piece(0, b"new"),
        Entry("h", "hardlink", target="came/x"),
    )
    assert [one.path for one in missed] == ["planted/evil", "came/evil", "came", "h"]
    assert os.listdir(tmp_path / "outside") == []
    assert inside.read("in/file") == b"new" and inside.read("in/real/f") == b"kept"


@pytest.mark.parametrize(
    "path", ["/abs", "../out", "a/../b", "a//b", ".", "a/.", "", "x" * 256, "a" * 4000 + "/b"]
)
def test_F3_a_path_that_leads_out_is_refused(inside: Inside, tmp_path: Path, path: str) -> None:
    inside.write("first", b"x")
    with pytest.raises(StockadeError, match="damaged"):
        inside.put("in", Entry(path, "file"))
    assert sorted(os.listdir(tmp_path)) == ["first", "in"] and not os.listdir(tmp_path / "in")


def test_content_past_a_files_size_is_refused(inside: Inside) -> None:
    with pytest.raises(StockadeError, match="damaged"):
        inside.put("in", Entry("f", "file", size=3), Piece(2, b"xy"))
    with pytest.raises(StockadeError, match="damaged"):
        inside.put("in", Entry("f", "file", size=3), Piece((1 << 64) - 1, b"xy"))


def test_G1_chosen_paths(inside: Inside, tmp_path: Path) -> None:
    inside.write("t/new/f", b"1")
    inside.write("t/changed/old", b"2")
    inside.write("t/changed/touched", b"3")
    found: list[TreeItem] = []
    inside.files.get_tree(
        inside.path("t"),
        found.append,
        FileCall(20),
        max_bytes=100,
        max_entries=100,
        chosen=["tnew", "schanged", "schanged/touched", "tgone", "tgone/too"],
    )
    assert [item.path for item in found if isinstance(item, Entry)] == [
        "new/f",
        "new",
        "changed/touched",
    ]


def test_times_and_cancelling_end_a_call(inside: Inside, tmp_path: Path) -> None:
    call = FileCall(0.3)

    def endless() -> Iterator[bytes]:
        while True:
            time.sleep(0.01)
            yield b"x"

    with pytest.raises(TimeoutError):
        inside.files.write(inside.path("f"), endless(), call, mode=None, append=False, offset=None)
    call = FileCall(20)
    (tmp_path / "big").write_bytes(bytes(8 << 20))
    found: list[TreeItem] = []

    def receive(item: TreeItem) -> None:
        found.append(item)
        call.cancel(KeyError("enough"))

    with pytest.raises(KeyError):
        inside.files.get_tree(str(tmp_path), receive, call, max_bytes=1 << 30, max_entries=100)
    assert len(found) < 10


def test_the_mask_of_a_mode_is_kept_to(inside: Inside, tmp_path: Path) -> None:
    inside.write("f", b"", mode=0o100777)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o777
