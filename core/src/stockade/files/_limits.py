"""What a tree may bring out, counted where it arrives: nobody else's count is believed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stockade._entries import FILE, Entry, Missed, TreeItem
from stockade.errors import FileTooLargeError
from stockade.file_backend import FileBackend, FileCall

__all__ = ["TreeLimit"]

#: Files, folders and links of one tree, and those of it that are reported as not brought.
_MAX_ENTRIES = 1_000_000
_MAX_MISSED = 100_000


class TreeLimit:
    """Takes items up to a limit, and hands them on to ``receive``.

    A file counts with its whole size, holes included. Raises FileTooLargeError, which names
    ``path``, past a limit.
    """

    def __init__(self, path: str, receive: Callable[[TreeItem], None], max_bytes: int) -> None:
        self._path = path
        self._receive = receive
        self._max_bytes = self._bytes_left = max_bytes
        self._entries_left = _MAX_ENTRIES
        self._missed_left = _MAX_MISSED

    @property
    def bytes_left(self) -> int:
        return self._bytes_left

    @property
    def entries_left(self) -> int:
        return self._entries_left

    def bring(
        self, backend: FileBackend, path: str, call: FileCall, chosen: Sequence[str] | None = None
    ) -> None:
        """Bring one tree out, with what is left of the limit."""
        backend.get_tree(
            path,
            self.take,
            call,
            max_bytes=self._bytes_left,
            max_entries=self._entries_left,
            chosen=chosen,
        )

    def take(self, item: TreeItem) -> None:
        """Count one item."""
        if isinstance(item, Entry):
            self._entries_left -= 1
            self._bytes_left -= item.size if item.kind == FILE else 0
        elif isinstance(item, Missed):
            self._missed_left -= 1
        if self._bytes_left < 0:
            raise FileTooLargeError(self._path, self._max_bytes)
        if self._entries_left < 0 or self._missed_left < 0:
            limit = _MAX_ENTRIES if self._entries_left < 0 else _MAX_MISSED
            raise FileTooLargeError(self._path, limit, "entries")
        self._receive(item)
