"""Snapshots: a session's files, saved, and put into new sessions (G1).

The working folder and /tmp; where the root is writable, what was changed elsewhere too. They
are brought out and put in as trees are, so nothing that a hostile sandbox made is ever
unpacked on the host; in between they are a tar archive.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import attrs

from stockade._entries import HARD_LINK, Entry, Missed, Piece, TreeItem
from stockade._exchange import Changes
from stockade.config import DEFAULT_SNAPSHOT_BYTES
from stockade.errors import ConfigError, StockadeError, UnsupportedError
from stockade.file_backend import FileBackend, FileCall
from stockade.files import _tar as tar
from stockade.files._calls import Timeout
from stockade.files._limits import TreeLimit

if TYPE_CHECKING:
    from stockade.config import SandboxConfig
    from stockade.files._api import Files

__all__ = ["DEFAULT_SNAPSHOT_BYTES", "Snapshot", "check_fits", "restore", "take"]

_MAGIC = b"stockade snapshot 3\n"
#: Kernels' file systems, which no session's programs keep anything in.
_NO_FILES = ("/proc", "/sys", "/dev")
#: What walls themselves keep in /tmp.
_OURS = "tmp/.stockade-"


@attrs.frozen
class Snapshot:
    """A session's files at one moment; any number of sessions start from it, none changes it."""

    working_dir: str  #: the session's, absolute; a session that starts from it has the same
    created_at: float  #: Unix time
    #: Whether it holds what was changed everywhere (``read_only_fs=False``).
    whole: bool
    removed: tuple[str, ...]  #: what was there at the start and is not any more
    #: the files, as a tar archive
    data: bytes = attrs.field(repr=lambda data: f"<{len(data)} bytes>")
    #: What it does not hold, though it was there: FIFOs, sockets, what may not be read.
    missed: tuple[Missed, ...] = ()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file of the host, for its owner alone; replaces what is there."""
        missed = [(one.path, one.reason) for one in self.missed]
        head = json.dumps([self.working_dir, self.created_at, self.whole, self.removed, missed])
        temporary = f"{os.fspath(path)}.part"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(_MAGIC + head.encode() + b"\n" + self.data)
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Snapshot:
        """Read one that ``save`` wrote. Raises OSError, and ConfigError if it is none."""
        with open(path, "rb") as file:
            if file.readline(64) != _MAGIC:
                raise ConfigError(f"{os.fspath(path)!r} holds no snapshot of stockade's.")
            try:
                folder, created, whole, removed, missed = json.loads(file.readline())
                return cls(
                    str(folder),
                    float(created),
                    bool(whole),
                    tuple(removed),
                    file.read(),
                    tuple(Missed(str(name), str(reason)) for name, reason in missed),
                )
            except (ValueError, TypeError):
                raise ConfigError(f"{os.fspath(path)!r} is a damaged snapshot.") from None


# -- taking --------------------------------------------------------------------


def take(
    files: Files,
    changes: Callable[[], Changes | None],
    max_bytes: int,
    timeout: Timeout = "session",
) -> Snapshot:
    """See ``Session.snapshot``; ``changes`` says what a root that may be written holds anew."""
    calls, backend = files._calls, files._backend
    config = calls.home.config
    found = None if config.read_only_fs else _checked(changes(), calls.home.provider)
    writer = tar.Writer()

    def bring(call: FileCall) -> bytes:
        limit = TreeLimit(config.working_dir, writer.take, max_bytes)
        for top in _tops(backend, config.working_dir):
            _bring(backend, top, limit, call)
        if found is not None:
            limit.bring(backend, "/", call, _chosen(found, config.working_dir))
        return writer.end()

    data = calls.make("taking the snapshot", timeout, bring)
    removed = () if found is None else found.removed
    return Snapshot(
        config.working_dir, time.time(), found is not None, removed, data, tuple(writer.missed)
    )


def _tops(backend: FileBackend, working_dir: str) -> tuple[str, ...]:
    """The folders that all is in which a session with a read-only root can have written."""
    if backend.tops is not None:
        return tuple(backend.tops)
    return ("/tmp",) if _is_in(working_dir, "/tmp") else (working_dir, "/tmp")


def _bring(backend: FileBackend, top: str, limit: TreeLimit, call: FileCall) -> None:
    """One folder, its items named from the root."""
    above = top.strip("/")

    def named(item: TreeItem) -> None:
        if not isinstance(item, Piece):
            item = attrs.evolve(item, path=f"{above}/{item.path}")
            if isinstance(item, Entry) and item.kind == HARD_LINK:
                item = attrs.evolve(item, target=f"{above}/{item.target}")
        passing(item)

    passing = _without_ours(limit.take)
    backend.get_tree(top, named, call, max_bytes=limit.bytes_left, max_entries=limit.entries_left)


def _without_ours(receive: Callable[[TreeItem], None]) -> Callable[[TreeItem], None]:
    """Without what the wall itself keeps in /tmp."""
    passing = True

    def take(item: TreeItem) -> None:
        nonlocal passing
        if not isinstance(item, Piece):
            passing = not item.path.startswith(_OURS)
        if passing:
            receive(item)

    return take


def _checked(found: Changes | None, name: str) -> Changes:
    if found is None:
        raise UnsupportedError(
            f"{name} cannot snapshot a session with read_only_fs=False: what it wrote elsewhere "
            "than in the working folder and /tmp would be missing; bring files out one by one."
        )
    return found


def _is_in(path: str, top: str) -> bool:
    return path == top or path.startswith(f"{top}/")


def _chosen(changes: Changes, folder: str) -> list[str]:
    """``t`` and the path of what is new, ``s`` and the path of what is changed, each once."""

    def outside(path: str) -> bool:
        inside = any(_is_in(path, top) for top in (folder, "/tmp"))
        above = any(top.startswith(f"{path}/") for top in (folder, "/tmp"))
        return not inside and not above and not path.startswith(_NO_FILES)

    made: list[str] = []
    for path in sorted(filter(outside, changes.made)):
        if not made or not _is_in(path, made[-1]):
            made.append(path)
    return [f"t{path.lstrip('/')}" for path in made] + [
        f"s{path.lstrip('/')}" for path in filter(outside, changes.changed)
    ]


# -- putting in ----------------------------------------------------------------


def check_fits(snapshot: Snapshot, config: SandboxConfig) -> None:
    """Raise ConfigError if a snapshot is none for a session with this configuration."""
    if snapshot.working_dir != config.working_dir:
        raise ConfigError(
            f"the snapshot is of working_dir={snapshot.working_dir!r}, the session has "
            f"{config.working_dir!r}; open it with the same."
        )
    if snapshot.whole and config.read_only_fs:
        raise ConfigError(
            "the snapshot holds files outside of the working folder; open the session with "
            "read_only_fs=False."
        )


def restore(files: Files, snapshot: Snapshot) -> None:
    """Put a snapshot's files into a new session that it fits."""
    files._calls.make(
        "restoring the snapshot",
        files._calls.home.config.startup_timeout_seconds,
        lambda call: _put(files._backend, snapshot, call),
    )


