"""The files of a sandbox whose supervisor serves them (F1 to F6).

The supervisor runs its file server (``supervisor/src/files.c``) as a builtin: a forked child
with the session's user, inside the sandbox's root, that needs no program of the image. Paths
are resolved there, so no link leads to the host (F3).
"""

from __future__ import annotations

import errno
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from stockade._entries import FileEvent, FileInfo, Missed, Misses, TreeItem
from stockade.errors import FileTooLargeError, StockadeError
from stockade.file_backend import FileBackend, FileCall
from stockade.toolkit.supervised.codes import failed
from stockade.toolkit.supervised.records import (
    Decoder,
    changes_to,
    encode,
    infos_to,
    items_to,
    missed_to,
)

__all__ = ["Builtin", "SupervisedFiles"]

#: A listing's bytes, whatever number of entries is asked for.
_MAX_LIST_BYTES = 64 << 20
#: What of a tree is reported as left out.
_MAX_MISSED = 100_000
#: What a kernel says that reports no changes, or whose user has no more to watch with.
_NO_WATCHES = (errno.ENOSYS, errno.EMFILE, errno.ENFILE, errno.ENOSPC)
#: What is sent at once.
_PIECE_BYTES = 256 * 1024


class Builtin(Protocol):
    """Run a command of the supervisor's own: its exit code and what it said on fd 2.

    ``stdin`` is what it reads, taken as it is wanted; ``receive`` is given what it writes, as it
    comes. What either of them raises ends the command and is raised on. Raises TimeoutError
    when ``timeout`` seconds (None: no limit) have passed and the command has been ended,
    CancelledError when ``cancelled``, asked now and then, says so, and SandboxLostError.
    """

    def __call__(
        self,
        argv: Sequence[str | bytes],
        *,
        stdin: Iterable[bytes] = (),
        receive: Callable[[bytes], None],
        timeout: float | None,
        cancelled: Callable[[], bool] | None = None,
    ) -> tuple[int, bytes]: ...


