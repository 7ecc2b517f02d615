"""Archives from a hostile sandbox stay inside their destination (F3)."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.archives import pack, unpack
from stockade.errors import ArchiveError, ConfigError, StockadeError


def archive(*members: tuple[str, str, str]) -> bytes:
    """Members as (kind, name, link target or content)."""
    buffer = io.BytesIO()
    kinds = {"file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "link": tarfile.SYMTYPE,
             "hard": tarfile.LNKTYPE, "fifo": tarfile.FIFOTYPE, "dev": tarfile.CHRTYPE}  # fmt: skip
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
        [("link", "l", "/etc/passwd")],
        [("link", "l", "../evil")],
        [("link", "a/l", "../../evil")],
        [("link", "l", "."), ("file", "l/../../evil", "x")],
        [("link", "l", "sub"), ("file", "l/evil", "x")],
        [("link", "a", "b/c"), ("link", "b", "d"), ("dir", "d", "")],
        [("hard", "h", "/etc/passwd")],
        [("hard", "h", "../evil")],
        [("fifo", "p", "")],
        [("dev", "null", "")],
        [("link", "l", "")],
    ],
)
def test_F3_hostile_members_are_refused_before_anything_is_written(
    tmp_path: Path, members: list[tuple[str, str, str]]
) -> None:
    destination = tmp_path / "deep" / "out"
    with pytest.raises(ArchiveError):
        unpack(archive(("file", "first", "x"), *members), destination)
    assert not destination.exists()


def test_F3_a_planted_link_in_the_destination_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    destination = tmp_path / "out"
    destination.mkdir()
    (destination / "sub").symlink_to(outside)
    (destination / "file").symlink_to(outside / "file")
    with pytest.raises(ConfigError, match="in the way"):
        unpack(archive(("file", "sub/evil", "x")), destination)
    unpack(archive(("file", "file", "x")), destination)
    assert not list(outside.iterdir()) and not (destination / "file").is_symlink()


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


def test_pack_needs_a_folder(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    with pytest.raises(NotADirectoryError):
        pack(tmp_path / "f")


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
