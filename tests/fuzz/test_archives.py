"""Archives that a hostile sandbox could send: nothing outside, nothing without bound (F3)."""

from __future__ import annotations

import io
import os
import resource
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import examples
from core.files.test_archives import pack, unpack
from stockade.errors import ArchiveError, StockadeError
from stockade.files._tar import members

KINDS = {
    "file": tarfile.REGTYPE,
    "dir": tarfile.DIRTYPE,
    "link": tarfile.SYMTYPE,
    "hard": tarfile.LNKTYPE,
    "fifo": tarfile.FIFOTYPE,
    "sparse": tarfile.GNUTYPE_SPARSE,
}


def archive(
    *entries: tuple[str, str, str],
    form: int = tarfile.PAX_FORMAT,
    pax: Mapping[str, str] | None = None,
) -> bytes:
    """Entries as (kind, name, content or where a link leads)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for kind, name, more in entries:
            info = tarfile.TarInfo(name)
            info.type = KINDS[kind]
            info.pax_headers = dict(pax or {})
            content = more.encode() if kind == "file" else b""
            info.size, info.linkname = len(content), more if kind in ("link", "hard") else ""
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def leads_out(root: Path, inside: Path) -> list[Path]:
    """What in the destination leads out of it when a program follows it, as the kernel does."""
    top = os.path.realpath(inside)
    return [
        path
        for path in inside.rglob("*")
        if os.path.commonpath([top, os.path.realpath(path)]) != top
    ]


def attempt(*transfers: bytes, below: str = "") -> None:
    """Unpack them, one after the other, each further one into ``below``; whatever they are,
    nothing is written outside, and at no time a link leads there."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        inside = root / "in" / "out"
        for number, data in enumerate(transfers):
            try:
                unpack(data, inside / below if number else inside)
            except (StockadeError, OSError):
                pass
            assert not leads_out(root, inside)
        assert set(os.listdir(root)) <= {"in"}
        assert not (root / "in").exists() or set(os.listdir(root / "in")) == {"out"}


WORDS = st.sampled_from(["a", "b", "p", "q", "..", ".", ""])
PATHS = st.lists(WORDS, min_size=1, max_size=6).map("/".join)
ENTRIES = st.lists(st.tuples(st.sampled_from(list(KINDS)), PATHS, PATHS), max_size=6)
#: A link to its own folder's top, and one that leads through it by a detour.
DETOUR = [("dir", "p/q", ""), ("link", "p/q/a", "../.."), ("link", "b", "p/../p/q/a/..")]


@examples(150)
@given(ENTRIES, st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT]))
@example(DETOUR, tarfile.PAX_FORMAT)
@example([*DETOUR[:2], ("link", "b", "q/../p/./q//a/../..")], tarfile.GNU_FORMAT)
def test_no_archive_writes_or_leads_outside(entries: list[Any], form: int) -> None:
    attempt(archive(*entries, form=form))


#: Words that are nothing in the one tree, and links to where they are in the next.
LATER = [("link", "l", "a/b/../../x")], [("link", "a", "."), ("link", "b", ".")]


@examples(150)
@given(st.lists(ENTRIES, min_size=2, max_size=4), st.sampled_from(["", "a", "p/q"]))
@example([*LATER], "")
@example([*LATER[::-1]], "")
@example([[("link", "a/l", "p/q/../../../x")], [("link", "p", "."), ("link", "q", ".")]], "a")
def test_no_transfers_together_lead_outside(trees: list[list[Any]], below: str) -> None:
    attempt(*(archive(*entries) for entries in trees), below=below)


def test_a_way_up_from_a_folder_of_the_tree_is_written_without_it(tmp_path: Path) -> None:
    tree = archive(("dir", "p/q", ""), ("link", "p/l", "q/.././../p/q"), ("link", "m", "p/.."))
    assert not unpack(tree, tmp_path)
    assert os.readlink(tmp_path / "p" / "l") == "../p/q" and os.readlink(tmp_path / "m") == "."


@pytest.mark.parametrize("target", ["way", "way/x", "sub/../way", "dangling", "dangling/x"])
def test_a_link_by_one_that_the_host_made_is_not_brought(tmp_path: Path, target: str) -> None:
    inside = tmp_path / "out"
    inside.mkdir()
    (inside / "way").symlink_to(tmp_path)
    (inside / "dangling").symlink_to(tmp_path / "none")
    (missed,) = unpack(archive(("dir", "sub", ""), ("link", "l", target)), inside)
    assert "in the destination already" in missed.reason and not (inside / "l").is_symlink()


def test_a_detour_through_a_link_is_refused(tmp_path: Path) -> None:
    (missed,) = unpack(archive(*DETOUR), tmp_path / "out")
    assert "through another link" in missed.reason


