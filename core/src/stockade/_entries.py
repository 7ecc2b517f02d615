"""What is said of files on their way in and out: one entry, a piece of content, a miss.

A tree travels as a row of these (F4). A file's entry is followed by its pieces; what no piece
covers is a hole. A folder's entry comes after all that is in it, so that its mode and its time
are set last; folders that entries need before that are made on the way.
"""

from __future__ import annotations

import attrs

__all__ = [
    "DIR",
    "FILE",
    "HARD_LINK",
    "LINK",
    "OTHER",
    "Entry",
    "FileEvent",
    "FileInfo",
    "Missed",
    "Misses",
    "Piece",
    "TreeItem",
    "clean_parts",
]

FILE, DIR, LINK, HARD_LINK, OTHER = "file", "dir", "link", "hardlink", "other"

#: Bounds of a path below a tree's top: what file systems take, and no honest tree exceeds.
_MAX_PART, _MAX_DEPTH, _MAX_PATH = 255, 256, 4096


@attrs.frozen
class FileInfo:
    """One entry of a listing (F5): a link is itself, not what it leads to."""

    name: str  #: without its folder; of ``stat`` the last part of the path
    kind: str  #: "file", "dir", "link" or "other" (a FIFO, a socket, a device)
    size: int  #: bytes, for a file
    mode: int  #: permission bits, set-user-id and its like included
    uid: int | None = None  #: the owner's number inside; None if the wall has no owners
    gid: int | None = None  #: the group's number inside; None if the wall has no owners
    modified_ns: int | None = None  #: nanoseconds of Unix time; None if it is not known
    target: str | None = None  #: where a link leads; None of others, and where it is not known

    @property
    def is_dir(self) -> bool:
        """Whether it is a folder; a link to one is none."""
        return self.kind == DIR

    @property
    def modified(self) -> float | None:
        """Seconds of Unix time at which the content was last changed."""
        return None if self.modified_ns is None else self.modified_ns / 1e9


@attrs.frozen
class FileEvent:
    """One change below a folder that is watched (F6)."""

    #: "created", "modified" (its content), "removed", "renamed", "attributes" (mode, owner,
    #: time), or "missed": some changes after the last event were dropped.
    kind: str
    path: str  #: absolute; of "missed" the folder that is watched
    is_dir: bool = False  #: whether it is, or was, a folder
    old_path: str | None = None  #: of "renamed": what it was called before


@attrs.frozen
class Entry:
    """One file, folder or link of a tree."""

    path: str  #: from the tree's top, with ``/`` between names
    kind: str  #: "file", "dir", "link" or "hardlink"
    mode: int = 0o644
    size: int = 0  #: of a file: its bytes, holes included
    modified_ns: int | None = None
    #: Where a link leads; of a hard link, the path of an earlier entry that is the same file.
    target: str = ""
    shared: bool = False  #: a file that later entries may be hard links to


@attrs.frozen
class Piece:
    """Bytes of the file whose entry came last."""

    offset: int
    data: bytes = attrs.field(repr=lambda data: f"<{len(data)} bytes>")


@attrs.frozen
class Missed:
    """What could not be brought, and why."""

    path: str  #: from the tree's top
    reason: str  #: in words, for people

    def __str__(self) -> str:
        return f"{self.path!r}: {self.reason}"


TreeItem = Entry | Piece | Missed
#: What could not be brought of a tree.
Misses = list[Missed]


def clean_parts(path: str) -> list[str]:
    """The names of an entry's path. Raises ValueError for what a tree cannot hold: an absolute
    path, an empty name, ``.`` or ``..``, NUL, and what is too long or too deep to be written."""
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError("it leads out of the tree")
    if "\0" in path:
        raise ValueError("it holds NUL")
    longest = max(len(part.encode("utf-8", "surrogateescape")) for part in parts)
    if len(parts) > _MAX_DEPTH or longest > _MAX_PART or len(path) > _MAX_PATH:
        raise ValueError("it is too long or too deep to be written")
    return parts
