"""The file server's records, cut and damaged in any way, read by both ends (F3)."""

from __future__ import annotations

import itertools
import os
import tempfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from conftest import examples
from core.toolkit.supervised.file_server import Served
from stockade._entries import Entry, Piece, TreeItem
from stockade.errors import ArchiveError
from stockade.toolkit.supervised.records import Decoder, encode, infos_to, items_to, missed_to

NAMES = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..") and not any("\ud800" <= c <= "\udfff" for c in name)
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
MODES = st.integers(0, 0o7777)
TIMES = st.integers(-(10**20), 10**20)


@st.composite
def files(draw: st.DrawFn) -> list[TreeItem]:
    """A file with pieces that are where they may be."""
    data = draw(st.binary(max_size=200_000 if draw(st.booleans()) else 100))
    at = draw(st.integers(0, 1 << 40))
    size = at + len(data) + draw(st.integers(0, 1000))
    entry = Entry(draw(PATHS), "file", draw(MODES), size, draw(TIMES), shared=draw(st.booleans()))
    return [entry, *([Piece(at, data)] if data else [])]


OTHERS = st.one_of(
    st.builds(lambda p, m, t: [Entry(p, "dir", m, 0, t)], PATHS, MODES, TIMES),
    st.builds(lambda p, t, to: [Entry(p, "link", 0o777, 0, t, to)], PATHS, TIMES, PATHS),
    st.builds(lambda p, t, to: [Entry(p, "hardlink", 0o644, 0, t, to)], PATHS, TIMES, PATHS),
)
TREES = st.lists(st.one_of(files(), OTHERS), max_size=6).map(
    lambda parts: list(itertools.chain.from_iterable(parts))
)


def joined(items: list[TreeItem]) -> list[TreeItem]:
    """Pieces that follow each other as one, as they may be cut on the way."""
    found: list[TreeItem] = []
    for item in items:
        last = found[-1] if found else None
        if isinstance(item, Piece) and isinstance(last, Piece):
            found[-1] = Piece(last.offset, last.data + item.data)
        else:
            found.append(item)
    return found


@examples(100)
@given(TREES, st.lists(st.integers(1, 70_000), min_size=1))
def test_what_is_encoded_is_decoded(items: list[TreeItem], cuts: list[int]) -> None:
    data, found, at, turn = b"".join(encode(items, lambda _: None)), list[TreeItem](), 0, 0
    decoder = Decoder(items_to(found.append))
    while at < len(data):
        cut = cuts[turn % len(cuts)]
        decoder.feed(data[at : at + cut])
        at, turn = at + cut, turn + 1
    decoder.end()
    assert joined(found) == joined(items)


@examples(300)
@given(st.binary(max_size=300), st.integers(1, 50))
@example(b"\xff\xff\xff\xffE" + bytes(40), 50)
@example(b"\x04\0\0\0M" + b"\xc8\0\0\0", 3)
def test_any_bytes_are_records_or_refused(data: bytes, cut: int) -> None:
    for make in (items_to, infos_to, missed_to):
        decoder = Decoder(make(lambda _: None))
        try:
            for at in range(0, len(data), cut):
                decoder.feed(data[at : at + cut])
                assert len(decoder._held) <= len(data)
            decoder.end()
        except ArchiveError as error:
            assert "damaged" in str(error)


SEED = b"".join(
    encode(
        [
            Entry("a/f", "file", 0o644, 700, 10**18, shared=True),
            Piece(0, b"x" * 300),
            Piece(400, b"y" * 300),
            Entry("a/h", "hardlink", target="a/f"),
            Entry("a/l", "link", target="../f"),
            Entry("a", "dir", 0o755, 0, 5),
        ],
        lambda _: None,
    )
)
CHANGES = st.lists(
    st.tuples(
        st.integers(0, len(SEED) - 1), st.one_of(st.integers(0, 255), st.sampled_from(b"/.\0a"))
    ),
    max_size=8,
)


@examples(60)
@given(CHANGES, st.integers(0, len(SEED)))
def test_damaged_records_write_nothing_outside(changes: list[tuple[int, int]], end: int) -> None:
    """The server is built with sanitizers: ``Served`` fails where they say anything."""
    data = bytearray(SEED)
    for at, byte in changes:
        data[at] = byte
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "outside").mkdir()
        (root / "in").mkdir()
        os.symlink(root / "outside", root / "in" / "planted")
        code, _ = Served()(
            ["files", "put", str(root / "in")],
            stdin=[bytes(data[:end])],
            receive=Decoder(missed_to(lambda _: None)).feed,
            timeout=20,
        )
        assert code in (0, 210)
        assert set(os.listdir(root)) == {"outside", "in"}
        assert os.listdir(root / "outside") == []


WORDS = st.one_of(
    st.sampled_from(
        [
            b"read",
            b"write",
            b"list",
            b"stat",
            b"mkdir",
            b"get",
            b"put",
            b"0",
            b"-",
            b"10",
            b"/",
            b"/nowhere/x",
            b"all",
            b"chosen",
            b"self",
            b"append",
            b"9" * 30,
            b"-1",
            b"",
            b"x" * 5000,
            b"/" + b"y" * 5000,
            b"0x10",
            b"077",
        ]
    ),
    st.binary(max_size=8).map(lambda word: word.replace(b"\0", b"")),
)


@examples(60)
@given(st.lists(WORDS, max_size=7))
def test_any_command_is_done_or_refused(words: list[bytes]) -> None:
    if words[:1] in ([b"write"], [b"mkdir"], [b"put"]) and os.getuid() == 0:
        words = [words[0], b"nowhere", *words[1:]]  # no path: as root it would be made
    if words[:1] == [b"get"] and b"/" in words[1:2]:
        return  # the whole machine
    code, reported = Served()(["files", *words], receive=lambda _: None, timeout=20)
    assert 0 <= code <= 211 and len(reported) <= 4096
