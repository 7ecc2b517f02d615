"""What the sandbox has for a root: bwrap's arguments that make it."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterable, Sequence

import attrs

from stockade.config import MIB
from stockade.errors import ConfigError
from stockade.hostroot import SYSTEM_FOLDERS, accounts
from stockade.toolkit.local.limits import TERMINALS

__all__ = ["ISOLATION", "SUPERVISOR", "Argument", "Root", "Text", "check_place"]

#: Everything unshared, nothing kept; the probe tries the same.
ISOLATION = (
    "--unshare-user",
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-net",
    "--unshare-cgroup-try",
    "--disable-userns",
    "--die-with-parent",
    "--new-session",
    "--cap-drop",
    "ALL",
    "--hostname",
    "sandbox",
)
#: Where the supervisor is inside.
SUPERVISOR = "/.stockade/supervisor"

#: Made by bwrap, whatever a target has there.
_MADE = ("/dev", "/proc", "/sys", "/tmp", "/.stockade")
#: Programs find their long-lived temporary files in the space of the others.
_VAR_TMP = "/var/tmp"
#: Parts of /proc that tell of the machine what no program needs.
_HIDDEN_FILES = (
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/timer_list",
    "/proc/timer_stats",
)
_HIDDEN_FOLDERS = ("/proc/acpi", "/proc/asound", "/proc/scsi")
#: Where the supervisor looks for the count of kills for memory.
_COUNTER = "/sys/fs/cgroup/memory.events"
#: Files that a folder of a size may hold, for each MiB; they cost the kernel's memory.
_FILES_EACH = 64
_MIN_FILES = 1024
#: Options of the sandbox's own terminals, as bwrap mounts them, and how many there may be.
_TERMINALS = f"nosuid,noexec,newinstance,ptmxmode=0666,mode=620,max={TERMINALS}"


@attrs.frozen
class Text:
    """Stands for the number of a descriptor that bwrap reads this from."""

    content: bytes


#: One of bwrap's words.
Argument = str | Text


@attrs.frozen(kw_only=True)
class Root:
    """A sandbox's files."""

    target: str | None  #: the folder that becomes the root; None shows the host's programs
    working_dir: str
    disk_mb: int | None
    shm_mb: int
    uid: int  #: inside
    gid: int
    supervisor: bytes  #: the program
    counter: str | None  #: the host's file that counts kills for memory
    extra: Sequence[str] = ()  #: further folders of the host, shown where they are

    def arguments(self) -> list[Argument]:
        """Raises ConfigError for places that can't be made, OSError for a target that
        can't be looked at."""
        return [
            *ISOLATION,
            *("--as-pid-1", "--uid", str(self.uid), "--gid", str(self.gid)),
            *(self._target(self.target) if self.target is not None else self._host()),
            *self._supervisor(),
            *("--proc", "/proc"),
            *_hidden(),
            *("--dev", "/dev", *_tmpfs("/dev/shm", "1777", self.shm_mb), "--remount-ro", "/dev"),
            *_tmpfs("/tmp", "1777", self.disk_mb),
            *_tmpfs(self.working_dir, "0700", self.disk_mb),
            *self._counter(),
            *("--remount-ro", "/", "--chdir", self.working_dir),
        ]

    def bounds(self) -> list[tuple[list[str], str]]:
        """Places that are writable, and the options that bound them, which bwrap cannot set
        all: for the keeper."""
        found = [(["/dev/shm"], _options(self.shm_mb)), (["/dev/pts"], _TERMINALS)]
        if self.disk_mb is not None:
            found.append((["/tmp", self.working_dir], _options(self.disk_mb)))
        return found

    # -- the parts ---------------------------------------------------------------

    def _host(self) -> list[Argument]:
        arguments: list[Argument] = []
        for path in dict.fromkeys((*SYSTEM_FOLDERS, *self.extra)):
            if os.path.lexists(path) and not _within(path, self._places()):
                arguments += [*_parents(path), *self._show(path, path)]
        if not _within("/etc/mtab", self._places()):
            arguments += ["--symlink", "/proc/mounts", "/etc/mtab"]
        return [*arguments, *self._accounts(), *self._var_tmp()]

    def _target(self, target: str) -> list[Argument]:
        arguments: list[Argument] = []
        for name in sorted(os.listdir(target)):
            place = f"/{name}"
            if place not in _MADE and place not in self._places():
                arguments += self._show(os.path.join(target, name), place)
        if not os.path.lexists(os.path.join(target, "etc")):
            arguments += [*self._accounts()]
        return [*arguments, *self._var_tmp()]

    def _accounts(self) -> list[Argument]:
        """What programs ask of /etc, in place of the host's own."""
        arguments: list[Argument] = []
        for path, text in accounts(self.uid, self.gid, self.working_dir).items():
            if not _within(path, self._places()):
                arguments += ["--perms", "0444", "--file", Text(text.encode()), path]
        return arguments

    def _var_tmp(self) -> list[Argument]:
        if _VAR_TMP not in self._places():
            return []
        return [*_parents(_VAR_TMP), "--symlink", "/tmp", _VAR_TMP]

    def _places(self) -> list[str]:
        """Where something is put in place of what the root has."""
        places = [self.working_dir]
        behind_link = self.target is not None and os.path.islink(os.path.join(self.target, "var"))
        if not behind_link and not _within(_VAR_TMP, places):
            places.append(_VAR_TMP)
        return places

    def _show(self, source: str, place: str) -> list[Argument]:
        """The host's file or folder, read-only; what is to be mounted below it and is not
        there needs a folder that bwrap can make, so then its parts are shown one by one.

        A link stays a link, so that it leads to where it says inside, never on the host.
        """
        mode = os.lstat(source).st_mode
        below = [path for path in self._places() if path.startswith(place + "/")]
        if stat.S_ISLNK(mode):
            if below:
                raise ConfigError(
                    f"{below[0]!r} lies behind the link {place!r} of the sandbox's root; "
                    "choose a folder that no link leads to."
                )
            return ["--symlink", os.readlink(source), place]
        if stat.S_ISREG(mode) or (stat.S_ISDIR(mode) and not below):
            return ["--ro-bind", source, place]
        if not stat.S_ISDIR(mode):
            return []  # sockets, fifos and devices of the host have no place here
        arguments: list[Argument] = ["--perms", "0755", "--dir", place]
        for name in sorted(os.listdir(source)):
            inner = f"{place}/{name}"
            if inner not in self._places():
                arguments += self._show(os.path.join(source, name), inner)
        return arguments

    def _supervisor(self) -> list[Argument]:
        """By a descriptor: the user that bwrap runs as may not reach the file itself."""
        return ["--perms", "0555", "--ro-bind-data", Text(self.supervisor), SUPERVISOR]

    def _counter(self) -> list[Argument]:
        made: list[Argument] = ["--perms", "0755", "--dir", "/sys"]
        return made if self.counter is None else [*made, "--ro-bind", self.counter, _COUNTER]


