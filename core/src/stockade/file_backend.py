"""Files as a wall serves them: the interface behind ``session.files`` (F1 to F5).

A sandbox whose supervisor serves files, or that has a way of its own, returns a
:class:`FileBackend` from ``Sandbox.files``. Core checks arguments, keeps every call's time
(:class:`FileCall`) and turns the caller loose where a backend does not; so a backend is
asked for what it does alone.
"""

from __future__ import annotations

import abc
import errno
import os
import posixpath
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from stockade._entries import (
    DIR,
    FILE,
    LINK,
    Entry,
    FileEvent,
    FileInfo,
    Missed,
    Misses,
    Piece,
    TreeItem,
)
from stockade.errors import CancelledError, FileTooLargeError

__all__ = ["FileBackend", "FileCall", "FileInfo", "reason_of"]

_T = TypeVar("_T")

#: What is read at once where a file goes on in pieces.
_PIECE_BYTES = 4 << 20


class FileCall:
    """One file call's bounds: the time that it has, and whether anybody still wants it (F2).

    Made by core for each call. A backend looks at ``remaining`` or ``check`` wherever it may
    have to wait, or has ``on_cancel`` stop what it waits for.
    """

    def __init__(self, timeout: float | None = None) -> None:
        self.timeout = timeout  #: seconds in all, or None for no limit
        self._until = None if timeout is None else time.monotonic() + timeout
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._acts: list[Callable[[], None]] = []

    @property
    def cancelled(self) -> bool:
        """Whether the caller has cancelled it, or its session is ended; a backend then stops."""
        return self._error is not None

    @property
    def error(self) -> BaseException:
        """What the caller gets of a cancelled call: a CancelledError, or the session's end."""
        return self._error or CancelledError("the file call was cancelled.")

    def remaining(self) -> float | None:
        """Seconds left, or None for no limit. Raises as ``check``."""
        self.check()
        return None if self._until is None else max(self._until - time.monotonic(), 0.001)

    def check(self) -> None:
        """Raise TimeoutError if the time is over, CancelledError if it was cancelled."""
        if self._error is not None:
            raise self._error
        if self._until is not None and time.monotonic() >= self._until:
            raise TimeoutError(f"the call took longer than its {self.timeout:g} s; give it more.")

    def cancel(self, error: BaseException | None = None) -> None:
        """Nobody wants it any more; ``check`` raises ``error`` from now on, the first one given."""
        with self._lock:
            if self._error is not None:
                return
            self._error = error or CancelledError("the file call was cancelled.")
            acts, self._acts = self._acts, []
        for act in acts:
            act()

    def each(self, items: Iterable[_T]) -> Iterator[_T]:
        """The items as long as the call goes on. Their source may be slow."""
        for item in items:
            self.check()
            yield item

    def on_cancel(self, act: Callable[[], None]) -> None:
        """Have ``act`` called when it is cancelled or its time is over, at once where it was
        already; from another thread, once, and it must return soon."""
        with self._lock:
            if self._error is None:
                self._acts.append(act)
                return
        act()


