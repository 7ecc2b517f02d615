"""Who owns a session: one process, distinct from every other, for ever (C9).

A process id alone says little: ids wrap, machines restart, containers number
their processes anew. So an owner is the machine, its boot, the namespace that
counts the processes, the id in it and the moment of its start. What is not
certain stays unknown, and nobody may take an unknown owner for a dead one.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import re
from enum import Enum

import attrs

__all__ = ["Life", "Owner", "boot_id", "life_of", "same_machine", "same_space", "this_space"]

#: The namespace that the kernel itself starts with; its number is fixed (PROC_PID_INIT_INO).
_FIRST_NAMESPACE = "4026531836"
_FORM = "1"
_WORD = re.compile(r"[A-Za-z0-9._-]*", re.ASCII)


class Life(str, Enum):
    """What can be said about an owner from here."""

    ALIVE = "alive"
    DEAD = "dead"  #: surely
    UNKNOWN = "unknown"  #: another machine, another container, or hidden from this user

    def __str__(self) -> str:
        return self.value


@attrs.frozen
class Owner:
    """One process of one machine."""

    host: str  #: the machine (a hash of its id and name), or empty if it has no id
    boot: str  #: this boot of its kernel, or empty if that is unknown
    space: str  #: the namespaces in which the id and the start are counted
    pid: int
    started: int  #: clock ticks from boot to the process's start; 0 where unknown

    @classmethod
    def current(cls) -> Owner:
        """This process; in a forked child it is the child."""
        pid = os.getpid()
        return cls(_host(), boot_id(), _space(), pid, _started(pid) or 0)

    def __str__(self) -> str:
        """One word, fit for a label or a command line; ``parse`` reads it."""
        return ":".join([_FORM, self.host, self.boot, self.space, str(self.pid), str(self.started)])

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """The owner that a text names, or None if it names none that is known here."""
        words = text.split(":")
        if len(words) != 6 or words[0] != _FORM or not all(_WORD.fullmatch(w) for w in words):
            return None
        if not (words[4].isdigit() and words[5].isdigit()) or len(text) > 500:
            return None
        return cls(words[1], words[2], words[3], int(words[4]), int(words[5]))

    def alive(self) -> Life:
        """Whether that process lives, as far as this one can see."""
        if not self.boot or not boot_id():
            return Life.UNKNOWN
        if self.boot != boot_id():
            return self._of_another_boot()
        if not self.space or self.space != _space():
            return Life.UNKNOWN
        return _process(self.pid, self.started)

    def _of_another_boot(self) -> Life:
        """Dead where it was this very machine; a container's name and id prove nothing."""
        first = self.space.split(".")[0] == _FIRST_NAMESPACE
        same = bool(self.host) and self.host == _host()
        return Life.DEAD if same and first else Life.UNKNOWN


def life_of(text: str) -> Life:
    """The life of the owner that a text names; unknown where it names none."""
    owner = Owner.parse(text)
    return Life.UNKNOWN if owner is None else owner.alive()


def this_space() -> str:
    """An owner that is any process of this machine's boot and of this process's namespace."""
    return str(Owner(_host(), boot_id(), _space(), 0, 0))


def same_machine(text: str) -> bool | None:
    """Whether that process's machine is this one; None if that is unknown."""
    other = Owner.parse(text)
    if other is None:
        return None
    if other.boot and other.boot == boot_id():
        return True  # one kernel, with all its containers
    if other.host and other.host == _host():
        return True
    # Without boots a machine is known by its name alone, which may change.
    known = other.host and other.boot and _host() and boot_id()
    return False if known else None


def same_space(text: str) -> bool:
    """Whether that process surely saw the machine's processes and sockets as this one does.

    Across a restart the machine itself is known again, a container of it is not.
    """
    other = Owner.parse(text)
    if other is None:
        return False
    if other.boot and other.boot == boot_id():
        return bool(other.space) and other.space == _space()
    first = {space.split(".")[0] for space in (other.space, _space())} == {_FIRST_NAMESPACE}
    unnumbered = not other.space and not _space()  # a system that has no namespaces
    return bool(other.host) and other.host == _host() and (first or unnumbered)


def _process(pid: int, started: int) -> Life:
    """Of a process id of this process's own namespace."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return Life.DEAD
    except (PermissionError, OverflowError):
        pass  # it is there, another user's
    now = _started(pid)
    if now is None or not started:
        # /proc hides it from this user, or it ended this moment: another look will show.
        return Life.UNKNOWN
    if now != started:
        return Life.DEAD  # the id was taken again
    return Life.DEAD if _ended(pid) else Life.ALIVE


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None


def _started(pid: int) -> int | None:
    fields = _stat(pid)
    try:
        return None if fields is None else int(fields[19])
    except (IndexError, ValueError):
        return None


def _ended(pid: int) -> bool:
    """Whether it is a zombie with no thread left."""
    fields = _stat(pid)
    if not fields or fields[0] not in ("Z", "X"):
        return False
    try:
        return len(os.listdir(f"/proc/{pid}/task")) <= 1
    except OSError:
        return True


@functools.cache
def _host() -> str:
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        with contextlib.suppress(OSError), open(path) as file:
            if number := file.read().strip():
                return _hashed(number)
    # Where a system has no id for its machine, but no containers either.
    return "" if os.path.exists("/proc") else _hashed("")


def _hashed(number: str) -> str:
    name = f"stockade host\0{number}\0{platform.node()}"
    return hashlib.sha256(name.encode()).hexdigest()[:16]


@functools.cache
def boot_id() -> str:
    """This boot of the kernel, one id for all its containers; empty where unknown."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
    except OSError:
        return ""
    return boot if _WORD.fullmatch(boot) else ""


def _space() -> str:
    """The process and time namespaces of this process, as numbers."""
    words = []
    for name in ("pid", "time"):
        try:
            words.append(os.readlink(f"/proc/self/ns/{name}").partition("[")[2].rstrip("]"))
        except OSError:
            if name == "pid":
                return ""
    return ".".join(words)