def _parents(path: str) -> list[Argument]:
    """Folders that everybody may enter, where there are none; bwrap's own are one user's."""
    parts = path.split("/")[1:-1]
    return [
        word
        for count in range(1, len(parts) + 1)
        for word in ("--perms", "0755", "--dir", "/" + "/".join(parts[:count]))
    ]


def _tmpfs(path: str, mode: str, megabytes: int | None) -> list[Argument]:
    size = [] if megabytes is None else ["--size", str(megabytes * MIB)]
    return [*size, "--perms", mode, "--tmpfs", path]


def _options(megabytes: int) -> str:
    files = max(_MIN_FILES, megabytes * _FILES_EACH)
    return f"nosuid,nodev,size={megabytes * MIB},nr_inodes={files}"


def _hidden() -> list[Argument]:
    arguments: list[Argument] = []
    for path in _HIDDEN_FILES:
        if os.path.exists(path):
            arguments += ["--ro-bind", "/dev/null", path]
    for path in _HIDDEN_FOLDERS:
        if os.path.isdir(path):
            arguments += ["--size", "4096", "--perms", "0555", "--tmpfs", path]
            arguments += ["--remount-ro", path]
    return arguments


def _within(path: str, places: Iterable[str]) -> bool:
    return any(path == place or path.startswith(place + "/") for place in places)


def check_place(path: str) -> None:
    """Refuse a working folder that covers what the sandbox itself needs. Raises ConfigError."""
    top = "/" + path.split("/")[1]
    normal = posixpath.normpath(path) == path
    if path == "/" or top in _MADE or not normal or _within(path, [_VAR_TMP]):
        raise ConfigError(
            f"working_dir={path!r} cannot be a folder of its own; use /workspace or another "
            "place outside of /tmp, /var/tmp, /proc, /sys and /dev."
        )
