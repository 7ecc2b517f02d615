"""Snapshots: a session's files, saved, and put into new sessions (G1).

The working folder and /tmp; where the root is writable, what was changed elsewhere too.

Made by a program inside and unpacked by a program inside, so that nothing a
hostile archive holds is ever unpacked on the host.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from typing import TYPE_CHECKING

import attrs

from stockade.capabilities import Feature
from stockade.config import MIB
from stockade.errors import ConfigError, FileTooLargeError, StockadeError, UnsupportedError
from stockade.results import SandboxResult
from stockade.wall import Changes

if TYPE_CHECKING:
    from stockade.session import Session

__all__ = ["DEFAULT_SNAPSHOT_BYTES", "Snapshot", "restore", "take"]

DEFAULT_SNAPSHOT_BYTES = 256 * MIB
_SECONDS = 300.0
#: Without what the wall itself keeps in /tmp. Not by an option of tar's: busybox has none.
#: Of what was changed outside, what programs of the session's user can have changed: the
#: engine puts files of its own there. A changed folder is no more than one with changes in it.
_PACK = """\
cd / && set -- {folder}
while IFS= read -r line; do
  f=.${{line#? }}
  [ -L "$f" ] || [ -O "$f" ] || [ -w "$f" ] || continue
  case $line in "C "*) if [ -d "$f" ] && [ ! -L "$f" ]; then continue; fi;; esac
  set -- "$@" "$f"
done
for f in ./tmp/* ./tmp/.[!.]* ./tmp/..?*; do
  case $f in ./tmp/.stockade-*) continue;; esac
  if [ -e "$f" ] || [ -L "$f" ]; then set -- "$@" "$f"; fi
done
exec tar -cf - "$@"
"""
#: Takes away what is gone, and leaves what follows for tar.
_UNPACK = """\
cd / || exit
while IFS= read -r f && [ -n "$f" ]; do rm -rf -- ".$f"; done
exec tar -xf - 2>&1
"""
_MAGIC = b"stockade snapshot 2\n"
#: Kernels' file systems, which no session's programs keep anything in.
_NO_FILES = ("/proc", "/sys", "/dev")


@attrs.frozen
class Snapshot:
    """A session's files at one moment; any number of sessions start from it, none changes it."""

    working_dir: str
    created_at: float  #: Unix time
    #: Whether it holds what was changed everywhere (``read_only_fs=False``).
    whole: bool
    removed: tuple[str, ...]  #: what was there at the start and is not any more
    data: bytes = attrs.field(repr=lambda data: f"<{len(data)} bytes>")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file of the host, for its owner alone; replaces what is there."""
        head = json.dumps([self.working_dir, self.created_at, self.whole, self.removed])
        temporary = f"{os.fspath(path)}.part"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(_MAGIC + head.encode() + b"\n" + self.data)
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Snapshot:
        """Read one that ``save`` wrote. Raises OSError, and ConfigError where it is none."""
        with open(path, "rb") as file:
            if file.readline(64) != _MAGIC:
                raise ConfigError(f"{os.fspath(path)!r} holds no snapshot of stockade's.")
            try:
                folder, created, whole, removed = json.loads(file.readline())
                return cls(str(folder), float(created), bool(whole), tuple(removed), file.read())
            except (ValueError, TypeError):
                raise ConfigError(f"{os.fspath(path)!r} is a damaged snapshot.") from None


def take(session: Session, max_bytes: int) -> Snapshot:
    """See ``Session.snapshot``."""
    config = session._record.config
    name = session.provider.name
    session.provider.wall.capabilities.require(
        Feature.SNAPSHOT, name, "bring the files out with session.files.get_tree."
    )
    folder = config.working_dir
    backend = session._sandbox().files()
    if backend is not None and config.read_only_fs:
        data = backend.pack("/", max_bytes)
        if data is None:
            raise FileTooLargeError("/", max_bytes)
        return Snapshot(folder, time.time(), False, (), data)
    changes = Changes() if config.read_only_fs else _changes(session, name)
    result = session.shell(
        _PACK.format(folder=shlex.quote("." + folder)), stdin=_lines(changes, folder),
        timeout=_SECONDS, output_limit_bytes=max_bytes,
    )  # fmt: skip
    if result.stdout_truncated:
        raise FileTooLargeError(folder, max_bytes)
    _check(result, "taking the snapshot")
    return Snapshot(
        folder, time.time(), not config.read_only_fs, changes.removed, result.stdout_bytes
    )


def _changes(session: Session, name: str) -> Changes:
    found = session._sandbox().changes()
    if found is None:
        raise UnsupportedError(
            f"{name} cannot snapshot a session with read_only_fs=False: what it wrote elsewhere "
            "than in the working folder and /tmp would be missing; bring files out one by one."
        )
    if any("\n" in path for path in (*found.made, *found.changed, *found.removed)):
        raise StockadeError("taking the snapshot failed: a file's name holds a line break.")
    return found


def _lines(changes: Changes, folder: str) -> bytes:
    """``A PATH`` for what is new, ``C PATH`` for what is changed, each path once."""

    def outside(path: str) -> bool:
        inside = any(path == top or path.startswith(f"{top}/") for top in (folder, "/tmp"))
        above = any(top.startswith(f"{path}/") for top in (folder, "/tmp"))
        return not inside and not above and not path.startswith(_NO_FILES)

    made: list[str] = []
    for path in sorted(filter(outside, changes.made)):
        if not made or not path.startswith(f"{made[-1]}/"):
            made.append(path)
    lines = [f"A {path}\n" for path in made]
    lines += [f"C {path}\n" for path in filter(outside, changes.changed)]
    return "".join(lines).encode("utf-8", "surrogateescape")


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
    if snapshot.whole and session._record.config.read_only_fs:
        raise ConfigError(
            "the snapshot holds files outside of the working folder; open the session with "
            "read_only_fs=False."
        )
    backend = session._sandbox().files()
    if backend is not None:
        backend.unpack("/", snapshot.data)
        return
    # The two folders themselves are the wall's: only what is in them is set.
    gone = "".join(f"{path}\n" for path in snapshot.removed) + "\n"
    stdin = gone.encode("utf-8", "surrogateescape") + snapshot.data
    result = session.shell(_UNPACK, stdin=stdin, timeout=_SECONDS)
    _check(result, "restoring the snapshot")


def _check(result: SandboxResult, what: str) -> None:
    if not result.success:
        said = (result.stderr or result.stdout).strip()[:500] or str(result.verdict)
        raise StockadeError(f"{what} failed: {said}. It needs tar in the sandbox, and room.")
