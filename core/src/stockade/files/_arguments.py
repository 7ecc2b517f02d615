"""What callers may hand to ``session.files``, checked."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import PurePath
from typing import IO

from stockade.config import MIB
from stockade.errors import ConfigError

__all__ = ["Data", "InsidePath", "check_mode", "count", "inside", "pieces", "plain"]

#: A path inside: text, or of the pathlib kind.
InsidePath = str | os.PathLike[str]
#: What can be written: bytes, a file that was opened for reading bytes, or pieces of bytes.
Data = bytes | bytearray | memoryview | IO[bytes] | Iterable[bytes]


def inside(path: object, base: str) -> str:
    """The absolute path inside; a relative one starts at ``base``. Raises ConfigError."""
    if isinstance(path, PurePath):
        path = path.as_posix()
    elif isinstance(path, os.PathLike):
        path = os.fspath(path)
    if not isinstance(path, str):
        raise ConfigError(
            f"path={path!r:.80} is not allowed: a path inside is text or a pathlib path, not "
            f"{type(path).__name__}."
        )
    if not path or "\0" in path:
        raise ConfigError(f"path={path!r:.80} is not allowed: it is empty or holds NUL.")
    return path if path.startswith("/") else f"{base.rstrip('/')}/{path}"


def plain(path: str) -> str:
    """An absolute path without what says nothing: ``.`` and doubled slashes."""
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


def count(name: str, value: object) -> None:
    """Raise ConfigError unless it is a whole number, 0 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise ConfigError(f"{name}={value!r:.80} is not allowed: a whole number, 0 or more.")


def check_mode(mode: object) -> None:
    """Raise ConfigError unless it is None or permission bits."""
    if mode is None:
        return
    if isinstance(mode, bool) or not isinstance(mode, int) or not 0 <= mode <= 0o7777:
        raise ConfigError(f"mode={mode!r:.80} is not allowed: permission bits, such as 0o644.")


def pieces(data: object) -> Iterable[bytes]:
    """What is to be written, as pieces of bytes. Raises ConfigError."""
    if isinstance(data, (bytes, bytearray, memoryview)):
        return (bytes(data),)
    if hasattr(data, "read"):
        return iter(lambda: _piece(data.read(MIB)), b"")
    if isinstance(data, Iterable) and not isinstance(data, str):
        return map(_piece, data)
    raise ConfigError(
        "data is bytes, a file opened for reading bytes, or an iterable of bytes, not "
        f"{type(data).__name__}; for text use write_text."
    )


def _piece(piece: object) -> bytes:
    if isinstance(piece, (bytes, bytearray, memoryview)):
        return bytes(piece)
    raise ConfigError(f"data holds {type(piece).__name__} where bytes belong; encode text first.")
