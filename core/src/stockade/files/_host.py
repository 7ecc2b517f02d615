"""Trees from and to this machine's folders; what comes from a sandbox is hostile (F3)."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO

from stockade._entries import (
    DIR,
    FILE,
    HARD_LINK,
    LINK,
    Entry,
    Missed,
    Misses,
    Piece,
    TreeItem,
    clean_parts,
)
from stockade.errors import ArchiveError
from stockade.file_backend import reason_of
from stockade.files._links import Node, leads_out, safe_target, same

__all__ = ["FolderWriter", "read_folder"]

_PIECE_BYTES = 1 << 20
#: Short names that make long ways: each folder costs the disk far more than the tree.
_MAX_FOLDERS = 100_000
#: Of these, such as have no entry of their own: in an honest tree, those that are open just now,
#: and those of an archive that leaves them out.
_MAX_IMPLIED = 10_000
#: Files of which it is remembered that hard links may follow.
_MAX_SHARED = 100_000
#: Without room nothing else can be brought, either.
_NO_ROOM = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def _inside_name(name: str) -> str:
    """A name of this machine as the sandbox has it: the same bytes."""
    return os.fsencode(name).decode("utf-8", "surrogateescape")


def _host_name(name: str) -> str:
    """The other way. Raises ValueError if this machine has no such names."""
    return os.fsdecode(name.encode("utf-8", "surrogateescape"))


# -- from this machine ---------------------------------------------------------


def read_folder(source: str | os.PathLike[str]) -> Iterator[TreeItem]:
    """The items of a host folder's content; what cannot be read is a :class:`Missed`."""
    yield from _folder(os.fspath(source), "", {})


def _folder(path: str, name: str, shared: dict[tuple[int, int], str]) -> Iterator[TreeItem]:
    try:
        with os.scandir(path) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        if not name:
            raise
        yield Missed(name, reason_of(error))
        return
    for entry in entries:
        inner = _inside_name(entry.name)
        inner = f"{name}/{inner}" if name else inner
        try:
            clean_parts(inner)
            about = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(about.st_mode):
                yield from _folder(entry.path, inner, shared)
                yield Entry(inner, DIR, stat.S_IMODE(about.st_mode), 0, about.st_mtime_ns)
            elif stat.S_ISLNK(about.st_mode):
                target = _inside_name(os.readlink(entry.path))
                yield Entry(inner, LINK, 0o777, 0, about.st_mtime_ns, target)
            else:
                yield from _file(entry.path, inner, shared)
        except ValueError as error:
            yield Missed(inner, str(error))
        except OSError as error:
            yield Missed(inner, reason_of(error))


