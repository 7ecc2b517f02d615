"""Trees as tar archives; those that come are read as nobody's whom one trusts.

Python's own reader is made for friends: it goes in circles on a negative size,
expands sparse files to what they claim, and copies global headers into every
member. This one takes the members that matter (files, folders, links, hard links; names of
any length as GNU and POSIX write them), is linear in time and memory, and refuses what is
damaged or leads out before it gives the first item.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import attrs

from stockade._entries import (
    DIR,
    FILE,
    HARD_LINK,
    LINK,
    OTHER,
    Entry,
    Missed,
    Misses,
    Piece,
    TreeItem,
    clean_parts,
)
from stockade.errors import ArchiveError

__all__ = ["Member", "Writer", "items", "members"]

_BLOCK = 512
_PIECE_BYTES = 1 << 20
_KINDS = {b"0": FILE, b"\0": FILE, b"7": FILE, b"5": DIR, b"2": LINK, b"1": HARD_LINK}
_REGULAR = b"0"
_TYPES = {DIR: b"5", LINK: b"2", HARD_LINK: b"1"}
#: What a path may be on the systems that we unpack on.
_MAX_NAME = 4096
#: Of one extended header; names are all that is taken from it.
_MAX_EXTENDED = 64 * 1024


@attrs.frozen
class Member:
    """One entry; a file's content is ``data[start:start + size]`` of the archive."""

    name: str
    kind: str
    mode: int
    link: str  #: where a link leads
    start: int
    size: int
    modified_ns: int | None = None


