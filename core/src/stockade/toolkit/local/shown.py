"""Folders of the host in a sandbox, with the caller as their owner (E9).

An ordinary user's sandbox mounts them itself, since its user is the caller seen from outside.
Root's sandboxes run as somebody that nobody is; there the keeper makes each mount so that
root's files seem that user's, and what that user writes is root's, and it is moved inside.
"""

from __future__ import annotations

import os
import signal

from stockade.toolkit.local import calls, kernel
from stockade.toolkit.local.spec import KeeperSpec, Shown

__all__ = ["attach", "prepare"]


def prepare(spec: KeeperSpec) -> list[int]:
    """Root's mounts, detached, by their descriptors. Raises OSError with what failed."""
    if spec.seen_as is None or not spec.mounts:
        return []
    made: list[int] = []
    owners = _owners(spec.seen_as)
    try:
        for mount in spec.mounts:
            made.append(_detached(mount, owners))
            _verify(mount, os.fstat(made[-1]))
    except BaseException:
        for descriptor in made:
            os.close(descriptor)
        raise
    finally:
        os.close(owners)
    return made


def attach(pid: int, spec: KeeperSpec, made: list[int]) -> None:
    """Put them into the sandbox of a process in which nothing of the user's has run, each over
    a folder that is there; without them see that what the sandbox has there is what was meant.
    Raises OSError, and closes them."""

    def change() -> bytes:
        if spec.seen_as is None:
            calls.enter(pid, spec.ids, "mnt")
        else:
            calls.enter_as_root(pid, "mnt")
        for number, mount in enumerate(spec.mounts):
            if made:
                kernel.attach_mount(made[number], mount.target)
            _verify(mount, os.stat(mount.target))
        return b"done"

    try:
        if spec.mounts:
            calls.in_fork(change)
    finally:
        for descriptor in made:
            os.close(descriptor)


def _detached(mount: Shown, owners: int) -> int:
    try:
        return kernel.detached_mount(mount.source, read_only=mount.read_only, owners=owners)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{mount.source} cannot be shown with its owners mapped ({error.strerror}): that "
            "needs Linux 5.12 and a file system that allows it; run as an ordinary user",
        ) from error


def _verify(mount: Shown, found: os.stat_result) -> None:
    if (found.st_dev, found.st_ino) != (mount.device, mount.inode):
        raise OSError(f"{mount.source} became another folder while the sandbox started")


def _owners(seen_as: tuple[int, int]) -> int:
    """A user namespace, by its descriptor, in which the caller's own ids are ``seen_as``."""
    reading, writing = os.pipe()
    child = kernel.clone(kernel.CLONE_NEWUSER)
    if child == 0:
        try:
            os.close(writing)
            os.read(reading, 1)
        finally:
            os._exit(0)
    try:
        for kind, own, seen in zip(
            ("uid", "gid"), (os.geteuid(), os.getegid()), seen_as, strict=True
        ):
            with open(f"/proc/{child}/{kind}_map", "w") as file:
                file.write(f"{own} {seen} 1")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(reading)
        os.close(writing)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
