"""What a program in a warm interpreter finds around it, as a new interpreter would have it."""

import io
import os
import sys
import time

from stockade.toolkit.supervised.inside.ending import attempt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

#: The supervisor's, where the kernel has Landlock.
RULESET = 5

STREAMS = ("stdin", "stdout", "stderr")


def make_streams(*numbers: int) -> None:
    """Make ``sys.stdin`` and the others anew, for what their descriptors are now."""
    for number in numbers:
        name = STREAMS[number]
        old = getattr(sys, f"__{name}__")
        plain = isinstance(old.buffer, io.FileIO)  # by PYTHONUNBUFFERED
        mode = "wb" if number else "rb"
        buffer: Any = open(number, mode, 0 if plain else -1, closefd=False)  # noqa: SIM115
        raw = buffer if plain else buffer.raw
        raw.name = f"<{name}>"
        by_line = old.line_buffering or (os.isatty(number) and not plain)
        stream: Any = io.TextIOWrapper(
            buffer, old.encoding, old.errors, "\n", by_line, write_through=plain
        )
        stream.mode = mode[0]
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def make_streams_ahead() -> None:
    """Make them as they are on pipes, which nearly every execution has."""
    out, into = os.pipe()
    nothing = os.open(os.devnull, os.O_RDWR)
    for number, descriptor in enumerate((out, into, into)):
        os.dup2(descriptor, number)
    make_streams(0, 1, 2)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    for descriptor in (out, into, nothing):
        os.close(descriptor)


def set_variables(entries: "Iterable[bytes]") -> "dict[bytes, bytes | None]":
    """Set ``NAME=value`` entries; what they were before, for ``restore_variables``."""
    before = {}
    for entry in entries:
        name, _, value = entry.partition(b"=")
        before[name] = os.environb.get(name)
        os.environb[name] = value
    if b"TZ" in before:
        time.tzset()
    return before


def restore_variables(before: "dict[bytes, bytes | None]") -> None:
    for name, value in before.items():
        if value is None:
            os.environb.pop(name, None)
        else:
            os.environb[name] = value
    if b"TZ" in before:
        time.tzset()


def forget_missing() -> None:
    """Look again for folders of modules that were not there when they were looked for."""
    cache = sys.path_importer_cache
    for path in [path for path, finder in cache.items() if finder is None]:
        del cache[path]


class Sites:
    """The folders of installed modules: what is in them is read when an interpreter starts
    (files that add paths, the user's own folder), so one that is older knows no better."""

    def __init__(self) -> None:
        self.home = os.environb.get(b"HOME", b"")
        self.user = b""
        self.folders: list[str] = []
        site = sys.modules.get("site")
        if site is not None:
            attempt(lambda: self.folders.extend(site.getsitepackages()))
            if getattr(site, "ENABLE_USER_SITE", False) and getattr(site, "USER_SITE", None):
                self.folders.append(site.USER_SITE)
                self.user = os.fsencode(site.USER_SITE)
        self.state = self.look()

    def look(self) -> "list[int | None]":
        return [changed_at(folder) for folder in self.folders]

    def changed(self, home: bytes) -> bool:
        """Whether an interpreter that starts now may find other modules than this one."""
        if self.user and home != self.home:
            if not self.home or not self.user.startswith(self.home):
                return True
            other = home + self.user[len(self.home) :]
            if os.fsdecode(self.user) in sys.path or changed_at(os.fsdecode(other)) is not None:
                return True
        return self.look() != self.state


def changed_at(folder: str) -> "int | None":
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return None


def from_c(name: str) -> "Callable[..., int]":
    """A function of the C library for whole numbers; one that does nothing if this Python
    cannot call any."""
    try:
        import _ctypes

        call: Any = _ctypes.call_function
        function = _ctypes.dlsym(_ctypes.dlopen(None, 0), name)  # type: ignore[arg-type]
    except Exception:
        return lambda *numbers: 0
    return lambda *numbers: call(function, numbers)


def dumpable() -> "Callable[[bool], object]":
    """What hides this process from programs of its user (no tracing, no look into /proc), or
    shows it again; it does nothing if this Python cannot make the call."""
    prctl = from_c("prctl")
    return lambda shown: prctl(4, int(shown), 0, 0, 0)


def apart() -> "Callable[[], bool]":
    """What puts this process into a Landlock domain of its own, by the supervisor's ruleset:
    from there it reaches no other program's memory and descriptors. Whether that went well, or
    there is nothing to be done."""
    ruled = attempt(lambda: os.fstat(RULESET))
    syscall = from_c("syscall")
    return lambda: not ruled or syscall(446, RULESET, 0) == 0