def members(data: bytes) -> Iterator[Member]:
    """The entries in order; memory and time are bounded by the archive's own length.

    Raises ArchiveError if it is damaged, or has what this reader does not take.
    """
    view = memoryview(data)
    at = 0
    names: dict[str, str] = {}  # of the next member, from headers before it
    while at + _BLOCK <= len(view):
        head = bytes(view[at : at + _BLOCK])
        at += _BLOCK
        if not any(head):
            return
        _checksum(head)
        size = _number(head[124:136])
        kind = head[156:157]
        padded = -(-size // _BLOCK) * _BLOCK
        extended = kind in (b"L", b"K", b"x", b"g")
        # Only what has content may be followed by any.
        if kind not in (b"0", b"\0", b"7") and not extended and size and kind != b"S":
            size = padded = 0
        if size > len(view) - at:
            raise _damaged("it ends within a file")
        if extended:
            if size > _MAX_EXTENDED:
                raise _damaged("a name in it is too long")
            names.update(_extended(kind, bytes(view[at : at + size])))
        else:
            yield _member(head, kind, names, at, size)
            names = {}
        at += padded
    if at < len(view) or names:
        raise _damaged("it ends within a header")
    # Some write no end, only nothing more.


def _damaged(what: str) -> ArchiveError:
    return ArchiveError(f"the archive from the sandbox is damaged: {what}.")


def _checksum(head: bytes) -> None:
    stated = _number(head[148:156])
    blank = head[:148] + b" " * 8 + head[156:]
    if stated not in (sum(blank), sum(byte - 256 if byte > 127 else byte for byte in blank)):
        raise _damaged("a header's sum is wrong")


def _number(field: bytes) -> int:
    """Octal text, or binary where the first bit is set; never negative."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    text = field.partition(b"\0")[0].strip()
    if not all(byte in b"01234567" for byte in text):
        raise _damaged(f"{field!r} stands where a number belongs")
    return int(text or b"0", 8)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _extended(kind: bytes, content: bytes) -> dict[str, str]:
    """What a header before a member says of its names."""
    if kind == b"L":
        return {"path": _text(content)}
    if kind == b"K":
        return {"linkpath": _text(content)}
    found = {}
    for keyword, value in _records(content):
        if keyword == "size" or keyword.startswith("GNU.sparse"):
            # Archives of this size need neither.
            raise ArchiveError(
                f"the archive holds a header of the kind {keyword!r}, which is not taken; bring "
                "out its files one by one."
            )
        if keyword in ("path", "linkpath") and kind == b"x":
            if "\0" in value:
                raise _damaged("a name in it holds NUL")
            found[keyword] = value
        elif keyword == "mtime" and kind == b"x":
            found[keyword] = value
    return found


def _records(content: bytes) -> Iterator[tuple[str, str]]:
    """``LENGTH KEYWORD=VALUE\\n``, one after another."""
    at = 0
    while at < len(content):
        digits, space, _ = content[at : at + 12].partition(b" ")
        length = int(digits) if digits.isdigit() and space else 0
        record = content[at : at + length]
        keyword, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if len(record) != length or record[-1:] != b"\n" or not equals:
            raise _damaged(
                "an extended header holds 'LENGTH KEYWORD=VALUE' lines, and one has "
                f"{record[:40]!r} at byte {at}"
            )
        yield keyword.decode("utf-8", "replace"), value.decode("utf-8", "surrogateescape")
        at += length


def _member(head: bytes, kind: bytes, names: dict[str, str], at: int, size: int) -> Member:
    name = _text(head[:100])
    if head[257:263] == b"ustar\0" and head[345]:
        name = f"{_text(head[345:500])}/{name}"
    name = names.get("path", name)
    link = names.get("linkpath", _text(head[157:257]))
    if max(len(name), len(link)) > _MAX_NAME:
        raise _damaged("a name in it is too long")
    found = _KINDS.get(kind, OTHER)
    if found == FILE and name.endswith("/"):
        found, size = DIR, 0  # as the oldest writers have it
    modified = _nanoseconds(names["mtime"]) if "mtime" in names else None
    if modified is None:
        modified = _time(head[136:148])
    return Member(name, found, _number(head[100:108]) & 0o7777, link, at, size, modified)


def _time(field: bytes) -> int | None:
    """A header's whole seconds, before 1970 too; None for what is no number."""
    if field[0] == 0xFF:
        return int.from_bytes(field, "big", signed=True) * 1_000_000_000
    try:
        return _number(field) * 1_000_000_000
    except ArchiveError:
        return None


def _nanoseconds(text: str) -> int | None:
    """``SECONDS[.FRACTION]`` as extended headers have it; None for what is no such number."""
    seconds, _, fraction = text.partition(".")
    digits = seconds.removeprefix("-")
    if not (digits + fraction).isdecimal() or not digits or len(text) > 40:
        return None
    whole = int(digits) * 1_000_000_000 + int(fraction[:9].ljust(9, "0"))
    return -whole if seconds.startswith("-") else whole


# -- as the items of a tree ------------------------------------------------------


def items(data: bytes) -> Iterator[TreeItem]:
    """An archive's content; what is neither file, folder nor link is a :class:`Missed`.

    Raises ArchiveError, before the first item, where the archive is damaged or holds a name
    that leads out of it. Zeros are given as holes: in an archive the two look alike.
    """
    found = [(_entry(member), member) for member in members(data)]
    targets = {entry.target for entry, _ in found if entry and entry.kind == HARD_LINK}
    return _items(found, targets, memoryview(data))


def _items(
    found: list[tuple[Entry | None, Member]], targets: set[str], view: memoryview
) -> Iterator[TreeItem]:
    last = _last_below([entry for entry, _ in found])
    ended: dict[int, list[Entry]] = {}
    for folder, at in last.values():
        ended.setdefault(at, []).append(folder)
    for at, (entry, member) in enumerate(found):
        if entry is not None and entry.kind == OTHER:
            yield Missed(entry.path, "it is neither file, folder nor link")
        elif entry is not None and entry.kind != DIR:
            yield attrs.evolve(entry, shared=entry.path in targets)
            yield from _pieces(entry.size, view[member.start :])
        yield from sorted(ended.pop(at, ()), key=lambda one: -one.path.count("/"))


def _last_below(entries: list[Entry | None]) -> dict[str, tuple[Entry, int]]:
    """Each folder, and where in the archive the last of what is in it is: in a tree the folder
    comes after that."""
    last = {
        entry.path: (entry, at)
        for at, entry in enumerate(entries)
        if entry is not None and entry.kind == DIR
    }
    for at, entry in enumerate(entries):
        above = "" if entry is None else entry.path
        while above:
            if above in last:
                last[above] = (last[above][0], max(at, last[above][1]))
            above = above.rpartition("/")[0]
    return last


def _pieces(size: int, view: memoryview) -> Iterator[Piece]:
    for offset in range(0, size, _PIECE_BYTES):
        data = bytes(view[offset : min(offset + _PIECE_BYTES, size)])
        if data.count(0) < len(data):
            yield Piece(offset, data)


def _entry(member: Member) -> Entry | None:
    """None for the archive's own top, as ``tar -C folder .`` writes it."""
    path = _clean(member.name)
    if not path:
        if member.kind != DIR:
            raise ArchiveError("the archive holds something in place of its own top; it is refused")
        return None
    target = _clean(member.link) if member.kind == HARD_LINK else member.link
    for name in (path, target) if member.kind == HARD_LINK else (path,):
        try:
            clean_parts(name)
        except ValueError as error:
            raise ArchiveError(
                f"the archive holds {name!r:.80}, which is refused: {error}; rename or move it in "
                "the sandbox."
            ) from None
    if member.kind == HARD_LINK and target == path:
        raise ArchiveError(f"the archive holds {path!r:.80} as a hard link to itself.")
    size = member.size if member.kind == FILE else 0
    return Entry(path, member.kind, member.mode, size, member.modified_ns, target)


def _clean(name: str) -> str:
    """Without the ``./`` and ``//`` that are written for nothing; an absolute name stays one."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return f"/{'/'.join(parts)}" if name.startswith("/") else "/".join(parts)


class Writer:
    """Takes a tree's items and makes an archive of them, each folder before what is in it, since
    that is how readers keep a folder's time; holes are written as zeros.

    ``plain``: as every tar reads it, busybox's too; times are whole seconds then.
    """

    def __init__(self, *, plain: bool = False) -> None:
        self._plain = plain
        self.missed: Misses = []
        self.folders: dict[str, Entry] = {}
        self._out = io.BytesIO()
        self._starts: list[tuple[str, int]] = []  # of each entry, and where it begins
        self._entry: Entry | None = None
        self._start = 0  # of the content of the file that came last

    def take(self, item: TreeItem) -> None:
        """The next item."""
        if isinstance(item, Missed):
            self.missed.append(item)
        elif isinstance(item, Piece):
            if self._entry is None or item.offset + len(item.data) > self._entry.size:
                raise ArchiveError("the tree holds more of a file than its size.")
            self._out.seek(self._start + item.offset)
            self._out.write(item.data)
        else:
            self._close()
            self._starts.append((item.path, self._out.tell()))
            if item.kind == DIR:
                self.folders[item.path] = item
                return
            self._out.write(_header(item, self._plain))
            if item.kind == FILE:
                self._entry, self._start = item, self._out.tell()

    def _close(self) -> None:
        """What no piece was given for is zeros, and so is the rest of the last block."""
        if self._entry is not None:
            end = self._start + -(-self._entry.size // _BLOCK) * _BLOCK
            self._out.seek(0, io.SEEK_END)
            self._out.write(bytes(end - self._out.tell()))
            self._entry = None

    def end(self) -> bytes:
        """The archive."""
        self._close()
        view, parts, left = self._out.getbuffer(), list[bytes | memoryview](), dict(self.folders)
        ends = [*(start for _, start in self._starts), len(view)][1:]
        for (path, start), end in zip(self._starts, ends, strict=True):
            for above in _above(path):
                if (folder := left.pop(above, None)) is not None:
                    parts.append(_header(folder, self._plain))
            parts.append(view[start:end])
        return b"".join([*parts, bytes(2 * _BLOCK)])


def _above(path: str) -> Iterator[str]:
    """The path's folders, from the top down, and itself."""
    at = path.find("/")
    while at >= 0:
        yield path[:at]
        at = path.find("/", at + 1)
    yield path


def _header(entry: Entry, plain: bool) -> bytes:
    import tarfile  # for whole folders alone

    member = tarfile.TarInfo(entry.path)
    member.type = _TYPES.get(entry.kind, _REGULAR)
    member.mode, member.linkname = entry.mode & 0o7777, entry.target
    member.size = entry.size if entry.kind == FILE else 0
    seconds, nanoseconds = divmod(entry.modified_ns or 0, 1_000_000_000)
    member.mtime = seconds
    if plain:
        member.mtime = max(seconds, 0)
        return member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    if nanoseconds or seconds < 0:
        member.pax_headers = {"mtime": _decimal(entry.modified_ns or 0)}
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _decimal(nanoseconds: int) -> str:
    """Seconds, digit by digit: a float of that size has no nanoseconds."""
    seconds, rest = divmod(abs(nanoseconds), 1_000_000_000)
    return f"{'-' if nanoseconds < 0 else ''}{seconds}.{rest:09d}"
