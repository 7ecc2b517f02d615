"""The file server's records: trees and listings as bytes, both ways.

A record is the length of its content (4 bytes), its kind (1 byte), and its content; all
numbers have their low byte first. ``supervisor/src/files_io.c`` is the other end.

- ``E``: an entry or a listing's line: kind, flags, mode, uid, gid, size, seconds, nanoseconds,
  lengths of name and target, then both
- ``P``: a piece of the file whose entry came last: its offset, then the bytes
- ``M``: what could not be brought: why, then the path
- ``W``: what has changed: what, whether a folder, lengths of two paths, then both

What comes in was written behind a wall, so the decoder holds no more than one record and
believes none of its numbers before it has looked at them.
"""

from __future__ import annotations

import posixpath
import struct
from collections.abc import Callable, Iterable, Iterator

from stockade._entries import (
    DIR,
    FILE,
    HARD_LINK,
    LINK,
    OTHER,
    Entry,
    FileEvent,
    FileInfo,
    Missed,
    Piece,
    TreeItem,
    clean_parts,
)
from stockade.errors import ArchiveError
from stockade.toolkit.supervised.codes import words

__all__ = ["Decoder", "changes_to", "encode", "infos_to", "items_to"]

_HEAD = struct.Struct("<IB")
_ENTRY = struct.Struct("<BBHIIQqIHH")
_OFFSET = struct.Struct("<Q")
_WHY = struct.Struct("<I")
_CHANGE = struct.Struct("<cBHH")
_PIECE_BYTES = 65536
_MAX_RECORD = _OFFSET.size + _PIECE_BYTES
#: Bytes that are handed on at once where entries are small.
_BATCH_BYTES = 65536

_KINDS = {FILE: ord("f"), DIR: ord("d"), LINK: ord("l"), HARD_LINK: ord("h"), OTHER: ord("o")}
_NAMES = {number: kind for kind, number in _KINDS.items()}
_SHARED = 1
_LATEST = (1 << 63) - 1


def _bytes(text: str) -> bytes:
    """A name as the sandbox has it: names are bytes, here in the form of a text."""
    return text.encode("utf-8", "surrogateescape")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


# -- to the sandbox ------------------------------------------------------------


def encode(items: Iterable[TreeItem], missed: Callable[[Missed], None]) -> Iterator[bytes]:
    """A tree's items as bytes for the file server, many a piece; misses go to ``missed``."""
    batch: list[bytes] = []
    size = 0
    for item in items:
        if isinstance(item, Missed):
            missed(item)
            continue
        for record in [_entry(item)] if isinstance(item, Entry) else _pieces(item):
            batch.append(record)
            size += len(record)
        if size >= _BATCH_BYTES:
            yield b"".join(batch)
            batch, size = [], 0
    if batch:
        yield b"".join(batch)


def _entry(entry: Entry) -> bytes:
    name, target = _bytes(entry.path), _bytes(entry.target)
    seconds, nanoseconds = divmod(entry.modified_ns or 0, 1_000_000_000)
    if not -_LATEST <= seconds <= _LATEST:
        seconds = nanoseconds = 0
    head = _ENTRY.pack(
        _KINDS[entry.kind],
        _SHARED if entry.shared else 0,
        entry.mode & 0o7777,
        0,
        0,
        entry.size,
        seconds,
        nanoseconds,
        len(name),
        len(target),
    )
    content = head + name + target
    return _HEAD.pack(len(content), ord("E")) + content


def _pieces(piece: Piece) -> Iterator[bytes]:
    for at in range(0, len(piece.data), _PIECE_BYTES):
        data = piece.data[at : at + _PIECE_BYTES]
        yield _HEAD.pack(_OFFSET.size + len(data), ord("P"))
        yield _OFFSET.pack(piece.offset + at) + data


# -- from the sandbox ----------------------------------------------------------


class Decoder:
    """Takes bytes as they come and hands each whole record to ``receive``: kind and content.

    Raises ArchiveError for what no record begins like.
    """

    def __init__(self, receive: Callable[[int, memoryview], None]) -> None:
        self._receive = receive
        self._held = bytearray()

    def feed(self, data: bytes) -> None:
        """The next bytes, cut anywhere."""
        self._held += data
        at = 0
        with memoryview(self._held) as view:
            while len(view) - at >= _HEAD.size:
                length, kind = _HEAD.unpack_from(view, at)
                if length > _MAX_RECORD or kind not in b"EPMW":
                    raise _damaged("something that is no record")
                end = at + _HEAD.size + length
                if end > len(view):
                    break
                with view[at + _HEAD.size : end] as content:
                    self._receive(kind, content)
                at = end
        del self._held[:at]

    def end(self) -> None:
        """There is no more. Raises ArchiveError in the middle of a record."""
        if self._held:
            raise _damaged("the beginning of a record alone")


