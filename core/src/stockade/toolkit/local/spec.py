"""What a keeper holds: one program, its limits, and whom it belongs to."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["KeeperSpec", "Shown", "milliseconds_until"]

#: The keeper's own end of a lifetime comes after core's (C11).
_EXPIRY_GRACE_SECONDS = 2.0


def milliseconds_until(at: float | None) -> int:
    """Until the keeper's own end of a lifetime, which is over at ``at``; -1 for no end. From
    there on it goes by a clock that nobody sets (C11)."""
    if at is None:
        return -1
    return int((max(0.0, at - time.time()) + _EXPIRY_GRACE_SECONDS) * 1000)


_NOTHING: Mapping[str, Any] = {}


class Shown(NamedTuple):
    """A folder of the host that is shown inside, as it was when it was looked at."""

    source: str  #: without links
    target: str  #: where it is shown inside
    read_only: bool  #: whether programs may only read it
    device: int  #: of its file system, and its number there: no other folder is shown
    inode: int  #: the folder's number in that file system


class KeeperSpec(NamedTuple):
    """Everything a keeper needs to know of a session; given once, when it starts. A tuple,
    since keepers import little; ``_replace`` gives another one.

    Limits that are None are not held. Of those that no cgroup holds (``cgroups`` lacks the
    controller) the keeper watches memory and the cpu share; the process limit is then the
    wall's to set (``KeeperProcess.ready``).
    """

    wall: str  #: the wall's name, by which leftovers are found
    session: str  #: the session's id
    owner: str  #: OpenRequest.owner
    argv: Sequence[str]  #: the sandbox's first program: an absolute path, then its arguments
    env: Mapping[str, str]  #: all of its environment
    ids: tuple[int, int] | None = None  #: user and group to become first; of root's keepers
    cgroups: Mapping[str, str] = _NOTHING  #: cgroups.parents()
    memory_bytes: int | None = None  #: of all its processes together
    max_processes: int | None = None  #: at one time, threads included
    #: The wall's own processes in the cgroup, which the limit does not count.
    own_processes: int = 0
    cpu_limit: float | None = None  #: cpus, for a cgroup
    cpu_share: float | None = None  #: cpus, for the watch; hostroot.cpu_share() gives both
    cpus: Sequence[int] = ()  #: to stay on, where no cgroup holds the cpu limit
    #: A file that does not exist yet: where no cgroup counts the kills for memory the keeper
    #: makes it, counts there in the words of memory.events, and removes its name at ``ready``.
    counter: str | None = None
    #: How many parents stand between the program that is started and the supervisor: 0 where
    #: the program becomes it by execve, 1 where it is the program's only child.
    depth: int = 0
    #: The number under which the supervisor finds the socket by which it becomes the keeper's
    #: own child (``serve TIE``), and those in between end; None: they stay.
    tie: int | None = None
    mounts: Sequence[Shown] = ()  #: folders of the host that the caller asked for
    #: Of root's sessions: the user and the group whom the code runs as. Their files in
    #: ``mounts`` are root's own then. Of others what they write is the caller's as it is.
    seen_as: tuple[int, int] | None = None
    #: Whether the program, and all below it, reaches no abstract unix socket of anybody else's:
    #: for a sandbox on the host's network, whose start does not do it.
    scoped: bool = False
    expires_at: float | None = None  #: the end of its lifetime, in seconds since the epoch
    startup_seconds: float = 60.0  #: the owner waits so long for it
    #: What a wall's own kind of Program wants to know, as JSON has it.
    extra: Mapping[str, Any] = _NOTHING

    def to_message(self) -> dict[str, Any]:
        """As it travels to the keeper, fit for JSON."""
        return self._asdict()

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> KeeperSpec:
        """What ``to_message`` gave; called in the keeper. Raises KeyError, TypeError."""
        pairs = {name: message[name] for name in ("ids", "seen_as")}
        found = {name: None if pair is None else tuple(pair) for name, pair in pairs.items()}
        mounts = tuple(Shown(*mount) for mount in message["mounts"])
        return cls(**{**message, **found, "mounts": mounts})

    @property
    def watched(self) -> tuple[int | None, float | None]:
        """Memory and the share of the cpus as far as the keeper has to watch them; None: not."""
        held = self.held
        return (
            None if "memory" in held else self.memory_bytes,
            None if "cpu" in held else self.cpu_share,
        )

    @property
    def held(self) -> frozenset[str]:
        """The controllers that a cgroup holds the session by."""
        return frozenset(self.cgroups)