def _file(path: str, name: str, shared: dict[tuple[int, int], str]) -> Iterator[TreeItem]:
    # It may have become something else since it was looked at: a FIFO would hold us up.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    if not stat.S_ISREG(os.lstat(path).st_mode):
        yield Missed(name, "it is neither file, folder nor link")
        return
    with open(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb", buffering=0) as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            yield Missed(name, "it is neither file, folder nor link")
            return
        several = about.st_nlink > 1 and about.st_ino != 0
        first = shared.setdefault((about.st_dev, about.st_ino), name) if several else name
        mode = stat.S_IMODE(about.st_mode)
        if first != name:
            yield Entry(name, HARD_LINK, mode, 0, about.st_mtime_ns, first)
            return
        yield Entry(name, FILE, mode, about.st_size, about.st_mtime_ns, shared=several)
        yield from _content(file.fileno(), about.st_size)


def _content(descriptor: int, size: int) -> Iterator[Piece]:
    """A file's content without its holes, where the system reports them."""
    at = 0
    while at < size:
        stop = size
        if hasattr(os, "SEEK_DATA"):
            try:
                at = os.lseek(descriptor, at, os.SEEK_DATA)
                stop = min(os.lseek(descriptor, at, os.SEEK_HOLE), size)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return
        os.lseek(descriptor, at, os.SEEK_SET)
        while at < stop:
            data = os.read(descriptor, min(_PIECE_BYTES, stop - at))
            if not data:
                return
            yield Piece(at, data)
            at += len(data)


# -- to this machine -----------------------------------------------------------


class FolderWriter:
    """Writes a tree's items below a folder, which is made, and nothing anywhere else.

    Links are made once everything else is written, so that nothing is written through one, and only
    those that lead to a place within the folder, whatever comes there later. Set-user-id,
    set-group-id and sticky bits are dropped. Raises OSError if there is no room, ArchiveError
    past 100,000 folders and links, or 10,000 folders without an entry.
    """

    def __init__(self, destination: str | os.PathLike[str]) -> None:
        self._root = os.fspath(destination)
        self._top = Node()
        self._top.made = True
        self._count = self._made = 0
        self._links: list[Entry] = []
        self._folders: dict[str, Entry] = {}  # their modes and times are set at the end
        self._shared: set[str] = set()
        self._file: BinaryIO | None = None
        self._entry: Entry | None = None
        self._missed: Misses = []
        os.makedirs(self._root, exist_ok=True)

    def __enter__(self) -> FolderWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def take(self, item: TreeItem) -> None:
        """The next item."""
        if isinstance(item, Piece):
            self._piece(item)
            return
        if isinstance(item, Missed):
            if self._entry is not None and item.path == self._entry.path:
                self._discard()
            self._missed.append(item)
            return
        self._close()
        try:
            self._take(item)
        except ValueError as error:
            self._missed.append(Missed(item.path, str(error)))
        except OSError as error:
            self._lost(item, error)

    def finish(self) -> Misses:
        """Make the links, set the folders' modes and times; what was not brought."""
        self._close()
        for entry in self._links:
            try:
                self._link(entry)
            except ValueError as error:
                self._missed.append(Missed(entry.path, str(error)))
            except OSError as error:
                self._lost(entry, error)
        # The deepest first, since a mode may close a folder to its own owner.
        for path, entry in sorted(self._folders.items(), key=lambda item: -item[0].count("/")):
            _settle(self._path(clean_parts(path)), entry, self._missed)
        return self._missed

    def _lost(self, entry: Entry, error: OSError) -> None:
        if error.errno in _NO_ROOM:
            raise error
        self._missed.append(Missed(entry.path, reason_of(error)))

    # -- entries -----------------------------------------------------------------

    def _take(self, entry: Entry) -> None:
        parts = clean_parts(entry.path)
        if entry.kind == DIR:
            self._folder(parts)
            self._folders[entry.path] = entry
            return
        above = self._folder(parts[:-1])
        if entry.kind == LINK:
            node = self._node(above, parts[-1])
            if node.made or node.is_link:
                raise ValueError("a folder or a link of the same name came before")
            node.is_link = True
            self._links.append(entry)
            return
        path = self._path(parts)
        if os.path.islink(path) or os.path.isfile(path):
            os.unlink(path)
        if entry.kind == FILE:
            self._begin(entry, path)
        elif entry.target not in self._shared:
            raise ValueError(f"it is a hard link to {entry.target!r}, which was not brought")
        else:
            os.link(self._path(clean_parts(entry.target)), path)

    def _path(self, parts: list[str]) -> str:
        return os.path.join(self._root, *map(_host_name, parts))

    def _node(self, above: Node, part: str) -> Node:
        name = same(part)
        node = above.below.get(name)
        if node is None:
            self._count += 1
            if self._count > _MAX_FOLDERS:
                raise ArchiveError(
                    f"the tree holds more than {_MAX_FOLDERS} folders and links; bring out its "
                    "parts one by one."
                )
            node = above.below[name] = Node()
        return node

    def _folder(self, parts: list[str]) -> Node:
        """The node of a folder that is there now, on this machine, too."""
        node, path = self._top, self._root
        for part in parts:
            node, path = self._node(node, part), os.path.join(path, _host_name(part))
            if node.is_link:
                raise ValueError("it lies below a link")
            if not node.made:
                self._imply()
                _real_folder(path)
                node.made = True
        return node

    def _imply(self) -> None:
        self._made += 1
        if self._made - len(self._folders) > _MAX_IMPLIED:
            raise ArchiveError(
                f"the tree holds more than {_MAX_IMPLIED} folders that have no entry of their own; "
                "bring out its parts one by one."
            )

    def _begin(self, entry: Entry, path: str) -> None:
        # O_EXCL and O_NOFOLLOW: what we removed above cannot come back as a link.
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o600)
        self._file, self._entry = open(descriptor, "r+b", buffering=0), entry  # noqa: SIM115
        try:
            os.truncate(descriptor if os.truncate in os.supports_fd else path, entry.size)
        except (OSError, OverflowError) as error:
            self._discard()
            raise OSError(errno.EFBIG, str(error), path) from error
        if entry.shared and len(self._shared) < _MAX_SHARED:
            self._shared.add(entry.path)

    def _piece(self, piece: Piece) -> None:
        if self._file is None or self._entry is None:
            return  # of a file that could not be made, which is among the misses
        if piece.offset + len(piece.data) > self._entry.size:
            raise ArchiveError(f"the tree holds more of {self._entry.path!r} than its size.")
        entry = self._entry
        try:
            self._file.seek(piece.offset)
            view = memoryview(piece.data)
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            self._discard()
            self._lost(entry, error)

    def _close(self) -> None:
        """The file is whole: its mode and its time."""
        file, entry = self._file, self._entry
        self._file = self._entry = None
        if file is None or entry is None:
            return
        file.close()
        _settle(self._path(clean_parts(entry.path)), entry, self._missed)

    def _discard(self) -> None:
        """The file cannot be had whole, so there is none of it."""
        file, entry = self._file, self._entry
        self._file = self._entry = None
        if file is not None and entry is not None:
            file.close()
            self._shared.discard(entry.path)
            os.unlink(self._path(clean_parts(entry.path)))

    # -- the end -----------------------------------------------------------------

    def _link(self, entry: Entry) -> None:
        parts = clean_parts(entry.path)
        path = self._path(parts)
        target = _host_name(safe_target(self._top, parts, entry.target))
        if leads_out(self._root, os.path.dirname(path), target):
            raise ValueError(
                f"it is a link to {entry.target!r}, which leads out by a link that is in the "
                "destination already"
            )
        if os.path.islink(path) or os.path.isfile(path):
            os.unlink(path)
        os.symlink(target, path)
        if entry.modified_ns is not None and os.utime in os.supports_follow_symlinks:
            _settle(path, entry, self._missed)


def _settle(path: str, entry: Entry, missed: Misses) -> None:
    """Set a mode and a time; a link has a time alone."""
    try:
        if entry.kind != LINK:
            os.chmod(path, entry.mode & 0o777)
        if entry.modified_ns is not None:
            times = (entry.modified_ns, entry.modified_ns)
            os.utime(path, ns=times, follow_symlinks=entry.kind != LINK)
    except (OSError, OverflowError) as error:
        missed.append(Missed(entry.path, f"its mode and time were not set: {error}"))


def _real_folder(path: str) -> None:
    """Make it; a link in its place would lead out of the destination."""
    try:
        os.mkdir(path)
    except FileExistsError:
        if os.path.islink(path) or not os.path.isdir(path):
            raise ValueError(
                f"{path!r} is in the way: a link or a file where a folder belongs"
            ) from None
