"""What a session has on the host, as any process finds it: for ``gc`` and ``top`` (C9).

Its keeper, known by two variables of its environment that nothing below it gets, and
its cgroup, which bears the session's name and an attribute that tells the owner. The
keeper and everything below it end with their owner; where the keeper is killed as well
the cgroup stays, empty.
"""

from __future__ import annotations

import contextlib
import os
import signal

import attrs

from stockade.errors import DestroyError
from stockade.wall import Leftover, Usage
from stockade_bubblewrap import tree
from stockade_bubblewrap.cgroups import PREFIX, Group, named
from stockade_bubblewrap.marks import OWNER, SESSION

__all__ = ["all_of", "counter_path", "remove", "usage_of"]

_REMOVE_SECONDS = 8.0
#: Folders that every user may enter, wherever temporary files go here.
_SHARED_FOLDERS = ("/dev/shm", "/tmp")


@attrs.define
class _Traces:
    """What one session has."""

    owner: str = ""
    keepers: list[int] = attrs.field(factory=list)
    groups: list[str] = attrs.field(factory=list)

    @property
    def words(self) -> str:
        keeper = ", ".join(f"keeper process {pid}" for pid in self.keepers) or "no keeper"
        return keeper + (f", cgroup {self.groups[0]}" if self.groups else "")


def counter_path(name: str) -> str:
    """The file that counts kills where no cgroup does; it has its name only while the
    session starts."""
    folder = next((path for path in _SHARED_FOLDERS if os.access(path, os.W_OK)), "/tmp")
    return os.path.join(folder, f"{name}.kills")


def all_of() -> list[Leftover]:
    """Every session of this wall that this user may see."""
    return [
        Leftover(
            session_id=session, handle=session, owner=found.owner, running=bool(found.keepers),
            words=found.words,
        )
        for session, found in _look().items()
    ]  # fmt: skip


def remove(session: str) -> None:
    """End a session's keeper, and with it the sandbox, and remove its cgroup.

    Raises DestroyError.
    """
    found = _look().get(session, _Traces())
    for pid in found.keepers:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(counter_path(PREFIX + session))
    try:
        Group.at(found.groups).remove(_REMOVE_SECONDS)
    except OSError as error:
        raise DestroyError(
            f"the cgroup of session {session} could not be removed: {error}; try again."
        ) from error


def usage_of(session: str) -> Usage | None:
    """What the session's processes use together, their keeper's included."""
    found = _look().get(session)
    if found is None or not found.keepers:
        return None
    pids = [pid for keeper in found.keepers for pid in (keeper, *tree.descendants(keeper))]
    return Usage(
        cpu_seconds=sum(map(tree.cpu_seconds, pids)),
        memory_bytes=sum(tree.memory_bytes(pid, exact=True) for pid in pids),
        processes=len(pids),
    )


def _look() -> dict[str, _Traces]:
    found: dict[str, _Traces] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        marks = _marks(int(name))
        if SESSION in marks and tree.alive(int(name)):
            traces = found.setdefault(marks[SESSION], _Traces())
            traces.keepers.append(int(name))
            traces.owner = traces.owner or marks.get(OWNER, "")
    for folder, owner in named():
        session = os.path.basename(folder).removeprefix(PREFIX)
        traces = found.setdefault(session, _Traces())
        traces.groups.append(folder)
        traces.owner = traces.owner or owner
    return found


def _marks(pid: int) -> dict[str, str]:
    """Of a process, what marks it as a keeper."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read(65536).split(b"\0")
    except OSError:
        return {}
    pairs = (entry.decode("utf-8", "replace").partition("=") for entry in entries)
    return {name: value for name, _, value in pairs if name in (SESSION, OWNER)}