def _put(backend: FileBackend, snapshot: Snapshot, call: FileCall) -> None:
    for path in snapshot.removed:
        with contextlib.suppress(OSError):
            backend.remove(path, call, tree=True)
    tops = _tops(backend, snapshot.working_dir)
    missed: list[Missed] = []
    for top in tops:
        # The folders themselves are the wall's: only what is in them is set.
        missed += backend.put_tree(top, _below(top, tar.items(snapshot.data)), call)
    if snapshot.whole:
        rest = _outside(tops, tar.items(snapshot.data))
        missed += backend.put_tree("/", rest, call)
    if missed:
        raise StockadeError(
            f"restoring the snapshot failed for {len(missed)} entries, the first of them "
            f"{missed[0]}; give the session what that needs."
        )


def _below(top: str, items: Iterable[TreeItem]) -> Iterator[TreeItem]:
    """What is in one folder, named from there."""
    above = f"{top.strip('/')}/"
    passing = False
    for item in items:
        if isinstance(item, Piece):
            if passing:
                yield item
            continue
        passing = item.path.startswith(above)
        if not passing:
            continue
        path = item.path.removeprefix(above)
        if isinstance(item, Missed):
            yield attrs.evolve(item, path=path)
        elif item.kind == HARD_LINK:
            yield attrs.evolve(item, path=path, target=item.target.removeprefix(above))
        else:
            yield attrs.evolve(item, path=path)


def _outside(tops: Iterable[str], items: Iterable[TreeItem]) -> Iterator[TreeItem]:
    """What is in none of them."""
    passing = False
    for item in items:
        if not isinstance(item, Piece):
            passing = not any(_is_in(f"/{item.path}", top) for top in tops)
        if passing:
            yield item
