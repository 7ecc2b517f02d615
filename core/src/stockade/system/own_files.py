"""Files that decide something, such as a wall, a mount or whose keys count.

The person who fills a folder writes such a file, and people stand in folders that others have
filled. So its reader gets the content together with the reason why another user decides on it.
"""

from __future__ import annotations

import importlib
import os
import stat
from collections.abc import Callable
from typing import Any

from stockade.errors import ConfigError
from stockade.system.installing import install

__all__ = ["parse_toml", "read_own"]

#: A file past this is none that somebody wrote.
_MOST_BYTES = 1 << 20
#: A FIFO of that name may stand in anybody's folder.
_NEVER_WAIT = getattr(os, "O_NONBLOCK", 0)


def read_own(path: str | os.PathLike[str], *, group_writes: bool) -> tuple[bytes, str]:
    """The content, and why the file is not used: empty if it is this user's (or root's).

    ``group_writes``: whether its group may write to it. The content of what is no regular file
    is empty; of a file that is too long comes more than ``parse_toml`` takes. Raises OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | _NEVER_WAIT)
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            return b"", "it is no file"
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(_MOST_BYTES + 1)
    finally:
        os.close(descriptor)
    if not hasattr(os, "geteuid"):  # Windows, where a file's mode says nothing of others
        return data, ""
    for found in (info, os.lstat(path)):  # of the file, and of a link to it
        if found.st_uid not in (0, os.geteuid()):
            return data, f"it belongs to user {found.st_uid}"
    if info.st_mode & (stat.S_IWOTH if group_writes else stat.S_IWOTH | stat.S_IWGRP):
        who = "everybody" if info.st_mode & stat.S_IWOTH else "its group"
        return data, f"{who} may write to it; run: chmod go-w {path}"
    return data, ""


def parse_toml(path: str | os.PathLike[str], data: bytes, instead: str) -> dict[str, Any]:
    """A file's tables. Raises ConfigError, which says to mend the file, or ``instead``."""
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"{path} is larger than {_MOST_BYTES} bytes; mend it, or {instead}.")
    parse = _parser(path, instead)
    try:
        return parse(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is no TOML: {error}; mend it, or {instead}.") from None


def _parser(path: str | os.PathLike[str], instead: str) -> Callable[[str], dict[str, Any]]:
    """The standard library's since Python 3.11; before, that of the extra ``cli``."""
    for name in ("tomllib", "tomli"):
        try:
            loads: Callable[[str], dict[str, Any]] = importlib.import_module(name).loads
        except ModuleNotFoundError:
            continue
        return loads
    raise ConfigError(
        f"{path} cannot be read: Python before 3.11 needs tomli for that; run: "
        f"{install('stockade', 'cli')}, or {instead}."
    )