class FileBackend(abc.ABC):
    """A sandbox's files, reached by the wall's own way; called from any thread.

    Paths are absolute, without NUL, and are the sandbox's own words: whatever they name,
    nothing of the host beside the sandbox's files is read or written (F3). Errors are those
    that a local file would raise, with the path as their filename (F2); where content is
    wanted of what is no regular file (a FIFO, a device, a link to one), SpecialFileError is
    raised at once. ``call`` bounds each call. Subclasses must have the methods up to
    ``remove``; the others follow from these, and are there to be done better.
    """

    #: The folder that relative paths mean; None for the session's working folder.
    root: str | None = None
    #: The folders that a snapshot takes (G1); None for the working folder and /tmp.
    tops: Sequence[str] | None = None

    @abc.abstractmethod
    def read(
        self, path: str, call: FileCall, *, offset: int, length: int | None, max_bytes: int
    ) -> bytes:
        """Bytes of a file from ``offset`` on: ``length`` at most, or to its end where that is
        None. Raises FileTooLargeError if that were more than ``max_bytes``."""

    @abc.abstractmethod
    def write(
        self,
        path: str,
        data: Iterable[bytes],
        call: FileCall,
        *,
        mode: int | None,
        append: bool,
        offset: int | None,
    ) -> None:
        """Write a file, making it and its parent folders where they are missing (F1).

        ``append``: at its end. ``offset``: from there on, the rest staying as it is.
        Neither: in place of its content. ``mode``: permission bits to be set, None for the
        usual ones of a new file and no change of an old one.
        """

    @abc.abstractmethod
    def list(self, path: str, call: FileCall, *, max_entries: int) -> list[FileInfo]:
        """The entries of a folder (F4). Raises FileTooLargeError past ``max_entries``."""

    @abc.abstractmethod
    def stat(self, path: str, call: FileCall, *, follow_links: bool) -> FileInfo:
        """One entry; a link is not followed unless ``follow_links``. Its name may be empty."""

    @abc.abstractmethod
    def make_dir(self, path: str, call: FileCall) -> None:
        """Make a folder and its parents; one that is there already is fine."""

    @abc.abstractmethod
    def remove(self, path: str, call: FileCall, *, tree: bool) -> None:
        """Remove a file, a link, or an empty folder; with ``tree`` a whole one."""

    def watch(
        self,
        path: str,
        receive: Callable[[FileEvent], None],
        ready: Callable[[], None],
        call: FileCall,
        *,
        recursive: bool,
    ) -> bool:
        """Report what changes in a folder, with ``recursive`` below it too, until the call is
        over or the folder gone; ``ready`` is called once, when nothing is missed any more (F6).

        Called where the wall claims ``watch``. False, the default, where there is no way to
        have changes reported: core then looks, by ``list``.
        """
        return False

    # -- by means of the above ---------------------------------------------------

    def move(self, source: str, destination: str, call: FileCall) -> None:
        """Rename, as ``rename`` does locally, between file systems too; parents are made."""
        if missed := self.copy(source, destination, call):
            self.remove(destination, call, tree=True)
            raise OSError(
                errno.EXDEV, f"not moved, since of it {missed[0]}", source, None, destination
            )
        self.remove(source, call, tree=True)

    def copy(self, source: str, destination: str, call: FileCall) -> Misses:
        """Copy a file (a link is followed), or a whole folder to where nothing is yet.

        Returns what of a folder could not be copied.
        """
        info = self.stat(source, call, follow_links=True)
        if info.is_dir:
            return self._copy_folder(source, destination, call)
        self.write(
            destination,
            self.pieces(source, info.size, call),
            call,
            mode=info.mode,
            append=False,
            offset=None,
        )
        return []

    def _copy_folder(self, source: str, destination: str, call: FileCall) -> Misses:
        if f"{destination.rstrip('/')}/".startswith(f"{source.rstrip('/')}/"):
            raise OSError(errno.EINVAL, "a folder cannot be copied into itself", destination)
        try:
            self.stat(destination, call, follow_links=False)
        except FileNotFoundError:
            pass
        else:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), destination)
        self.make_dir(destination, call)
        missed: Misses = []
        for info in self.list(source, call, max_entries=1_000_000):
            ours, theirs = (posixpath.join(path, info.name) for path in (source, destination))
            if info.kind in (FILE, DIR):
                missed += [
                    Missed(posixpath.join(info.name, one.path), one.reason)
                    for one in self.copy(ours, theirs, call)
                ]
            else:
                missed.append(Missed(info.name, f"this wall copies no {info.kind}"))
        return missed

    def pieces(self, path: str, size: int, call: FileCall) -> Iterator[bytes]:
        """A file's first ``size`` bytes, piece by piece."""
        at = 0
        while at < size:
            length = min(_PIECE_BYTES, size - at)
            data = self.read(path, call, offset=at, length=length, max_bytes=length)
            if not data:
                return
            yield data
            at += len(data)

    def get_tree(
        self,
        path: str,
        receive: Callable[[TreeItem], None],
        call: FileCall,
        *,
        max_bytes: int,
        max_entries: int,
        chosen: Sequence[str] | None = None,
    ) -> None:
        """Hand what is in a folder to ``receive``, item by item (see :mod:`stockade._entries`).

        What stands in the way of one entry is that entry's :class:`Missed`. Raises
        FileTooLargeError past either limit; files count with their whole size, holes
        included. ``chosen``: these paths of the folder alone, each ``t`` and the path for
        all that is in it or ``s`` and the path for itself, where the session's programs
        can have changed them; for snapshots of walls whose ``changes`` names any.
        """
        if chosen is not None:
            raise NotImplementedError
        _Reader(self, path, receive, call, max_bytes, max_entries).folder(path, "")

    def put_tree(self, path: str, items: Iterable[TreeItem], call: FileCall) -> Misses:
        """Write a tree's items into a folder, which is made; what was not written.

        No entry leads out of the folder, through links that were there already or came with
        the tree (F3). Raises OSError if the room is used up.
        """
        self.make_dir(path, call)
        missed: Misses = []
        for item, pieces in with_content(items):
            if isinstance(item, Missed):
                missed.append(item)
                continue
            here = posixpath.join(path, item.path)
            try:
                if item.kind == DIR:
                    self.make_dir(here, call)
                elif item.kind == FILE:
                    content = filled(item.size, pieces)
                    self.write(here, content, call, mode=item.mode, append=False, offset=None)
                else:
                    what = "links" if item.kind == LINK else "hard links"
                    missed.append(Missed(item.path, f"this wall has no {what}"))
            except OSError as error:
                if isinstance(error, TimeoutError) or error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise
                missed.append(Missed(item.path, reason_of(error)))
        return missed