def mutated(data: bytes, changes: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for at, byte in changes:
        changed[at % len(changed)] = byte
    return bytes(changed)


SEED = archive(
    ("dir", "d", ""),
    ("file", "d/f", "x" * 700),
    ("link", "l", "d/f"),
    ("file", "n" * 150, "long"),
    pax={"mtime": "1.5"},
)


@examples(150)
@given(st.lists(st.tuples(st.integers(0, len(SEED)), st.integers(0, 255)), max_size=6))
def test_damaged_archives(changes: list[tuple[int, int]]) -> None:
    attempt(mutated(SEED, changes))


@examples(150)
@given(
    st.lists(st.tuples(st.integers(0, 511), st.binary(min_size=1, max_size=12)), max_size=5),
    st.binary(max_size=600),
)
def test_headers_with_the_right_sum(changes: list[tuple[int, bytes]], content: bytes) -> None:
    """What a checksum would keep from the reader: any field may hold anything."""
    head = bytearray(SEED[:512])
    for at, piece in changes:
        head[at : at + len(piece)] = piece
        del head[512:]
    attempt(summed(head) + content + bytes(1024))


def summed(head: bytearray) -> bytes:
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


def header(name: bytes, kind: bytes, size: bytes) -> bytes:
    head = bytearray(512)
    head[: len(name)] = name
    head[100:108], head[124:136] = b"0000644\0", size.ljust(12, b"\0")
    head[156:157], head[257:265] = kind, b"ustar\x0000"
    return summed(head)


BOMBS: dict[str, Callable[[], bytes]] = {
    # Python's own reader goes in circles on this one.
    "negative size": lambda: header(b"f", b"0", b"\xff" * 10 + b"\xfc\x00") + bytes(2048),
    "huge size": lambda: header(b"f", b"0", b"\x80" + b"\x7f" * 11) + bytes(2048),
    "huge octal size": lambda: header(b"f", b"0", b"77777777777\0") + bytes(2048),
    # A terabyte of holes.
    "sparse": lambda: header(b"f", b"S", b"00000000000\0") + bytes(1024),
    "sparse, as POSIX has it": lambda: archive(
        ("file", "f", "x"),
        pax={"GNU.sparse.major": "1", "GNU.sparse.realsize": str(1 << 40)},
    ),
    "size in an extended header": lambda: archive(("file", "f", "x"), pax={"size": str(1 << 40)}),
    # 4,000 words in one name, in a link's target, and in many of both.
    "deep name": lambda: archive(("file", "a/" * 2000 + "f", "x"), form=tarfile.GNU_FORMAT),
    "deep link": lambda: archive(("link", "l", "a/" * 2000 + "f"), form=tarfile.GNU_FORMAT),
    "endless link": lambda: archive(("link", "l", "a/" * 40_000 + "f"), form=tarfile.GNU_FORMAT),
    "many deep links": lambda: archive(
        *(("link", f"l{n}", "a/" * 2000 + "f") for n in range(300)), form=tarfile.GNU_FORMAT
    ),
    "many deep names": lambda: archive(
        *(("file", f"{n}/" * 250 + "f", "x") for n in range(500)), form=tarfile.GNU_FORMAT
    ),
    "a long part": lambda: archive(("file", "n" * 300, "x")),
    # Copied into every member, this is a gigabyte.
    "global headers": lambda: global_headers(3000, 3000),
    "an endless header": lambda: header(b"x", b"x", b"77777777777\0") + bytes(1 << 20),
    "a header of headers": lambda: header(b"x", b"x", b"00000001000\0") * 3000,
    "lengths of nothing": lambda: (
        header(b"x", b"x", b"%011o\0" % 500)
        + b"0 a=b\n" * 80
        + bytes(32)
        + header(b"f", b"0", b"00000000000\0")
        + bytes(1024)
    ),
    "empty members": lambda: header(b"f", b"0", b"00000000000\0") * 4000,
}


def global_headers(keys: int, count: int) -> bytes:
    records = b""
    for number in range(keys):
        body = b" k%d=v\n" % number
        length = len(body) + 2
        records += b"%d%s" % (length, body)
    padded = records + bytes(-len(records) % 512)
    return (
        header(b"g", b"g", b"%011o\0" % len(records))
        + padded
        + b"".join(header(b"f%d" % n, b"0", b"00000000000\0") for n in range(count))
        + bytes(1024)
    )


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_cost_little(name: str) -> None:
    """Time, memory and disk stay near what the archive itself is."""
    data = BOMBS[name]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        began = time.thread_time()
        try:
            unpack(data, Path(folder, "out"))
        except ArchiveError:
            pass
        assert time.thread_time() - began < 10
        written = sum(
            path.lstat().st_blocks * 512 for path in Path(folder).rglob("*") if path.is_file()
        )
        assert written <= 8 * len(data) + 4096 * 500
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 * 1024, f"{grown} KiB"


def test_folders_without_an_entry_have_a_limit_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("stockade.files._host._MAX_IMPLIED", 20)
    unpack(archive(*(("dir", f"{n}", "") for n in range(30))), tmp_path / "one")
    with pytest.raises(ArchiveError, match="more than 20 folders that have no entry"):
        unpack(archive(*(("file", f"{n}/f", "x") for n in range(30))), tmp_path / "two")


def test_folders_have_a_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("stockade.files._host._MAX_FOLDERS", 100)
    with pytest.raises(ArchiveError, match="more than 100 folders"):
        unpack(archive(("file", "/".join("abcdefghij" * 20) + "/f", "x")), tmp_path / "out")


NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 200)


@examples(60)
@given(
    st.dictionaries(NAMES, st.binary(max_size=2000), max_size=5),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_honest_archives_arrive_whole(files: dict[str, bytes], form: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"./{'d' * 90}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    with tempfile.TemporaryDirectory() as folder:
        unpack(buffer.getvalue(), folder)
        found = {path.name: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
        assert found == files
        again = pack(folder)
    assert {m.name.rpartition("/")[2] for m in members(again) if m.kind == "file"} == set(files)
