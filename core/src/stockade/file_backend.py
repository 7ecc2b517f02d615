"""Files for walls that run no programs: the sandbox serves them itself (F1 to F4).

Where a sandbox has ``sh``, core's own :class:`stockade.files.Files` needs nothing of
this. A wall that runs code alone returns a :class:`FileBackend` from ``Sandbox.files``.
"""

from __future__ import annotations

import abc
import errno
import io
import os
import posixpath
import tarfile

import attrs

__all__ = ["FileBackend", "FileInfo"]


@attrs.frozen
class FileInfo:
    """One entry of a listing: a link is itself, not what it leads to."""

    name: str
    kind: str  #: "file", "dir", "link" or "other"
    size: int  #: bytes, for a file
    mode: int  #: permission bits

    @property
    def is_dir(self) -> bool:
        return self.kind == "dir"


class FileBackend(abc.ABC):
    """A sandbox's files, reached by the wall's own way; called from any thread.

    Paths are absolute, without NUL, and are the sandbox's own words: whatever they name,
    nothing of the host beside the sandbox's files is read or written (F3). Errors are those
    that a local file would raise, with the path as their filename (F2).
    """

    #: The folder that relative paths mean.
    root: str = "/workspace"

    @abc.abstractmethod
    def read(self, path: str, max_bytes: int) -> bytes:
        """The bytes of a file. Raises FileTooLargeError past ``max_bytes``."""

    @abc.abstractmethod
    def write(self, path: str, data: bytes, mode: int | None) -> None:
        """Write or replace a file, making parent folders where the sandbox has such (F1)."""

    @abc.abstractmethod
    def list(self, path: str) -> list[FileInfo]:
        """The entries of a folder (F4)."""

    @abc.abstractmethod
    def stat(self, path: str) -> FileInfo:
        """One entry; a link is not followed."""

    @abc.abstractmethod
    def make_dir(self, path: str) -> None:
        """Make a folder and its parents; one that is there already is fine."""

    @abc.abstractmethod
    def remove(self, path: str, *, tree: bool) -> None:
        """Remove a file, a link, or an empty folder; with ``tree`` a whole one."""

    # -- whole folders, by means of the above --------------------------------

    def pack(self, path: str, max_bytes: int) -> bytes | None:
        """A folder's content as a tar archive, or None past ``max_bytes``."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
            if not self._pack(archive, path, "", max_bytes):
                return None
        return buffer.getvalue() if buffer.tell() <= max_bytes else None

    def _pack(self, archive: tarfile.TarFile, path: str, name: str, left: int) -> bool:
        for info in self.list(path):
            inner, here = posixpath.join(name, info.name), posixpath.join(path, info.name)
            member = tarfile.TarInfo(inner)
            member.mode = info.mode
            if info.is_dir:
                member.type = tarfile.DIRTYPE
                archive.addfile(member)
                if not self._pack(archive, here, inner, left):
                    return False
            elif info.kind == "file":
                if archive.offset + info.size > left:
                    return False
                data = self.read(here, left)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        return True

    def unpack(self, path: str, data: bytes) -> None:
        """Write a tar archive's files and folders below ``path``; links are refused."""
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                parts = [part for part in member.name.split("/") if part not in ("", ".")]
                here = posixpath.join(path, *parts)
                if ".." in parts:
                    raise OSError(errno.EACCES, os.strerror(errno.EACCES), member.name)
                if member.isdir():
                    self.make_dir(here)
                elif member.isfile():
                    file = archive.extractfile(member)
                    self.write(here, file.read() if file else b"", member.mode & 0o777)
                else:
                    raise OSError(errno.EPERM, os.strerror(errno.EPERM), here)
