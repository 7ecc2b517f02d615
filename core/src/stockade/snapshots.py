"""Snapshots: a session's files, saved, and put into new sessions (G1).

Made by a program inside and unpacked by a program inside, so that nothing a
hostile archive holds is ever unpacked on the host.
"""

from __future__ import annotations

import os
import shlex
import time
from typing import TYPE_CHECKING

import attrs

from stockade.capabilities import Feature
from stockade.config import MIB
from stockade.errors import ConfigError, FileTooLargeError, StockadeError, UnsupportedError
from stockade.results import SandboxResult

if TYPE_CHECKING:
    from stockade.session import Session

__all__ = ["DEFAULT_SNAPSHOT_BYTES", "Snapshot", "restore", "take"]

DEFAULT_SNAPSHOT_BYTES = 256 * MIB
_SECONDS = 300.0
#: Without what the wall itself keeps in /tmp. Not by an option of tar's: busybox has none.
_PACK = """\
cd / && set -- {folder}
for f in ./tmp/* ./tmp/.[!.]* ./tmp/..?*; do
  case $f in ./tmp/.stockade-*) continue;; esac
  if [ -e "$f" ] || [ -L "$f" ]; then set -- "$@" "$f"; fi
done
exec tar -cf - "$@"
"""
_MAGIC = b"stockade snapshot 1\n"


@attrs.frozen
class Snapshot:
    """A session's files at one moment; any number of sessions start from it, none changes it."""

    working_dir: str
    created_at: float  #: Unix time
    data: bytes = attrs.field(repr=lambda data: f"<{len(data)} bytes>")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file of the host, for its owner alone; replaces what is there."""
        head = f"{self.working_dir}\n{self.created_at!r}\n".encode()
        temporary = f"{os.fspath(path)}.part"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(_MAGIC + head + self.data)
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Snapshot:
        """Read one that ``save`` wrote. Raises OSError, and ConfigError where it is none."""
        with open(path, "rb") as file:
            if file.readline(64) != _MAGIC:
                raise ConfigError(f"{os.fspath(path)!r} holds no snapshot of stockade's.")
            try:
                folder = file.readline(2048).decode().rstrip("\n")
                created = float(file.readline(64))
            except ValueError:
                raise ConfigError(f"{os.fspath(path)!r} is a damaged snapshot.") from None
            return cls(folder, created, file.read())


def take(session: Session, max_bytes: int) -> Snapshot:
    """See ``Session.snapshot``."""
    config = session._record.config
    name = session.provider.name
    session.provider.wall.capabilities.require(
        Feature.SNAPSHOT, name, "bring the files out with session.files.get_tree."
    )
    if not config.read_only_fs:
        raise UnsupportedError(
            f"{name} cannot snapshot a session with read_only_fs=False: what it wrote elsewhere "
            "than in the working folder and /tmp would be missing; bring files out one by one."
        )
    folder = config.working_dir
    backend = session._sandbox().files()
    if backend is not None:
        data = backend.pack("/", max_bytes)
        if data is None:
            raise FileTooLargeError("/", max_bytes)
        return Snapshot(folder, time.time(), data)
    line = _PACK.format(folder=shlex.quote("." + folder))
    result = session.shell(line, timeout=_SECONDS, output_limit_bytes=max_bytes)
    if result.stdout_truncated:
        raise FileTooLargeError(folder, max_bytes)
    _check(result, "taking the snapshot")
    return Snapshot(folder, time.time(), result.stdout_bytes)


def restore(session: Session, snapshot: Snapshot) -> None:
    """Put a snapshot's files into a new session. Raises ConfigError where it does not fit."""
    folder = session._record.config.working_dir
    if snapshot.working_dir != folder:
        raise ConfigError(
            f"the snapshot is of working_dir={snapshot.working_dir!r}, the session has {folder!r}; "
            "open it with the same."
        )
    session.provider.wall.capabilities.require(
        Feature.SNAPSHOT, session.provider.name, "put files in with session.files.put_tree."
    )
    backend = session._sandbox().files()
    if backend is not None:
        backend.unpack("/", snapshot.data)
        return
    # The two folders themselves are the wall's: only what is in them is set.
    line = "cd / && exec tar -xf - 2>&1"
    result = session.shell(line, stdin=snapshot.data, timeout=_SECONDS)
    _check(result, "restoring the snapshot")


def _check(result: SandboxResult, what: str) -> None:
    if not result.success:
        said = (result.stderr or result.stdout).strip()[:500] or str(result.verdict)
        raise StockadeError(f"{what} failed: {said}. It needs tar in the sandbox, and room.")
