"""Each step of making a sandbox's namespaces, tried in a process of its own.

Where a wall could not have them, closed.py runs this to learn which step is refused, and how.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from stockade.toolkit.local import calls, kernel
from stockade.toolkit.local.kernel import (
    CLONE_NEWUSER,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    OWN_NAMESPACES,
)

__all__ = ["main"]

#: There on every system, to mount something on.
_PLACE = "/proc"


def main(uid: int) -> None:
    """Say the first step that fails and its errno, or nothing; ``uid``: the user to try it
    as, 0 for this process's own. Root keeps its own user namespace, as its sandboxes do
    until they have their mounts.
    """
    step = "user"
    try:
        if uid:
            calls.take_ids((uid, uid))
            calls.show_files()
        own = {"uid": os.geteuid(), "gid": os.getegid()}
        if own["uid"] != 0:
            kernel.unshare(CLONE_NEWUSER)
            step = "map"
            _map(own)
        step = "others"
        kernel.unshare(OWN_NAMESPACES)
        step = "loopback"
        kernel.loopback_up()
        step = "mount"
        kernel.make_private()
        kernel.mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV)
        step = "proc"
        _mount_proc()
    except OSError as error:
        os.write(1, f"{step} {error.errno or 0}".encode())
    os._exit(0)


def _map(own: Mapping[str, int]) -> None:
    with open("/proc/self/setgroups", "w") as file:
        file.write("deny")
    for kind, number in own.items():
        with open(f"/proc/self/{kind}_map", "w") as file:
            file.write(f"0 {number} 1")


def _mount_proc() -> None:
    """By the first process of the new namespace."""
    child = os.fork()
    if child == 0:
        number = 0
        try:
            kernel.mount("proc", _PLACE, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        except OSError as error:
            number = error.errno or 1
        finally:
            os._exit(number)
    number = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if number:
        raise OSError(number, os.strerror(number))
