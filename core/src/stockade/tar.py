"""Reading tar archives that nobody trusts: strict, and linear in time and memory.

Python's own reader is made for friends: it goes in circles on a negative size,
expands sparse files to what they claim, and copies global headers into every
member. This one takes the members that matter (files, folders, links; names of any
length as GNU and POSIX write them) and refuses everything else by name.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from stockade.errors import ArchiveError

__all__ = ["DIR", "FILE", "LINK", "OTHER", "Member", "members"]

FILE, DIR, LINK, OTHER = "file", "dir", "link", "other"

_BLOCK = 512
_KINDS = {b"0": FILE, b"\0": FILE, b"7": FILE, b"5": DIR, b"2": LINK}
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


def members(data: bytes) -> Iterator[Member]:
    """The entries in order; memory and time are bounded by the archive's own length.

    Raises ArchiveError where it is damaged, or has what this reader does not take.
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
    told = _number(head[148:156])
    blank = head[:148] + b" " * 8 + head[156:]
    if told not in (sum(blank), sum(byte - 256 if byte > 127 else byte for byte in blank)):
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
            raise _damaged("an extended header makes no sense")
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
    return Member(name, found, _number(head[100:108]) & 0o7777, link, at, size)
