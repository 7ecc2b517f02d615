"""An audit log: one JSON line an event, each carrying the hash of the one before.

Lines are only ever appended, by any number of processes. Changing, removing or
reordering a line breaks the chain, which ``stockade audit verify FILE`` finds.
Cutting off the newest lines cannot be seen from the file alone: keep the head
that ``verify`` prints somewhere else and pass it as ``--head`` next time.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from enum import Enum
from typing import IO, Any

import attrs

from stockade.errors import AuditError
from stockade.events import Event
from stockade.plugin import hookimpl

__all__ = ["GENESIS", "AuditLog", "Verified", "verify"]

#: What the first line carries in place of a hash.
GENESIS = "0" * 64
_BLOCK = 64 * 1024


@attrs.frozen
class Verified:
    """A log whose chain holds."""

    lines: int
    head: str  #: the hash of the last line


class AuditLog:
    """An observer that writes every event to a file; register it with a runtime:

        stockade.default_runtime().hooks.add(stockade.AuditLog("audit.jsonl"))

    Raises AuditError when the file cannot be opened or is no audit log.
    """

    def __init__(self, path: str | os.PathLike[str], *, sync: bool = False) -> None:
        """With ``sync`` each line is on the disk before its event counts as reported."""
        self.path = os.fspath(path)
        self._sync = sync
        self._lock = threading.Lock()
        with self._open() as file:
            _last_hash(file, self.path)

    @hookimpl
    def stockade_event(self, event: Event) -> None:
        """Write the event's line; called by core for each event. Raises AuditError."""
        self.append(_plain(event))

    def append(self, entry: dict[str, Any]) -> None:
        """Add one line; the lock of the file orders several processes."""
        with self._lock, self._open() as file:
            previous = _last_hash(file, self.path)
            line = _line({**entry, "previous": previous})
            file.seek(0, os.SEEK_END)
            file.write(line)
            file.flush()
            if self._sync:
                os.fsync(file.fileno())

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        try:
            descriptor = os.open(
                self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o600
            )
        except OSError as error:
            raise AuditError(
                f"the audit log {self.path!r} cannot be opened: {error.strerror}; "
                "give a path that this user may write."
            ) from error
        with os.fdopen(descriptor, "r+b") as file, _locked(file):
            yield file


@contextmanager
def _locked(file: IO[bytes]) -> Iterator[None]:
    """Hold the file against other processes, where the system has such locks."""
    try:
        import fcntl
    except ImportError:  # not POSIX: one process at a time, as the docs say
        yield
        return
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _plain(event: Event) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    for name, value in attrs.asdict(event, recurse=False).items():
        if value is not None:
            entry[name] = value.value if isinstance(value, Enum) else value
    entry["time"] = datetime.fromtimestamp(event.time, timezone.utc).isoformat()
    return entry


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _last_hash(file: IO[bytes], path: str) -> str:
    """The hash of the last line, read from the end of the file."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return GENESIS
    tail = b""
    at = size
    while at > 0 and tail.count(b"\n") < 2:
        step = min(_BLOCK, at)
        at -= step
        file.seek(at)
        tail = file.read(step) + tail
    last = tail.rstrip(b"\n").rpartition(b"\n")[2] + b"\n"
    if not tail.endswith(b"\n") or b'"previous":"' not in last:
        raise AuditError(
            f"{path!r} does not end with a line of an audit log; nothing was written to it. "
            "Move it away and start a new one, or check it with `stockade audit verify`."
        )
    return _hash(last)


def verify(path: str | os.PathLike[str], *, head: str | None = None) -> Verified:
    """Check a log's whole chain.

    ``head`` is the hash an earlier check printed: it must still be in the
    chain. Raises AuditError that names the first wrong line.
    """
    name = os.fspath(path)
    previous, count, seen = GENESIS, 0, head is None or head == GENESIS
    try:
        with open(name, "rb") as file:
            for count, line in enumerate(file, 1):
                if _previous(line) != previous:
                    raise AuditError(
                        f"{name}: line {count} does not follow line {count - 1}: one of them was "
                        "changed, removed or put in. Keep the file as evidence and start a new one."
                    )
                previous = _hash(line)
                seen = seen or previous == head
    except OSError as error:
        raise AuditError(f"{name}: {error.strerror}; give the path of an audit log.") from error
    if not seen:
        raise AuditError(
            f"{name}: the head {head} is not in the chain: lines up to it were cut off or "
            "rewritten. Keep the file as evidence and start a new one."
        )
    return Verified(count, previous)


def _previous(line: bytes) -> str | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if not line.endswith(b"\n") or not isinstance(entry, dict):
        return None
    found = entry.get("previous")
    return found if isinstance(found, str) else None
