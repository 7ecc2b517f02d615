"""What callers attach to files that they write: kept by the server, beside the sandbox.

It is of a path: it goes along where a caller renames a file or a folder above it, and is gone
once the file is written anew or removed. What programs inside do to the file, it does not follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stockade_server.errors import Refused

__all__ = ["FileMetadata", "metadata_of"]

_PREFIX = "x-metadata-"
_MOST_BYTES = 4096  #: of one file, keys and values
_MOST_FILES = 10_000  #: of one sandbox


def metadata_of(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """From ``X-Metadata-KEY: VALUE``; of a key that comes twice the first. Raises Refused."""
    found: dict[str, str] = {}
    for name, value in headers:
        if name.lower().startswith(_PREFIX):
            found.setdefault(name.lower().removeprefix(_PREFIX), value)
    for text in (*found, *found.values()):
        if not all(" " <= letter <= "~" for letter in text):
            raise Refused(400, "metadata of a file is printable ASCII")
    if "" in found:
        raise Refused(400, "metadata of a file has names")
    if sum(len(name) + len(value) for name, value in found.items()) > _MOST_BYTES:
        raise Refused(400, f"metadata of a file has {_MOST_BYTES} characters at most")
    return found


class FileMetadata:
    """That of one sandbox's files, by their paths."""

    def __init__(self) -> None:
        self._known: dict[str, Mapping[str, str]] = {}

    def of(self, path: str) -> dict[str, str]:
        """Empty where there is none."""
        return dict(self._known.get(path, {}))

    def set(self, path: str, metadata: Mapping[str, str]) -> None:
        """In place of what was there. Raises Refused where too many files have some."""
        if not metadata:
            self._known.pop(path, None)
            return
        if path not in self._known and len(self._known) >= _MOST_FILES:
            raise Refused(429, f"{_MOST_FILES} files have metadata; remove some of them")
        self._known[path] = dict(metadata)

    def move(self, source: str, destination: str) -> None:
        """As the file itself moved, or the folder above it."""
        self.remove(destination)
        for path in [path for path in self._known if _is_in(path, source)]:
            self._known[destination + path[len(source) :]] = self._known.pop(path)

    def remove(self, path: str) -> None:
        """As the file itself is gone, or the folder above it."""
        for one in [one for one in self._known if _is_in(one, path)]:
            del self._known[one]


def _is_in(path: str, top: str) -> bool:
    return path == top or path.startswith(f"{top.rstrip('/')}/")