class SupervisedFiles(FileBackend):
    """Files over a link's ``builtin``; each call is one command."""

    def __init__(self, builtin: Builtin) -> None:
        self._builtin = builtin

    # -- one file ------------------------------------------------------------

    def read(
        self, path: str, call: FileCall, *, offset: int, length: int | None, max_bytes: int
    ) -> bytes:
        data = bytearray()

        def receive(piece: bytes) -> None:
            data.extend(piece)
            if len(data) > max_bytes:  # more than it was asked for
                raise FileTooLargeError(path, max_bytes)

        many = "-" if length is None else str(length)
        self._run(
            call, ["read", path, str(offset), many, str(max_bytes)], receive, max_bytes=max_bytes
        )
        return bytes(data)

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
        where = "append" if append else "replace" if offset is None else str(offset)
        bits = "-" if mode is None else f"{mode & 0o7777:o}"
        self._run(call, ["write", path, bits, where], _no_answer, stdin=_cut(data))

    def list(self, path: str, call: FileCall, *, max_entries: int) -> list[FileInfo]:
        found: list[FileInfo] = []

        def receive(info: FileInfo) -> None:
            if len(found) >= max_entries:
                raise FileTooLargeError(path, max_entries, "entries")
            found.append(info)

        decoder = Decoder(infos_to(receive))
        command = ["list", path, str(max_entries), str(_MAX_LIST_BYTES)]
        self._run(call, command, decoder.feed, max_entries=max_entries)
        decoder.end()
        return found

    def stat(self, path: str, call: FileCall, *, follow_links: bool) -> FileInfo:
        found: list[FileInfo] = []
        decoder = Decoder(infos_to(found.append))
        self._run(call, ["stat", path, "follow" if follow_links else "self"], decoder.feed)
        decoder.end()
        if len(found) != 1:
            raise StockadeError(f"the file server gave {len(found)} answers for {path!r}, not one.")
        return found[0]

    def make_dir(self, path: str, call: FileCall) -> None:
        self._run(call, ["mkdir", path], _no_answer)

    def remove(self, path: str, call: FileCall, *, tree: bool) -> None:
        self._run(call, ["remove", path, "tree" if tree else "one"], _no_answer)

    def watch(
        self,
        path: str,
        receive: Callable[[FileEvent], None],
        ready: Callable[[], None],
        call: FileCall,
        *,
        recursive: bool,
    ) -> bool:
        decoder = Decoder(changes_to(path, receive, ready))
        command = ["watch", path, "below" if recursive else "itself"]
        try:
            self._run(call, command, decoder.feed)
        except OSError as error:
            if error.errno in _NO_WATCHES:
                return False
            raise
        return True

    # -- two places ----------------------------------------------------------

    def move(self, source: str, destination: str, call: FileCall) -> None:
        missed = _Missed(source)
        self._run(call, ["move", source, destination], missed.decoder.feed, missed=missed)

    def copy(self, source: str, destination: str, call: FileCall) -> Misses:
        missed = _Missed(source)
        self._run(call, ["copy", source, destination], missed.decoder.feed)
        return missed.all()

    # -- trees ---------------------------------------------------------------

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
        command = [
            "get",
            path,
            str(max_bytes),
            str(max_entries),
            "all" if chosen is None else "chosen",
        ]
        decoder = Decoder(items_to(receive))
        names = (b"%s\0" % _bytes(name) for name in chosen or ())
        self._run(
            call, command, decoder.feed, stdin=names, max_bytes=max_bytes, max_entries=max_entries
        )
        decoder.end()

    def put_tree(self, path: str, items: Iterable[TreeItem], call: FileCall) -> Misses:
        missed = _Missed(path)
        records = encode(items, missed.add)
        self._run(call, ["put", path], missed.decoder.feed, stdin=records)
        return missed.all()

    # -- the way there -------------------------------------------------------

    def _run(
        self,
        call: FileCall,
        command: Sequence[str],
        receive: Callable[[bytes], None],
        *,
        stdin: Iterable[bytes] = (),
        max_bytes: int = 0,
        max_entries: int = 0,
        missed: _Missed | None = None,
    ) -> None:
        def take(data: bytes) -> None:
            call.check()
            receive(data)

        argv: list[str | bytes] = ["files", *map(_bytes, command)]
        code, answer = self._builtin(
            argv,
            stdin=call.each(stdin),
            receive=take,
            timeout=call.remaining(),
            cancelled=lambda: call.cancelled,
        )
        if not code:
            return
        path, other = command[1], None
        if command[0] == "move":
            other = command[2]
            if missed is not None and (left := missed.all()):
                raise OSError(errno.EXDEV, f"not moved, since of it {left[0]}", path, None, other)
        elif answer:
            path = posixpath.join(path, answer[:4096].decode("utf-8", "surrogateescape"))
        failed(code, path, max_bytes=max_bytes, max_entries=max_entries, other=other)


class _Missed:
    """What of a tree was left out, here and there; so many and no more."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._found: list[Missed] = []
        self.decoder = Decoder(missed_to(self.add))

    def add(self, missed: Missed) -> None:
        if len(self._found) >= _MAX_MISSED:
            raise StockadeError(
                f"more than {_MAX_MISSED} entries of {self._path!r} could not be brought, the "
                f"last of them {self._found[-1]}; bring its parts one by one."
            )
        self._found.append(missed)

    def all(self) -> Misses:
        self.decoder.end()
        return self._found


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _no_answer(data: bytes) -> None:
    raise StockadeError(
        f"the file server answered with {len(data)} bytes where nothing is to be answered."
    )


def _cut(data: Iterable[bytes]) -> Iterator[bytes]:
    """In pieces of a size at which time and cancelling are looked at often enough."""
    for piece in data:
        view = memoryview(piece)
        for at in range(0, len(view), _PIECE_BYTES):
            yield bytes(view[at : at + _PIECE_BYTES])
