"""What this machine has for walls of its own processes: namespaces, ids, quotas, targets."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import secrets

from stockade.system.installing import install
from stockade.toolkit.local import seccomp
from stockade.wall import Check

__all__ = [
    "ELSEWHERE",
    "counts_by_namespace",
    "linux_check",
    "linux_version",
    "machine_check",
    "outside_ids",
    "quotas",
    "reachable",
    "target_check",
    "target_problem",
]

#: What to do where a machine is not fit for a wall of its own kernel's.
ELSEWHERE = f"use a container wall: {install('stockade-docker')}"
#: Processes are counted by user namespace from here on.
_COUNTING_LINUX = (5, 14)
_NOBODY = 65534
#: Of what the kernel counts for a user, one session has so many parts less.
_SHARE = 4
#: Ids that no distribution and no container engine hands out.
_FREE_IDS = range(0x7000_0000, 0x7FFF_0000)


def linux_version() -> tuple[int, int]:
    """Major and minor of the kernel's release; zeros if it is none of Linux's."""
    found = re.match(r"(\d+)\.(\d+)", platform.release())
    return (int(found[1]), int(found[2])) if found else (0, 0)


def counts_by_namespace() -> bool:
    """Whether the kernel's process limit is the session's own, and no other's (E4)."""
    # As root each session has a user of its own, who is counted alone.
    return os.geteuid() == 0 or linux_version() >= _COUNTING_LINUX


def outside_ids() -> tuple[int, int]:
    """Whom the code runs as on the host: this user, or for root somebody that nobody is.

    Each session of root's has an id of its own, so that what the kernel counts by user
    is nobody else's, and no process of the host belongs to it (E8).
    """
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    chosen = secrets.choice(_FREE_IDS)
    return _mapped("uid", chosen), _mapped("gid", chosen)


def _mapped(kind: str, wanted: int) -> int:
    """``wanted``, or nobody's id where this user namespace does not have it."""
    with contextlib.suppress(OSError), open(f"/proc/self/{kind}_map") as file:
        rows = [tuple(map(int, line.split())) for line in file]
        if any(first <= wanted < first + count for first, _, count in rows):
            return wanted
    return _NOBODY


def quotas() -> dict[str, str]:
    """Settings of a session's user namespace, path and value: of what the kernel counts for a
    user and the user's sessions share, at most a quarter is one session's (E8). None for root,
    whose sessions have a user each."""
    if os.geteuid() == 0:
        return {}
    found = {}
    for name in ("max_inotify_instances", "max_inotify_watches"):
        most = "/proc/sys/fs/inotify/max_user_" + name.rpartition("_")[2]
        with contextlib.suppress(OSError, ValueError), open(most) as file:
            found[f"/proc/sys/user/{name}"] = str(max(1, int(file.read()) // _SHARE))
    return found


def reachable(path: str, uid: int, *, by_path: bool) -> bool:
    """Whether that user may look into a folder.

    ``by_path``: it is shown inside by walking there as that user, so each parent counts.
    """
    if uid == os.geteuid():
        return os.access(path, os.R_OK | os.X_OK)
    current, needed = path, 0o005
    while True:
        try:
            if os.stat(current).st_mode & needed != needed:
                return False
        except OSError:
            return False
        if current == "/" or not by_path:
            return True
        current, needed = os.path.dirname(current), 0o001


# -- probing -----------------------------------------------------------------------


def linux_check() -> Check:
    """Whether this is Linux at all."""
    linux = platform.system() == "Linux"
    return Check("Linux", linux, platform.system(), "" if linux else ELSEWHERE)


def machine_check() -> Check:
    """Whether there is a filter of system calls, and a supervisor, for this machine."""
    import stockade_supervisor  # the walls' dependency, not core's

    machine = platform.machine()
    known = machine in seccomp.SUPPORTED and machine in stockade_supervisor.machines()
    return Check("machine", known, machine, "" if known else ELSEWHERE)


def target_check(target: str | None, *, by_path: bool) -> Check:
    """Whether a target can become the root; without one, whether the host has programs."""
    if target is None:
        there = os.path.isdir("/usr/bin")
        return Check("programs", there, "the host's", "" if there else "give a root folder")
    problem = target_problem(target, by_path=by_path)
    if problem is None:
        return Check("target", True, f"{target} is a folder")
    return Check(
        "target", False, problem, "give an absolute path of a root folder that every user may enter"
    )


def target_problem(target: str, *, by_path: bool) -> str | None:
    """Why a target cannot become the root; None if it can."""
    real = os.path.realpath(target)
    if not os.path.isabs(target):
        return f"{target!r} is not an absolute path"
    if real == "/":
        return "the host's own root would show all of it; leave the target out"
    if not os.path.isdir(real):
        return f"{target} is no folder"
    if not reachable(real, outside_ids()[0], by_path=by_path):
        return f"{target} may not be entered by the user that the code runs as"
    return None