def infos_to(receive: Callable[[FileInfo], None]) -> Callable[[int, memoryview], None]:
    """For a decoder: entries as the lines of a listing."""

    def take(kind: int, content: memoryview) -> None:
        if kind != ord("E"):
            raise _damaged("more than entries in a listing")
        head, name, target = _taken_apart(content)
        if name in (".", "..") or "/" in name:
            raise _damaged(f"the name {name!r:.80}")
        receive(
            FileInfo(
                name,
                head.kind,
                head.size,
                head.mode,
                head.uid,
                head.gid,
                head.modified_ns,
                target if head.kind == LINK else None,
            )
        )

    return take


def items_to(receive: Callable[[TreeItem], None]) -> Callable[[int, memoryview], None]:
    """For a decoder: the items of a tree, each checked; see :mod:`stockade._entries`."""
    size = -1  # of the file whose pieces may follow

    def take(kind: int, content: memoryview) -> None:
        nonlocal size
        if kind == ord("P"):
            piece = _piece(content)
            if piece.offset + len(piece.data) > size:
                raise _damaged("content past a file's end")
            receive(piece)
        elif kind == ord("E"):
            entry = _tree_entry(content)
            size = entry.size if entry.kind == FILE else -1
            receive(entry)
        else:
            receive(_missed(content))

    return take


def missed_to(receive: Callable[[Missed], None]) -> Callable[[int, memoryview], None]:
    """For a decoder: what could not be brought, and nothing else."""

    def take(kind: int, content: memoryview) -> None:
        if kind != ord("M"):
            raise _damaged("more than a list of what was left out")
        receive(_missed(content))

    return take


_CHANGES = {
    b"c": "created",
    b"m": "modified",
    b"r": "removed",
    b"n": "renamed",
    b"a": "attributes",
    b"o": "missed",
}


def changes_to(
    top: str, receive: Callable[[FileEvent], None], ready: Callable[[], None]
) -> Callable[[int, memoryview], None]:
    """For a decoder: what changes below ``top``."""

    def take(kind: int, content: memoryview) -> None:
        if kind != ord("W") or len(content) < _CHANGE.size:
            raise _damaged("more than changes")
        what, folder, length, before = _CHANGE.unpack_from(content)
        texts = bytes(content[_CHANGE.size :])
        if len(texts) != length + before or b"\0" in texts:
            raise _damaged("a change that is as long as none")
        if what == b"y":
            ready()
            return
        if what not in _CHANGES:
            raise _damaged("a change of no kind")
        paths = [_below(top, _text(text)) for text in (texts[:length], texts[length:])]
        old = paths[1] if what == b"n" else None
        receive(FileEvent(_CHANGES[what], paths[0], bool(folder), old))

    return take


def _below(top: str, path: str) -> str:
    if not path:
        return top
    try:
        clean_parts(path)
    except ValueError as error:
        raise _damaged(f"the path {path!r:.80}: {error}") from None
    return posixpath.join(top, path)


class _Head:
    """The numbers of an entry."""

    __slots__ = ("gid", "kind", "mode", "modified_ns", "shared", "size", "uid")

    def __init__(self, fields: tuple[int, ...]) -> None:
        kind, flags, self.mode, self.uid, self.gid, self.size, seconds, nanoseconds = fields
        if kind not in _NAMES or self.size > _LATEST:
            raise _damaged("an entry that is of no kind or no size")
        self.kind = _NAMES[kind]
        self.shared = bool(flags & _SHARED)
        self.mode &= 0o7777
        self.modified_ns = seconds * 1_000_000_000 + nanoseconds


def _taken_apart(content: memoryview) -> tuple[_Head, str, str]:
    if len(content) < _ENTRY.size:
        raise _damaged("an entry that is too short")
    *fields, name, target = _ENTRY.unpack_from(content)
    if len(content) != _ENTRY.size + name + target:
        raise _damaged("an entry that is as long as none")
    texts = bytes(content[_ENTRY.size :])
    if b"\0" in texts:
        raise _damaged("a name that holds NUL")
    return _Head(tuple(fields)), _text(texts[:name]), _text(texts[name:])


def _tree_entry(content: memoryview) -> Entry:
    head, path, target = _taken_apart(content)
    if head.kind == OTHER:
        raise _damaged("an entry of a kind that no tree has")
    try:
        clean_parts(path)
        if head.kind == HARD_LINK:
            clean_parts(target)
    except ValueError as error:
        raise _damaged(f"the path {path!r:.80}: {error}") from None
    return Entry(path, head.kind, head.mode, head.size, head.modified_ns, target, head.shared)


def _piece(content: memoryview) -> Piece:
    if len(content) < _OFFSET.size:
        raise _damaged("a piece that is too short")
    return Piece(_OFFSET.unpack_from(content)[0], bytes(content[_OFFSET.size :]))


def _missed(content: memoryview) -> Missed:
    if len(content) < _WHY.size:
        raise _damaged("a reason that is too short")
    return Missed(_text(bytes(content[_WHY.size :])), words(_WHY.unpack_from(content)[0]))


def _damaged(what: str) -> ArchiveError:
    return ArchiveError(f"the answer of the sandbox's file server is damaged: it holds {what}.")
