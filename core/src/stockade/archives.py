"""Tar archives between host and sandbox; what comes out is hostile (F3)."""

from __future__ import annotations

import io
import os
import stat
import sys
import tarfile
import unicodedata
from pathlib import Path

from stockade.errors import ArchiveError, ConfigError
from stockade.tar import DIR, FILE, LINK, Member, members

__all__ = ["pack", "unpack"]

#: Bytes of one part of a path, on every file system that counts.
_MAX_PART = 255
#: Short names that make long ways: each folder costs the disk far more than the archive.
_MAX_DEPTH = 256
_MAX_FOLDERS = 100_000


def pack(source: str | os.PathLike[str]) -> bytes:
    """The content of a host folder; owners and times are left out, links stay links."""
    root = Path(source)
    if not root.is_dir():
        raise NotADirectoryError(20, "Not a directory", str(root))

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member if member.isfile() or member.isdir() or member.issym() else None

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for entry in sorted(root.iterdir()):
            archive.add(entry, arcname=entry.name, filter=plain)
    return buffer.getvalue()


def unpack(data: bytes, destination: str | os.PathLike[str]) -> None:
    """Write an archive's files below ``destination``, and nothing anywhere else.

    Refuses absolute names, ``..``, links out, hard links, sparse files, devices and
    pipes with ArchiveError before anything is written; drops setuid, setgid and sticky
    bits. What it writes is no larger than the archive.
    """
    found = list(members(data))
    for member in found:
        _check(member)
    top = _tree(found)
    _no_way_through_links(top, found)
    Path(destination).mkdir(parents=True, exist_ok=True)
    view = memoryview(data)
    for member in found:
        _write(view, member, os.fspath(destination), top)


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in name.split("/") if part not in ("", "."))


def _check(member: Member) -> None:
    if member.name.startswith("/") or ".." in _parts(member.name):
        raise ArchiveError(f"the archive holds {member.name!r}, which leads out; it is refused.")
    parts = _parts(member.name)
    if len(parts) > _MAX_DEPTH or any(len(os.fsencode(part)) > _MAX_PART for part in parts):
        raise ArchiveError(
            f"the archive holds {member.name!r:.80}, which is too long or too deep to be written; "
            "rename or move it in the sandbox."
        )
    if member.kind not in (FILE, DIR, LINK):
        raise ArchiveError(
            f"the archive holds {member.name!r}, which is neither file, folder nor link; "
            "remove it in the sandbox, or bring out its files one by one."
        )
    if member.kind != DIR and not _parts(member.name):
        raise ArchiveError("the archive holds something in place of its own top; it is refused.")


class _Node:
    """A folder or a link as the archive makes it, by name; paths are walked from the top."""

    __slots__ = ("below", "is_link", "made")

    def __init__(self) -> None:
        self.below: dict[str, _Node] = {}
        self.is_link = False
        self.made = False  # whether it was made on this machine, or found to be a real folder


def _tree(found: list[Member]) -> _Node:
    """All folders and links of the archive."""
    top, count = _Node(), 0
    for member in found:
        parts = _parts(member.name)
        node = top
        for part in parts if member.kind != FILE else parts[:-1]:
            name = _same(part)
            below = node.below.get(name)
            if below is None:
                below = node.below[name] = _Node()
                count += 1
            node = below
        if member.kind == LINK:
            node.is_link = True
        if count > _MAX_FOLDERS:
            raise ArchiveError(
                f"the archive holds more than {_MAX_FOLDERS} folders and links; bring out its "
                "parts one by one."
            )
    return top


def _no_way_through_links(top: _Node, found: list[Member]) -> None:
    """Refuse links that lead out, and what goes through a link: a check of a target's
    words holds only where no word before the last is a link itself. Linear in the names."""
    for member in found:
        trail: list[_Node | None] = list(_trail(top, _parts(member.name)[:-1]))
        if any(node is not None and node.is_link for node in trail):
            raise ArchiveError(f"the archive holds {member.name!r} below a link; it is refused.")
        if member.kind == LINK:
            _check_target(member, trail)


def _trail(top: _Node, parts: tuple[str, ...]) -> list[_Node]:
    """The nodes of a member's folders, from the top down."""
    trail = [top]
    for part in parts:
        trail.append(trail[-1].below[_same(part)])
    return trail


def _check_target(member: Member, trail: list[_Node | None]) -> None:
    """Follow a link's words from its own folder, step by step."""
    out = ArchiveError(
        f"the archive holds the link {member.name!r} to {member.link!r}, which leads "
        "out; remove it in the sandbox, or bring out the files one by one."
    )
    if member.link.startswith("/") or not member.link:
        raise out
    for part in _parts(member.link):
        last = trail[-1]
        if last is not None and last.is_link:
            raise ArchiveError(
                f"the archive holds the link {member.name!r}, which leads through another link; "
                "it is refused."
            )
        if part != "..":
            trail.append(None if last is None else last.below.get(_same(part)))
            continue
        trail.pop()
        if not trail:
            raise out


def _same(part: str) -> str:
    """What a name is to the file system: on some, other spellings are the same."""
    if sys.platform in ("darwin", "win32"):
        return unicodedata.normalize("NFC", part).casefold()
    return part


def _write(view: memoryview, member: Member, root: str, top: _Node) -> None:
    parts = _parts(member.name)
    folders = parts if member.kind == DIR else parts[:-1]
    for depth, node in enumerate(_trail(top, folders)[1:], 1):
        if not node.made:
            _real_folder(Path(root, *folders[:depth]))
            node.made = True
    if member.kind == DIR:
        return
    path = os.path.join(root, *parts)
    if os.path.islink(path) or os.path.isfile(path):
        os.unlink(path)
    if member.kind == LINK:
        os.symlink(member.link, path)
        return
    # O_EXCL and O_NOFOLLOW: what we removed above cannot come back as a link.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    flags |= getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags, stat.S_IMODE(member.mode) & 0o777), "wb") as file:
        file.write(view[member.start : member.start + member.size])


def _real_folder(path: Path) -> None:
    """Make it; a link in its place would lead out of the destination."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise ConfigError(
            f"{path} is in the way: it is a link or a file where a folder belongs; "
            "choose an empty destination."
        )
    path.mkdir(exist_ok=True)
