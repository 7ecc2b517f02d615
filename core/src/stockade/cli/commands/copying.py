"""``stockade session cp``: files and folders into a session, and out of one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from stockade._entries import Misses
from stockade.errors import FileTooLargeError
from stockade.files import DEFAULT_MAX_BYTES

if TYPE_CHECKING:
    from stockade.session import Session

__all__ = ["get", "put"]

# A person at a terminal ends a call there, so no call has its own time limit.


def put(session: Session, source: str, path: str) -> Misses:
    """A file or a folder of this machine into the session; what could not be copied."""
    if os.path.isdir(source):
        return session.files.put_tree(source, path, timeout=None)
    if session.files.exists(path) and session.files.stat(path, follow_links=True).is_dir:
        path = f"{path.rstrip('/')}/{os.path.basename(source)}"
    with open(source, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode & 0o777
        session.files.write(path, file, mode=mode, timeout=None)
    return []


def get(session: Session, path: str, destination: str) -> Misses:
    """A file or a folder of the session to this machine; what could not be copied."""
    info = session.files.stat(path, follow_links=True)
    if info.is_dir:
        return session.files.get_tree(path, destination, max_bytes=1 << 62, timeout=None)
    if os.path.isdir(destination):
        destination = os.path.join(destination, os.path.basename(path))
    # A program that goes on writing would fill this machine.
    most = max(info.size, DEFAULT_MAX_BYTES)
    pieces = session.files.read_pieces(path, timeout=None)
    piece = next(pieces, b"")  # before anything is made here: it may be that there is none
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with open(os.open(destination, flags, info.mode & 0o777), "wb") as file:
        while piece:
            if file.tell() + len(piece) > most:
                raise FileTooLargeError(path, most)
            file.write(piece)
            piece = next(pieces, b"")
    return []
