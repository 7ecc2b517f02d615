"""The provider that a project's file names: ``stockade.toml`` or ``pyproject.toml``.

Whoever fills a folder writes such a file, and people stand in folders that others have filled just
when they run code that they don't trust. So the command line alone reads it, only as a file of this
user's (or root's), and what it says may choose a wall and tighten its limits, and nothing else
(:class:`stockade.selection._spec.Preference`, ``restricted``).
"""

from __future__ import annotations

import importlib
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stockade.errors import ConfigError, ProviderStringError
from stockade.selection._spec import Preference
from stockade.values.options import nearest

__all__ = ["find"]

#: Looked for in each folder, in this order.
_NAMES = ("stockade.toml", "pyproject.toml")
#: A file past this is none that somebody wrote.
_MOST_BYTES = 1 << 20
#: Those that may stand in it: ``serve`` is the server's table, which nobody reads here.
_KEYS = ("provider", "serve")
_NEVER_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_OTHERWISE = "mend it, or name the provider with -p or STOCKADE_PROVIDER"


def find(start: Path, note: Callable[[str], None]) -> Preference | None:
    """What the nearest file from ``start`` upwards names; None where none names a provider.

    ``note`` is called with a line about a file that names one and is not used. Raises
    ConfigError for a file of this user's that cannot be read: another wall than it names would
    be a surprise.
    """
    for folder in (start, *start.parents):
        for name in _NAMES:
            found = _named_by(folder / name, note)
            if found is not None:
                return found
    return None


def _named_by(path: Path, note: Callable[[str], None]) -> Preference | None:
    try:
        data, foreign = _read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        note(f"{path} is not used: {error.strerror}")
        return None
    if b"stockade" not in data and path.name == "pyproject.toml":
        return None
    if not foreign:
        return _understood(path, data)
    try:
        named = _understood(path, data)
    except ConfigError:
        return None
    if named is not None:
        note(f"{path} is not used: {foreign}")
    return None


def _read(path: Path) -> tuple[bytes, str]:
    """The content, and why it is none of this user's; empty where it is no regular file."""
    # Never waits: a FIFO of that name may stand in anybody's folder.
    descriptor = os.open(path, os.O_RDONLY | _NEVER_WAIT)
    with os.fdopen(descriptor, "rb") as file:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            return b"", ""
        foreign = _foreign(info) or _foreign(os.lstat(path))
        return file.read(_MOST_BYTES + 1), foreign


def _foreign(info: os.stat_result) -> str:
    """Why somebody else decides what stands there: of a file, or of a link to it."""
    if not hasattr(os, "geteuid"):  # Windows, where a file's mode says nothing of others
        return ""
    if info.st_uid not in (0, os.geteuid()):
        return f"it belongs to user {info.st_uid}"
    if not stat.S_ISLNK(info.st_mode) and info.st_mode & stat.S_IWOTH:
        return "everybody may write to it"
    return ""


def _understood(path: Path, data: bytes) -> Preference | None:
    table = _table(path, _toml(path, data))
    for key in table:
        if key not in _KEYS:
            near = nearest(key, _KEYS)
            raise ConfigError(f"{path}: there is no key {key!r}{near}; {_OTHERWISE}.")
    given = table.get("provider")
    if given is None:
        return None
    if not isinstance(given, (str, list)):
        raise ConfigError(f"{path}: provider is a string or a list of strings; {_OTHERWISE}.")
    try:
        return Preference.parse(given, source=str(path), restricted=True)
    except ProviderStringError as error:
        raise ConfigError(f"{path}: {error}") from None


def _table(path: Path, content: Mapping[str, Any]) -> Mapping[str, Any]:
    """``[tool.stockade]``; in a ``stockade.toml`` the top level, too."""
    tools = content.get("tool", {})
    table = tools.get("stockade", {}) if isinstance(tools, dict) else tools
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: [tool.stockade] is a table; {_OTHERWISE}.")
    if path.name == "pyproject.toml":
        return table
    own = {key: value for key, value in content.items() if key != "tool"}
    if own and table:
        raise ConfigError(
            f"{path}: write the keys at the top level or in [tool.stockade], and not in both."
        )
    return own or table


def _toml(path: Path, data: bytes) -> Mapping[str, Any]:
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"{path} is larger than {_MOST_BYTES} bytes; {_OTHERWISE}.")
    parse = _parser(path)
    try:
        content: Mapping[str, Any] = parse(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is no TOML: {error}; {_OTHERWISE}.") from None
    return content


def _parser(path: Path) -> Callable[[str], Mapping[str, Any]]:
    """The standard library's since Python 3.11; before, that of the extra ``cli``."""
    for name in ("tomllib", "tomli"):
        try:
            loads: Callable[[str], Mapping[str, Any]] = importlib.import_module(name).loads
        except ModuleNotFoundError:
            continue
        return loads
    raise ConfigError(
        f"{path} cannot be read: Python before 3.11 needs tomli for that; run: pip install "
        "'stockade[cli]', or name the provider with -p or STOCKADE_PROVIDER."
    )
