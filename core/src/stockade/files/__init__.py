"""A session's files: calls on them, whole trees to and from this machine, archives, snapshots."""

from __future__ import annotations

from stockade.files.api import DEFAULT_MAX_BYTES, Archive, Files
from stockade.files.calls import Timeout
from stockade.trees import FileInfo, Missed

__all__ = ["DEFAULT_MAX_BYTES", "Archive", "FileInfo", "Files", "Missed", "Timeout"]
