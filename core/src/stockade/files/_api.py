"""``session.files``: what callers do with a sandbox's files (F1 to F5)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import attrs

from stockade._entries import FileInfo, Missed, Misses, TreeItem
from stockade.capabilities import Capabilities, Feature
from stockade.config import MIB
from stockade.errors import ConfigError, TransferError
from stockade.file_backend import FileBackend, FileCall
from stockade.files import _tar as tar
from stockade.files._arguments import Data, InsidePath, check_mode, count, inside, plain
from stockade.files._arguments import pieces as as_pieces
from stockade.files._calls import FileCalls, Timeout
from stockade.files._host import FolderWriter, read_folder
from stockade.files._limits import TreeLimit
from stockade.files._watching import Watch, look_for_changes

__all__ = ["DEFAULT_MAX_BYTES", "Archive", "Files"]

#: Bytes of the largest file that a read brings out by default (F2).
DEFAULT_MAX_BYTES = 64 * MIB
#: Of a tree: four such files.
DEFAULT_TREE_BYTES = 4 * DEFAULT_MAX_BYTES
DEFAULT_MAX_ENTRIES = 100_000
PIECE_BYTES = 8 * MIB
_T = TypeVar("_T")


@attrs.frozen
class Archive:
    """A folder as a tar archive, and what of it could not be brought."""

    #: the archive, uncompressed
    data: bytes = attrs.field(repr=lambda data: f"<{len(data)} bytes>")
    missed: tuple[Missed, ...] = ()  #: what it lacks, and why


class Files:
    """A session's files; paths are absolute, or relative to its working folder.

    Every method takes ``timeout``: seconds, None for no limit, by default the session's, and
    raises TimeoutError when they have passed. Every method raises FileNotFoundError,
    IsADirectoryError, NotADirectoryError or PermissionError as a local file would, naming the
    path (F2); OSError (ENOSPC) when the writable space is full (E2); SpecialFileError, at once,
    for what is no regular file; CancelledError when the session is ended meanwhile;
    SessionStateError, SandboxLostError, ConfigError. Safe from any thread.
    """

    def __init__(self, calls: FileCalls, backend: FileBackend, have: Capabilities) -> None:
        """``have``: what the wall can do."""
        self._calls = calls
        self._backend = backend
        self._have = have

    # -- one file ------------------------------------------------------------

    def read(
        self,
        path: InsidePath,
        *,
        offset: int = 0,
        length: int | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
        timeout: Timeout = "session",
    ) -> bytes:
        """The bytes of a file, from ``offset`` on, ``length`` at most (F5).

        Raises FileTooLargeError if that were more than ``max_bytes``.
        """
        there = self._inside(path)
        count("offset", offset)
        count("max_bytes", max_bytes)
        if length is not None:
            count("length", length)
        return self._call(
            f"reading {there!r}",
            timeout,
            lambda call: self._backend.read(
                there, call, offset=offset, length=length, max_bytes=max_bytes
            ),
        )

    def read_text(
        self, path: InsidePath, *, max_bytes: int = DEFAULT_MAX_BYTES, timeout: Timeout = "session"
    ) -> str:
        """The file decoded as UTF-8; raises UnicodeDecodeError if it is not that."""
        return self.read(path, max_bytes=max_bytes, timeout=timeout).decode("utf-8")

    def read_pieces(
        self, path: InsidePath, *, offset: int = 0, timeout: Timeout = "session"
    ) -> Iterator[bytes]:
        """A file of any size, in pieces of 8 MiB at most until its end (F5).

        Each piece is a read of its own and has the whole ``timeout``.
        """
        while piece := self.read(
            path, offset=offset, length=PIECE_BYTES, max_bytes=PIECE_BYTES, timeout=timeout
        ):
            yield piece
            offset += len(piece)

    def write(
        self,
        path: InsidePath,
        data: Data,
        *,
        mode: int | None = None,
        append: bool = False,
        offset: int | None = None,
        timeout: Timeout = "session",
    ) -> None:
        """Write a file, making parent folders (F1); ``mode`` as in ``0o755``.

        What was in it goes, unless ``append`` writes at its end or ``offset`` from there on.
        A file that is there is written in place, as any program does: its links stay, and its
        mode where none is given. ``data`` may be bytes, a file opened for reading bytes, or an
        iterable of bytes, of any length; the latter two are read from another thread.
        """
        there = self._inside(path)
        pieces = as_pieces(data)
        if offset is not None:
            count("offset", offset)
            if append:
                raise ConfigError("append=True and offset=… contradict each other: give one.")
        check_mode(mode)
        self._call(
            f"writing {there!r}",
            timeout,
            lambda call: self._backend.write(
                there, call.each(pieces), call, mode=mode, append=append, offset=offset
            ),
        )

    def write_text(
        self,
        path: InsidePath,
        text: str,
        *,
        mode: int | None = None,
        append: bool = False,
        timeout: Timeout = "session",
    ) -> None:
        """As ``write``, of a text in UTF-8."""
        self.write(path, text.encode("utf-8"), mode=mode, append=append, timeout=timeout)

    # -- what is there -------------------------------------------------------

    def list(
        self,
        path: InsidePath = ".",
        *,
        max_entries: int = DEFAULT_MAX_ENTRIES,
        timeout: Timeout = "session",
    ) -> list[FileInfo]:
        """The entries of a folder, sorted by name (F4).

        Raises FileTooLargeError past ``max_entries``.
        """
        there = self._inside(path)
        count("max_entries", max_entries)
        found = self._call(
            f"listing {there!r}",
            timeout,
            lambda call: self._backend.list(there, call, max_entries=max_entries),
        )
        return sorted(found, key=lambda info: info.name)

    def stat(
        self, path: InsidePath, *, follow_links: bool = False, timeout: Timeout = "session"
    ) -> FileInfo:
        """One entry; a link is itself unless ``follow_links`` (F5)."""
        there = self._inside(path)
        info = self._call(
            f"looking at {there!r}",
            timeout,
            lambda call: self._backend.stat(there, call, follow_links=follow_links),
        )
        return attrs.evolve(info, name=os.path.basename(there.rstrip("/")))

    def exists(self, path: InsidePath, *, timeout: Timeout = "session") -> bool:
        """Whether something is there, a dangling link included."""
        try:
            self.stat(path, timeout=timeout)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    # -- changes -------------------------------------------------------------

    def make_dir(self, path: InsidePath, *, timeout: Timeout = "session") -> None:
        """Make a folder and its parents; one that is there already is fine."""
        there = self._inside(path)
        self._call(f"making {there!r}", timeout, lambda call: self._backend.make_dir(there, call))

    def remove(self, path: InsidePath, *, tree: bool = False, timeout: Timeout = "session") -> None:
        """Remove a file, a link, or an empty folder; with ``tree`` a whole one."""
        there = self._inside(path)
        self._call(
            f"removing {there!r}",
            timeout,
            lambda call: self._backend.remove(there, call, tree=tree),
        )

    def move(
        self, source: InsidePath, destination: InsidePath, *, timeout: Timeout = "session"
    ) -> None:
        """Give a file, link or folder another path, as a local rename does (F5).

        ``destination`` is its new path, not a folder to put it in; parents are made, a file
        that is there is replaced. Works from one file system to another, too: whole, or with
        an OSError and nothing moved.
        """
        ours, theirs = self._inside(source), self._inside(destination)
        self._call(f"moving {ours!r}", timeout, lambda call: self._backend.move(ours, theirs, call))

    def copy(
        self,
        source: InsidePath,
        destination: InsidePath,
        *,
        strict: bool = False,
        timeout: Timeout = "session",
    ) -> Misses:
        """Copy a file with mode and time, or a whole folder, to a path inside (F5).

        A link is followed; those in a folder stay links. A file that is there is replaced, in
        place; a folder is copied to where nothing is yet. Returns what of a folder could not be
        copied; ``strict`` raises TransferError for it.
        """
        ours, theirs = self._inside(source), self._inside(destination)
        missed = self._call(
            f"copying {ours!r}", timeout, lambda call: self._backend.copy(ours, theirs, call)
        )
        return _or_raised(ours, missed, strict)

    def watch(
        self, path: InsidePath = ".", *, recursive: bool = False, timeout: float | None = None
    ) -> Watch:
        """Report what changes in a folder, with ``recursive`` in all folders below it too (F6).

        Returns once nothing is missed any more: iterate over it for :class:`FileEvent`, and
        close it. ``timeout``: seconds after which reading raises TimeoutError; by default
        none. Where no kernel reports changes, the folder is looked at now and then. Raises
        UnsupportedError, NotADirectoryError, and as every call.

            with session.files.watch("src", recursive=True) as changes:
                for event in changes:
                    print(event.kind, event.path)
        """
        self._have.require(
            Feature.WATCH, self._calls.home.provider, "look with session.files.list."
        )
        there = plain(self._inside(path))
        watch = Watch()

        def work(call: FileCall) -> None:
            if not self._backend.watch(
                there, watch.receive, watch.ready, call, recursive=recursive
            ):
                look_for_changes(self._backend, there, watch, call, recursive=recursive)

        self._calls.begin(timeout, lambda call: watch.run(there, call, work))
        try:
            watch.begin(self._calls.home.config.timeout_seconds)
        except BaseException:
            watch.close()
            raise
        return watch

    # -- whole folders -------------------------------------------------------

    def put_tree(
        self,
        source: str | os.PathLike[str],
        path: InsidePath,
        *,
        strict: bool = False,
        timeout: Timeout = "session",
    ) -> Misses:
        """Copy a host folder's content into a folder of the sandbox (F4).

        Modes, times, links and hard links are kept; owners are the session's user. What is there
        is replaced, file by file. Returns what could not be brought, such as a FIFO or a file
        that may not be read; ``strict`` raises TransferError for it, once the rest is there.
        """
        if not os.path.isdir(source):
            raise NotADirectoryError(20, "Not a directory", os.fspath(source))
        return self._put(
            read_folder(source), path, f"copying {os.fspath(source)!r} in", strict, timeout
        )

    def get_tree(
        self,
        path: InsidePath,
        destination: str | os.PathLike[str],
        *,
        max_bytes: int = DEFAULT_TREE_BYTES,
        strict: bool = False,
        timeout: Timeout = "session",
    ) -> Misses:
        """Bring a folder's content out into a host folder, which is made if missing (F4).

        Nothing is written outside of ``destination``, whatever the sandbox sends (F3); links
        that lead out of it are not brought, and set-user-id bits are dropped. Returns what
        could not be brought, such as these; ``strict`` raises TransferError for it, once the
        rest is there. Raises FileTooLargeError past ``max_bytes``, which counts every file with
        its whole size, holes included.
        """
        there = self._inside(path)

        def bring(call: FileCall) -> Misses:
            with FolderWriter(destination) as writer:
                self._get(there, writer.take, call, max_bytes)
                return writer.finish()

        missed = self._call(f"bringing {there!r} out", timeout, bring)
        return _or_raised(there, missed, strict)

    def put_archive(
        self, data: bytes, path: InsidePath, *, strict: bool = False, timeout: Timeout = "session"
    ) -> Misses:
        """As ``put_tree``, of a tar archive's content; ArchiveError if it is damaged."""
        return self._put(tar.items(data), path, "copying the archive in", strict, timeout)

    def get_archive(
        self,
        path: InsidePath,
        *,
        max_bytes: int = DEFAULT_TREE_BYTES,
        strict: bool = False,
        timeout: Timeout = "session",
    ) -> Archive:
        """A folder's content as a tar archive; otherwise as ``get_tree``, links as they are."""
        there = self._inside(path)

        def bring(call: FileCall) -> Archive:
            writer = tar.Writer()
            self._get(there, writer.take, call, max_bytes)
            return Archive(writer.end(), tuple(writer.missed))

        archive = self._call(f"bringing {there!r} out", timeout, bring)
        _or_raised(there, archive.missed, strict)
        return archive

    def _put(
        self,
        items: Iterable[TreeItem],
        path: InsidePath,
        what: str,
        strict: bool,
        timeout: Timeout,
    ) -> Misses:
        there = self._inside(path)
        missed = self._call(
            what, timeout, lambda call: self._backend.put_tree(there, call.each(items), call)
        )
        return _or_raised(there, missed, strict)

    def _get(
        self, there: str, receive: Callable[[TreeItem], None], call: FileCall, max_bytes: int
    ) -> None:
        count("max_bytes", max_bytes)
        TreeLimit(there, receive, max_bytes).bring(self._backend, there, call)

    # -- the way there -------------------------------------------------------

    def _inside(self, path: object) -> str:
        return inside(path, self._backend.root or self._calls.home.config.working_dir)

    def _call(self, what: str, timeout: Timeout, work: Callable[[FileCall], _T]) -> _T:
        return self._calls.make(what, timeout, work)


def _or_raised(path: str, missed: Iterable[Missed], strict: bool) -> Misses:
    found = list(missed)
    if found and strict:
        raise TransferError(path, found)
    return found
