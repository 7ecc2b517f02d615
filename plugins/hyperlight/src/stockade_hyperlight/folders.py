"""A session's files: the two folders that the guest is shown, ``/input`` and ``/output``.

The guest's folders are flat, so a path is one name in them, with all but letters, digits,
``-``, ``_`` and inner dots percent-encoded; the guest's ``open`` does the same. No name on
the host can so be ``..`` or lead anywhere (F3).
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import shutil
import stat
import threading
from collections.abc import Iterable
from typing import NoReturn

from stockade.errors import FileTooLargeError, SpecialFileError
from stockade.file_backend import FileBackend, FileCall, FileInfo

__all__ = ["Folders", "decode", "encode"]

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
_DIR_MODE = 0o755
_DIRS = ("input", "output")
#: An empty folder is a file whose name ends like this.
_EMPTY = "%2F"


def encode(path: str) -> str:
    """A relative path as the one name that stands for it."""
    out = []
    for at, byte in enumerate(os.fsencode(path)):
        plain = byte in _PLAIN or (byte == 0x2E and at)
        out.append(chr(byte) if plain else f"%{byte:02X}")
    return "".join(out)


def decode(name: str) -> str:
    parts = name.split("%")
    data = parts[0].encode()
    for part in parts[1:]:
        data += bytes.fromhex(part[:2]) + part[2:].encode()
    return os.fsdecode(data)


Infos = list[FileInfo]

#: Size and time of change of each file.
Given = dict[str, tuple[int, int]]


def _state(folder: str) -> Given:
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                about = entry.stat(follow_symlinks=False)
                found[entry.name] = (about.st_size, about.st_mtime_ns)
    return found


def _fail(number: int, path: str) -> NoReturn:
    raise OSError(number, os.strerror(number), path)


class Folders(FileBackend):
    """Made with a session, in a folder of the host's that only its user may enter."""

    root = "/output"
    tops = ("/input", "/output")

    def __init__(self, disk_mb: int | None, host: str) -> None:
        """``host`` is an empty folder, which goes with the session."""
        self.host = host
        self._limit = None if disk_mb is None else disk_mb << 20
        self._lock = threading.Lock()
        self._machines = 0
        for name in _DIRS:
            os.mkdir(os.path.join(self.host, name))

    def destroy(self) -> None:
        """Remove all; may be called again."""
        with self._lock:
            if os.path.lexists(self.host):
                shutil.rmtree(self.host)

    # -- the machines' own folders -------------------------------------------
    # Each has an output folder of copies: going back to a clean guest clears it, several run
    # at the same time, and the package takes no linked files.

    @property
    def input(self) -> str:
        return os.path.join(self.host, "input")

    def machine_folder(self) -> str:
        """A new output folder for one machine."""
        with self._lock:
            self._machines += 1
            path = os.path.join(self.host, f"machine-{self._machines}")
            os.mkdir(path)
            return path

    def give(self, machine: str) -> Given:
        """Before an execution: show it the session's files; what it was given, for ``take``."""
        with self._lock:
            for name in os.listdir(machine):
                os.unlink(os.path.join(machine, name))
            output = os.path.join(self.host, "output")
            for name in os.listdir(output):
                shutil.copy2(
                    os.path.join(output, name), os.path.join(machine, name), follow_symlinks=False
                )
            return _state(machine)

    def take(self, machine: str, given: Given) -> None:
        """After it, however it ended: what it wrote is the session's; the last to end wins."""
        with self._lock, contextlib.suppress(FileNotFoundError):
            for name, state in _state(machine).items():
                if given.get(name) != state:
                    os.replace(os.path.join(machine, name), os.path.join(self.host, "output", name))

    # -- paths ---------------------------------------------------------------

    def _place(self, path: str, *, writing: bool = False) -> tuple[str, str]:
        normal = posixpath.normpath(path).lstrip("/")
        top, _, rest = normal.partition("/")
        if top == "tmp" and rest:
            top, rest = "output", normal
        top = "output" if top == "workspace" else top
        if normal in ("", "."):
            return "", ""
        if top not in _DIRS:
            _fail(errno.EACCES if writing else errno.ENOENT, path)
        return top, rest

    def _names(self, top: str) -> list[str]:
        """Every path in a folder; one of an empty folder ends in ``/``."""
        return [decode(name) for name in os.listdir(os.path.join(self.host, top))]

    def _kind(self, top: str, rest: str, path: str) -> str:
        """``file``, ``dir`` or ``none``. Raises NotADirectoryError where a parent is a file."""
        if not rest:
            return "dir"
        kind = "none"
        for name in self._names(top):
            if name == rest:
                return "file"
            if name.startswith(rest + "/"):
                kind = "dir"
            if rest.startswith(name + "/") and not name.endswith("/"):
                _fail(errno.ENOTDIR, path)
        return kind

    def _host(self, top: str, rest: str, path: str) -> str:
        name = encode(rest)
        if len(name) > 255:
            _fail(errno.ENAMETOOLONG, path)
        return os.path.join(self.host, top, name)

    # -- the interface -------------------------------------------------------

    def read(
        self, path: str, call: FileCall, *, offset: int, length: int | None, max_bytes: int
    ) -> bytes:
        with self._lock:
            top, rest = self._place(path)
            kind = self._kind(top, rest, path) if top else "dir"
            if kind != "file":
                _fail(errno.EISDIR if kind == "dir" else errno.ENOENT, path)
            # What the guest made is no FIFO, but who reads must not wait for one.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            descriptor = os.open(self._host(top, rest, path), flags)
            with open(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise SpecialFileError(path)
                file.seek(offset)
                data = file.read(max_bytes + 1 if length is None else min(length, max_bytes + 1))
        if len(data) > max_bytes:
            raise FileTooLargeError(path, max_bytes)
        return data

    def write(
        self,
        path: str,
        data: Iterable[bytes],
        call: FileCall,
        *,
        mode: int | None,
        append: bool,
        offset: int | None,
    ) -> None:
        content = self._gathered(data, call, path)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        with self._lock:
            top, rest = self._place(path, writing=True)
            if path.endswith("/") or not top or self._kind(top, rest, path) == "dir":
                _fail(errno.EISDIR, path)
            host = self._host(top, rest, path)
            self._unmark(top, rest)
            descriptor = os.open(host, flags, 0o644)
            try:
                about = os.fstat(descriptor)
                if not stat.S_ISREG(about.st_mode):
                    raise SpecialFileError(path)
                at = about.st_size if append else offset or 0
                self._room(top, host, at + len(content), path)
                if mode is not None:
                    os.fchmod(descriptor, mode & 0o777)
                if offset is None and not append:
                    os.ftruncate(descriptor, 0)
                os.lseek(descriptor, at, os.SEEK_SET)
                with open(descriptor, "wb", closefd=False) as file:
                    file.write(content)
            finally:
                os.close(descriptor)

    def _gathered(self, data: Iterable[bytes], call: FileCall, path: str) -> bytes:
        """All of it, before the folder is locked: who gives it may be slow."""
        content = bytearray()
        for piece in data:
            call.check()
            content += piece
            if self._limit is not None and len(content) > self._limit:
                _fail(errno.ENOSPC, path)
        return bytes(content)

    def _room(self, top: str, host: str, size: int, path: str) -> None:
        """The limit holds for each of the two folders (E2)."""
        if self._limit is None:
            return
        folder = os.path.join(self.host, top)
        with os.scandir(folder) as entries:
            used = sum(
                entry.stat(follow_symlinks=False).st_size for entry in entries if entry.path != host
            )
        if used + size > self._limit:
            _fail(errno.ENOSPC, path)

    def _unmark(self, top: str, rest: str) -> None:
        """Parents are no empty folders any more."""
        while rest := posixpath.dirname(rest):
            mark = os.path.join(self.host, top, encode(rest) + _EMPTY)
            if os.path.lexists(mark):
                os.unlink(mark)

    def list(self, path: str, call: FileCall, *, max_entries: int) -> list[FileInfo]:
        found = self._listed(path)
        if len(found) > max_entries:
            raise FileTooLargeError(path, max_entries, "entries")
        return found

    def _listed(self, path: str) -> Infos:
        with self._lock:
            top, rest = self._place(path)
            if not top:
                return [FileInfo(name, "dir", 0, _DIR_MODE) for name in _DIRS]
            kind = self._kind(top, rest, path)
            if kind != "dir":
                _fail(errno.ENOTDIR if kind == "file" else errno.ENOENT, path)
            start = f"{rest}/" if rest else ""
            found = {}
            for name in self._names(top):
                if not name.startswith(start) or name == start:
                    continue
                first, slash, _ = name[len(start) :].partition("/")
                if slash:
                    found[first] = FileInfo(first, "dir", 0, _DIR_MODE)
                else:
                    found[first] = self._info(top, name, path)
            return list(found.values())

    def _info(self, top: str, rest: str, path: str) -> FileInfo:
        about = os.lstat(self._host(top, rest, path))
        kind = "file" if stat.S_ISREG(about.st_mode) else "other"
        name, mode = posixpath.basename(rest), stat.S_IMODE(about.st_mode)
        return FileInfo(name, kind, about.st_size, mode, modified_ns=about.st_mtime_ns)

    def stat(self, path: str, call: FileCall, *, follow_links: bool) -> FileInfo:
        with self._lock:
            top, rest = self._place(path)
            if not rest:
                return FileInfo(top, "dir", 0, _DIR_MODE)
            kind = self._kind(top, rest, path)
            if kind == "none":
                _fail(errno.ENOENT, path)
            if kind == "dir":
                return FileInfo(posixpath.basename(rest), "dir", 0, _DIR_MODE)
            return self._info(top, rest, path)

    def make_dir(self, path: str, call: FileCall) -> None:
        with self._lock:
            top, rest = self._place(path, writing=True)
            if not rest:
                return
            kind = self._kind(top, rest, path)
            if kind == "file":
                _fail(errno.EEXIST, path)
            if kind == "none":
                host = self._host(top, rest, path) + _EMPTY
                self._unmark(top, rest)
                os.close(os.open(host, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))

    def remove(self, path: str, call: FileCall, *, tree: bool) -> None:
        with self._lock:
            top, rest = self._place(path, writing=True)
            if not rest:
                _fail(errno.EACCES, path)
            kind = self._kind(top, rest, path)
            if kind == "none":
                _fail(errno.ENOENT, path)
            start = f"{rest}/"
            inside = [name for name in self._names(top) if name.startswith(start)]
            if kind == "dir" and not tree and inside != [start]:
                _fail(errno.ENOTEMPTY, path)
            for name in [rest] if kind == "file" else inside:
                os.unlink(os.path.join(self.host, top, encode(name)))
