"""A session's files: calls on them, whole trees to and from this machine, archives, snapshots."""

from __future__ import annotations

from stockade._entries import FileEvent, FileInfo, Missed
from stockade.files._api import DEFAULT_MAX_BYTES, Archive, Files
from stockade.files._calls import Scope, Timeout, cancellable
from stockade.files._watching import Watch

__all__ = [
    "DEFAULT_MAX_BYTES",
    "Archive",
    "FileEvent",
    "FileInfo",
    "Files",
    "Missed",
    "Scope",
    "Timeout",
    "Watch",
    "cancellable",
]
