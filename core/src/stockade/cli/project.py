"""The provider that a project's file names: ``stockade.toml`` or ``pyproject.toml``.

The person who fills a folder writes such a file, and people stand in folders that others have
filled when they run code that they don't trust. So only the command line reads it, and only a file
of this user's (or root's). What it says may choose a wall and tighten its limits, and nothing else
(:class:`stockade.selection._spec.Preference`, ``restricted``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stockade.errors import ConfigError, ProviderStringError
from stockade.selection._spec import Preference
from stockade.system.own_files import parse_toml, read_own
from stockade.values.options import nearest

__all__ = ["find", "named_by", "tables_of_secrets"]

#: Looked for in each folder, in this order.
_NAMES = ("stockade.toml", "pyproject.toml")
#: Those that may stand in it: ``serve`` is the server's table, which nobody reads here, and
#: ``secrets`` counts where the user names the file (:func:`tables_of_secrets`).
_KEYS = ("provider", "serve", "secrets")
_INSTEAD = "name the provider with -p or STOCKADE_PROVIDER"
_OTHERWISE = f"mend it, or {_INSTEAD}"


def find(start: Path, note: Callable[[str], None]) -> Preference | None:
    """What the nearest file from ``start`` upwards names; None if none names a provider.

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


def named_by(path: Path) -> Preference | None:
    """What one file names that the user chose and trusts: it may say all that a provider string
    may; None if it names no provider. Raises ConfigError, OSError."""
    return _understood(path, read_own(path, group_writes=True)[0], restricted=False)


def tables_of_secrets(path: str) -> list[dict[str, Any]]:
    """``[[tool.stockade.secrets]]`` of a file that the user named.

    No file is read for that because of the folder that it is in: its author would choose
    which of the user's keys goes to which host. Raises ConfigError, OSError.
    """
    data, foreign = read_own(path, group_writes=False)
    if foreign:
        raise ConfigError(f"{path} is not used: {foreign}.")
    found = _table(Path(path), parse_toml(path, data, "leave --secrets out")).get("secrets")
    if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
        raise ConfigError(f"{path}: expected [[tool.stockade.secrets]], one table a secret.")
    return found


def _named_by(path: Path, note: Callable[[str], None]) -> Preference | None:
    try:
        data, foreign = read_own(path, group_writes=True)  # a group of one's own is usual
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


def _understood(path: Path, data: bytes, *, restricted: bool = True) -> Preference | None:
    table = _table(path, parse_toml(path, data, _INSTEAD))
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
        return Preference.parse(given, source=str(path), restricted=restricted)
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