def reason_of(error: OSError) -> str:
    """An error as the reason of a :class:`Missed`."""
    return error.strerror or str(error)


def with_content(
    items: Iterable[TreeItem],
) -> Iterator[tuple[Entry | Missed, Iterator[Piece]]]:
    """Each entry with an iterator over its pieces, which is used up before the next entry."""
    source = iter(items)
    waiting: list[TreeItem] = []

    def pieces() -> Iterator[Piece]:
        for item in source:
            if not isinstance(item, Piece):
                waiting.append(item)
                return
            yield item

    while True:
        item = waiting.pop() if waiting else next(source, None)
        if item is None:
            return
        if isinstance(item, Piece):
            continue  # of an entry that was left
        content = pieces() if isinstance(item, Entry) and item.kind == FILE else iter(())
        yield item, content
        for _ in content:
            pass


def filled(size: int, pieces: Iterable[Piece]) -> Iterator[bytes]:
    """A file's content in order, its holes as zeros."""
    at = 0
    for piece in pieces:
        yield from zeros(piece.offset - at)
        yield piece.data
        at = piece.offset + len(piece.data)
    yield from zeros(size - at)


def zeros(count: int) -> Iterator[bytes]:
    """So many zero bytes, in pieces."""
    block = bytes(min(max(count, 0), 1 << 20))
    while count > 0:
        yield block[:count]
        count -= len(block)


class _Reader:
    """A walk through a folder by ``list`` and ``read``."""

    def __init__(
        self,
        backend: FileBackend,
        top: str,
        receive: Callable[[TreeItem], None],
        call: FileCall,
        max_bytes: int,
        max_entries: int,
    ) -> None:
        self._backend = backend
        self._top = top
        self._receive = receive
        self._call = call
        self._max_bytes = self._bytes_left = max_bytes
        self._max_entries = self._entries_left = max_entries

    def folder(self, path: str, name: str) -> None:
        for info in self._backend.list(path, self._call, max_entries=self._max_entries):
            inner, here = posixpath.join(name, info.name), posixpath.join(path, info.name)
            self._entries_left -= 1
            if self._entries_left < 0:
                raise FileTooLargeError(self._top, self._max_entries, "entries")
            try:
                self._entry(info, here, inner)
            except (FileTooLargeError, TimeoutError):
                raise
            except OSError as error:
                self._receive(Missed(inner, reason_of(error)))

    def _entry(self, info: FileInfo, path: str, name: str) -> None:
        if info.kind == DIR:
            self.folder(path, name)
            self._receive(Entry(name, DIR, info.mode, modified_ns=info.modified_ns))
        elif info.kind == FILE:
            self._file(info, path, name)
        elif info.kind == LINK and info.target is not None:
            self._receive(
                Entry(name, LINK, info.mode, modified_ns=info.modified_ns, target=info.target)
            )
        else:
            self._receive(Missed(name, "it is neither file, folder nor link"))

    def _file(self, info: FileInfo, path: str, name: str) -> None:
        self._bytes_left -= info.size
        if self._bytes_left < 0:
            raise FileTooLargeError(self._top, self._max_bytes)
        offset = 0
        self._receive(Entry(name, FILE, info.mode, info.size, info.modified_ns))
        for data in self._backend.pieces(path, info.size, self._call):
            self._receive(Piece(offset, data))
            offset += len(data)
