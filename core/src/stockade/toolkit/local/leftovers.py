"""What a session has on the host, as any process finds it: for ``gc`` and ``top`` (C9).

Its keeper, known by variables of its environment that nothing below it gets, and its
cgroup, which bears wall and session in its name and its owner in an attribute. The keeper
and everything below it end with their owner; where the keeper is killed as well the
cgroup stays, empty.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import time

from stockade.errors import DestroyError
from stockade.toolkit.local import tree
from stockade.toolkit.local.cgroups import Group, group_name, named
from stockade.toolkit.local.marks import OWNER, SESSION, WALL
from stockade.wall import Leftover, Usage

__all__ = ["Leftovers", "counter_path"]

_REMOVE_SECONDS = 8.0
#: Folders that every user may enter, wherever temporary files go here.
_SHARED_FOLDERS = ("/dev/shm", "/tmp")


def counter_path(wall: str, session: str) -> str:
    """The file that counts kills where no cgroup does; it has its name only while the
    session starts."""
    folder = next((path for path in _SHARED_FOLDERS if os.access(path, os.W_OK)), "/tmp")
    return os.path.join(folder, f"{group_name(wall, session)}.kills")


@dataclasses.dataclass
class _Found:
    """What one session has."""

    owner: str = ""
    keepers: list[int] = dataclasses.field(default_factory=list)
    groups: list[str] = dataclasses.field(default_factory=list)

    @property
    def words(self) -> str:
        keeper = ", ".join(f"keeper process {pid}" for pid in self.keepers) or "no keeper"
        return keeper + (f", cgroup {self.groups[0]}" if self.groups else "")


class Leftovers:
    """The sessions of one wall that this user may see; a wall's ``leftovers``, ``remove``
    and ``usage`` hand on to it."""

    def __init__(self, wall: str) -> None:
        """``wall`` is the name that ``marks`` and the cgroups were given."""
        self._wall = wall

    def all_of(self) -> list[Leftover]:
        """Every session of every owner, half-made and dead ones too."""
        return [
            Leftover(
                session_id=session,
                handle=session,
                owner=found.owner,
                running=bool(found.keepers),
                words=found.words,
            )
            for session, found in self._look().items()
        ]

    def remove(self, session: str) -> None:
        """End a session's keeper, and with it the sandbox, and remove its cgroup; nothing is
        left to do where it is gone. Raises DestroyError."""
        found = self._look().get(session, _Found())
        self._kill(found.keepers)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(counter_path(self._wall, session))
        try:
            Group.at(found.groups).remove(_REMOVE_SECONDS)
        except OSError as error:
            raise DestroyError(
                f"the cgroup of session {session} could not be removed: {error}; try again."
            ) from error

    def usage(self, session: str) -> Usage | None:
        """What the session's processes use together, their keeper's included; None if
        there are none."""
        found = self._look().get(session)
        if found is None or not found.keepers:
            return None
        pids = [pid for keeper in found.keepers for pid in (keeper, *tree.descendants(keeper))]
        return Usage(
            cpu_seconds=sum(map(tree.cpu_seconds, pids)),
            memory_bytes=sum(tree.memory_bytes(pid, exact=True) for pid in pids),
            processes=len(pids),
        )

    def _kill(self, keepers: list[int]) -> None:
        """With everything below them. Stopped first, so that nothing is forked away."""
        everybody = {*keepers, *(pid for keeper in keepers for pid in tree.descendants(keeper))}
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in everybody:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        until = time.monotonic() + _REMOVE_SECONDS
        while any(map(tree.alive, everybody)) and time.monotonic() < until:
            time.sleep(0.005)

    def _look(self) -> dict[str, _Found]:
        found: dict[str, _Found] = {}
        for name in filter(str.isdigit, os.listdir("/proc")):
            has = _marks_of(int(name))
            if has.get(WALL) == self._wall and SESSION in has and tree.alive(int(name)):
                one = found.setdefault(has[SESSION], _Found())
                one.keepers.append(int(name))
                one.owner = one.owner or has.get(OWNER, "")
        for session, folder, owner in named(self._wall):
            one = found.setdefault(session, _Found())
            one.groups.append(folder)
            one.owner = one.owner or owner
        return found


def _marks_of(pid: int) -> dict[str, str]:
    """Of a process, what marks it as a keeper."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read(65536).split(b"\0")
    except OSError:
        return {}
    pairs = (entry.decode("utf-8", "replace").partition("=") for entry in entries)
    return {name: value for name, _, value in pairs if name in (WALL, SESSION, OWNER)}
