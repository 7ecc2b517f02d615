"""What each version of Landlock's interface brings, and what it holds where it stands alone.

With namespaces Landlock is a further layer behind the mounts. Without them it and the filter of
system calls would be all there is. ``ALONE`` says, promise by promise, from which version on it
keeps what the contract asks; the tests try every row under every version. As no
version keeps them all, the wall is not available there, and says which it would break (A8).
"""

from __future__ import annotations

import dataclasses

__all__ = ["ALONE", "NEWEST", "VERSIONS", "Promise", "Version", "broken", "words"]

#: The last version that is known here; a newer kernel keeps what it kept.
NEWEST = 7


@dataclasses.dataclass(frozen=True)
class Version:
    """One version of the interface."""

    number: int  #: as the kernel reports it
    linux: str  #: the first kernel that has it
    adds: str  #: what the wall has it hold, beside what namespaces hold


@dataclasses.dataclass(frozen=True)
class Promise:
    """One of the contract's, and the first version that keeps it without namespaces."""

    what: str  #: what is kept, as ``doctor`` and the docs say it
    clause: str  #: of the contract
    since: int | None  #: None: no version does


#: Every version that is known, the oldest first.
VERSIONS = (
    Version(
        1,
        "5.13",
        "nothing about files, because it would refuse to move a file between folders. The mounts "
        "protect files",
    ),
    Version(2, "5.19", "reading, running, writing, making, removing and moving"),
    Version(3, "6.2", "truncating"),
    Version(
        4,
        "6.7",
        "nothing more. It adds rules on TCP ports, which the wall does not need: the sandbox's own "
        "network has no way out",
    ),
    Version(5, "6.10", "requests to devices"),
    Version(
        6,
        "6.12",
        "abstract sockets and signals that would lead out. Namespaces hold both, too, except "
        "sockets if the network is this machine's",
    ),
    Version(7, "6.15", "nothing more. It can keep refusals out of the host's log, and does"),
)

#: What the contract asks of a wall's kernel, and from which version on Landlock alone keeps it.
ALONE = (
    Promise("the content of the host's files, if a program opens them", "E2", 1),
    Promise("the names in the host's folders", "E2", 1),
    Promise("programs move and link their own files between folders", "E2", 2),
    Promise("the content of the host's files, if a program truncates them", "E2", 3),
    Promise("requests to the host's devices", "E2", 5),
    Promise("no signal reaches processes of the host and of other sessions", "E8", 6),
    Promise("the host's abstract sockets", "E3", 6),
    Promise("modes, owners, times and attributes of the host's files", "E2", None),
    Promise("the host's sockets that have a path", "E3", None),
    Promise("whether a file of the host exists, and its size and times", "E7", None),
    Promise("its own /workspace, /tmp and /dev/shm, bounded in size", "E2", None),
    Promise("its own loopback", "E3", None),
)


def broken(version: int) -> list[Promise]:
    """What Landlock does not keep alone under ``version``; all of it where there is none."""
    return [one for one in ALONE if one.since is None or not 0 < one.since <= version]


def words(version: int) -> str:
    """The same as a sentence for whoever asks why Landlock alone does not serve."""
    listed = "; ".join(f"{one.what} ({one.clause})" for one in broken(version))
    return f"alone, Landlock version {version} does not keep: {listed}"
