"""What a wall leaves on this machine: processes, and files in the temporary folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar
from weakref import WeakSet

__all__ = ["Leftovers", "leave"]


class Leftovers:
    """Looked at from outside of the wall; used as a context manager.

    Inside the block ``tempfile`` works in a folder of its own. Processes are seen
    where there is ``/proc``: children of this process, and theirs.

    A check that took too long is left behind in its thread, maybe inside its block: :func:`leave`
    gives ``tempfile`` back to the others, and that thread enters no further block.
    """

    #: What ``tempfile`` had before each block that has not ended, by the block's folder.
    before: ClassVar[dict[str, str | None]] = {}
    left_behind: ClassVar[WeakSet[threading.Thread]] = WeakSet()

    def __enter__(self) -> Leftovers:
        if threading.current_thread() in self.left_behind:
            raise TimeoutError("this check took too long, and others run now")
        self._family = _family()
        usual = tempfile.tempdir
        self._folder = tempfile.mkdtemp(prefix="stockade-leftovers-")
        self.before[self._folder] = usual
        tempfile.tempdir = self._folder
        return self

    def __exit__(self, *_: object) -> None:
        usual = self.before.pop(self._folder)
        if tempfile.tempdir == self._folder:
            tempfile.tempdir = usual
        shutil.rmtree(self._folder, ignore_errors=True)

    def left(self) -> list[str]:
        """What came since the start of the block and is still there."""
        files = [f"{self._folder}/{name}" for name in sorted(os.listdir(self._folder))]
        processes = [
            f"process {pid}: {name}" for pid, name in _family().items() if pid not in self._family
        ]
        return files + processes


def leave(thread: threading.Thread) -> None:
    """Leave the folders of all blocks that have not ended: ``thread`` hangs, maybe inside."""
    Leftovers.left_behind.add(thread)
    while tempfile.tempdir in Leftovers.before:
        tempfile.tempdir = Leftovers.before[tempfile.tempdir]


def _family() -> dict[int, str]:
    """Every living process below this one, by its id."""
    parents: dict[int, tuple[int, str]] = {}
    for pid, text in _stats():
        name, _, rest = text.partition("(")[2].rpartition(")")
        state, parent = rest.split()[:2]
        if state != "Z":
            parents[pid] = (int(parent), name)
    mine = os.getpid()
    return {pid: name for pid, (_, name) in parents.items() if _below(pid, mine, parents)}


def _stats() -> Iterator[tuple[int, str]]:
    with contextlib.suppress(FileNotFoundError):
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError):
                    yield int(entry), Path("/proc", entry, "stat").read_text("utf-8", "replace")


def _below(pid: int, mine: int, parents: dict[int, tuple[int, str]]) -> bool:
    seen: set[int] = set()
    while pid in parents and pid not in seen:
        seen.add(pid)
        pid = parents[pid][0]
        if pid == mine:
            return True
    return False
