"""Which providers are installed, and loading one by its name (A3 to A6).

Listing reads the metadata of distributions and imports nothing of theirs;
loading imports one entry point, checks it and asks its hook for the wall.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import importlib_metadata
import pluggy

from stockade import plugin as api
from stockade.errors import (
    DuplicateProviderError,
    PluginError,
    ProviderNotFoundError,
    StockadeError,
)
from stockade.forks import FreshLock
from stockade.options import nearest
from stockade.shown import named
from stockade.wall import Wall

__all__ = ["PUBLISHED", "InstalledPlugin", "WallLoader", "installed", "load_module"]

#: Names that the project publishes, and the distributions that bring them (A4).
PUBLISHED = {
    name: f"stockade-{name}"
    for name in (
        "bubblewrap",
        "docker",
        "gvisor",
        "hyperlight",
        "kata",
        "kubernetes",
        "landlock",
        "microsandbox",
    )
}


@attrs.frozen
class InstalledPlugin:
    """One entry point, as its distribution's metadata states it; nothing is imported."""

    name: str
    distribution: str
    version: str
    value: str  #: ``module`` or ``module:object``
    _entry_point: Any = attrs.field(repr=False, eq=False, default=None)

    def load(self) -> Any:
        """Import it and return the module or object that it names."""
        return self._entry_point.load()

    @property
    def where(self) -> str:
        return f"distribution {self.distribution} {self.version}, entry point {self.name!r}"


def installed(group: str = api.PROVIDER_GROUP) -> list[InstalledPlugin]:
    """The entry points of ``group``, sorted by name; two of one name are both there (A5)."""
    found = []
    for entry in importlib_metadata.entry_points(group=group):
        dist = entry.dist
        found.append(
            InstalledPlugin(
                entry.name,
                dist.name if dist is not None else "unknown",
                dist.version if dist is not None else "",
                entry.value,
                entry,
            )
        )
    return sorted(found, key=lambda plugin: (plugin.name, plugin.distribution))


def load_module(plugin: InstalledPlugin, hooks: Iterable[type]) -> pluggy.PluginManager:
    """Import a plug-in, check its API version and hooks, and register it alone (A6).

    Returns a manager that holds nothing else; raises PluginError, chained.
    """
    try:
        module = plugin.load()
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"{plugin.where}: importing {plugin.value!r} failed: {named(error)}. "
            f"Reinstall or remove {plugin.distribution}."
        ) from error
    _check_version(plugin, module)
    manager = pluggy.PluginManager("stockade")
    for specification in hooks:
        manager.add_hookspecs(specification)
    try:
        manager.register(module, plugin.name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(
            f"{plugin.where}: it implements a hook that stockade does not have, or with other "
            f"arguments: {error}. See stockade.plugin for the hooks; update {plugin.distribution}."
        ) from error
    return manager


def _check_version(plugin: InstalledPlugin, module: object) -> None:
    stated = getattr(module, "STOCKADE_API_VERSION", None)
    ours = api.PLUGIN_API_VERSION
    if stated == ours and type(stated) is int:
        return
    if type(stated) is not int:
        raise PluginError(
            f"{plugin.where}: {plugin.value!r} does not state STOCKADE_API_VERSION as a whole "
            f"number (this stockade speaks {ours}); its author must add it."
        )
    update = "stockade" if stated > ours else plugin.distribution
    raise PluginError(
        f"{plugin.where}: it speaks plug-in API version {stated}, this stockade speaks {ours}. "
        f"Update {update}: pip install --upgrade {update}"
    )


class WallLoader:
    """Wall classes by entry-point name, each loaded once; safe from any thread."""

    def __init__(self) -> None:
        self._lock = FreshLock()
        self._walls: dict[str, type[Wall]] = {}

    def load(self, name: str) -> type[Wall]:
        """The class that the one provider ``name`` registers, importing it alone (A3).

        Raises ProviderNotFoundError, DuplicateProviderError, PluginError.
        """
        with self._lock:
            wall = self._walls.get(name)
        if wall is None:
            # Outside the lock: an import may take long, or load another provider.
            wall = _wall_of(_only(name))
            with self._lock:
                wall = self._walls.setdefault(name, wall)
        return wall


def _only(name: str) -> InstalledPlugin:
    everything = installed()
    matches = [plugin for plugin in everything if plugin.name == name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        both = " and ".join(f"{m.distribution} {m.version} ({m.value})" for m in matches)
        raise DuplicateProviderError(
            f"provider {name!r} is claimed by {both}; neither is used. Uninstall all but one."
        )
    names = sorted({plugin.name for plugin in everything})
    have = ", ".join(names) or "none"
    if name in PUBLISHED:
        raise ProviderNotFoundError(
            f"provider {name!r} is not installed; run: pip install {PUBLISHED[name]} "
            f"(installed: {have})"
        )
    raise ProviderNotFoundError(
        f"no installed distribution registers a provider {name!r}"
        f"{nearest(name, {*names, *PUBLISHED})}; installed: {have}. "
        "Install the distribution that brings it, or choose one of these."
    )


def _wall_of(plugin: InstalledPlugin) -> type[Wall]:
    manager = load_module(plugin, (api.ProviderHooks, api.SystemHooks))
    try:
        wall = manager.hook.stockade_wall()
    except StockadeError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"{plugin.where}: its stockade_wall hook failed: {named(error)}. "
            f"Reinstall or remove {plugin.distribution}."
        ) from error
    if not (isinstance(wall, type) and issubclass(wall, Wall)):
        given = "nothing" if wall is None else repr(wall)
        raise PluginError(
            f"{plugin.where}: its stockade_wall hook gave {given}, not a subclass of "
            "stockade.wall.Wall; mark the function with @hookimpl and return the class."
        )
    return wall
