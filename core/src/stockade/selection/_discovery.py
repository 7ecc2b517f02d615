"""Which providers are installed, and loading one by its name (A3 to A6).

Listing reads the metadata of distributions and imports nothing of theirs;
loading imports one entry point, checks it and asks its hook for the wall.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import importlib_metadata

from stockade import plugin as api
from stockade.errors import (
    DuplicateProviderError,
    PluginError,
    ProviderNotFoundError,
)
from stockade.system.forks import FreshLock
from stockade.system.installing import install
from stockade.values.options import nearest
from stockade.values.shown import named
from stockade.wall import Wall

__all__ = [
    "OWN_EMBEDDED",
    "PUBLISHED",
    "InstalledPlugin",
    "WallLoader",
    "embedded",
    "installed",
    "load",
]

#: Names that the project publishes, and the distributions that bring them (A4).
PUBLISHED = {
    name: f"stockade-{name}"
    for name in (
        "bubblewrap",
        "chaos",
        "docker",
        "e2b",
        "gvisor",
        "hyperlight",
        "kata",
        "kubernetes",
        "landlock",
        "microsandbox",
        "replay",
    )
}

#: The project's embedded walls, the strongest first: what ``local`` tries before all others.
OWN_EMBEDDED = ("bubblewrap", "landlock")


@attrs.frozen
class InstalledPlugin:
    """One entry point, as its distribution's metadata states it; nothing is imported."""

    name: str
    distribution: str
    version: str
    value: str  #: ``module`` or ``module:object``
    group: str = api.PROVIDER_GROUP  #: the entry-point group, the providers' or the plug-ins'
    _entry_point: Any = attrs.field(repr=False, eq=False, default=None)

    def load(self) -> Any:
        """Import it and return the module or object that it names."""
        return self._entry_point.load()

    @property
    def id(self) -> str:
        """Its name in the plug-in manager and in messages, unlike any other's."""
        kind = " (provider)" if self.group == api.PROVIDER_GROUP else ""
        return f"{self.distribution}:{self.name}{kind}"

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
                group,
                entry,
            )
        )
    return sorted(found, key=lambda plugin: (plugin.name, plugin.distribution))


def embedded() -> tuple[list[str], list[str]]:
    """The installed walls that call themselves embedded: the project's own in their order, and
    the others by name. From metadata alone; imports no plug-in (A3).

    Its distribution states a name in both groups, ``stockade.providers`` and
    ``stockade.embedded``; what only one of them has does not count.
    """
    walls = {(found.name, found.distribution) for found in installed()}
    stated = {
        found.name
        for found in installed(api.EMBEDDED_GROUP)
        if (found.name, found.distribution) in walls
    }
    own = [name for name in OWN_EMBEDDED if name in stated]
    return own, sorted(stated.difference(own))


def load(plugin: InstalledPlugin) -> object:
    """Import a plug-in and check its API version; raises PluginError, chained (A6)."""
    try:
        module: object = plugin.load()
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"{plugin.where}: importing {plugin.value!r} failed: {named(error)}. Reinstall or "
            f"remove {plugin.distribution}, or go on without it: "
            f"STOCKADE_DISABLED_PLUGINS={plugin.name}."
        ) from error
    _check_version(plugin, module)
    return module


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
        f"Update {update}: {install(update, upgrade=True)}"
    )


class WallLoader:
    """Wall classes by entry-point name, each loaded once; safe from any thread."""

    def __init__(
        self,
        register: Callable[[InstalledPlugin], type[Wall]],
        blocked: Callable[[InstalledPlugin], bool],
    ) -> None:
        """``register`` loads what was found and gives the class that it registers; ``blocked``
        says which of two that claim one name is out of the question."""
        self._register = register
        self._blocked = blocked
        self._lock = FreshLock()
        self._walls: dict[str, type[Wall]] = {}
        self._embedded: tuple[list[str], list[str]] | None = None

    def embedded(self) -> tuple[list[str], list[str]]:
        """As :func:`embedded`, looked up once: it takes as long as a sandbox does to start."""
        if self._embedded is None:
            self._embedded = embedded()
        return self._embedded

    def add(self, name: str, wall: type[Wall]) -> None:
        """Let a name stand for this class, whatever is installed; for tests."""
        with self._lock:
            self._walls[name] = wall

    @contextmanager
    def lent(self, name: str, wall: type[Wall]) -> Iterator[None]:
        """Inside of it a name stands for this class, as with ``add``; then for what it did."""
        with self._lock:
            before = self._walls.get(name)
            self._walls[name] = wall
        try:
            yield
        finally:
            with self._lock:
                if before is None:
                    self._walls.pop(name, None)
                else:
                    self._walls[name] = before

    def load(self, name: str) -> type[Wall]:
        """The class that the one provider ``name`` registers, importing it alone (A3).

        Raises ProviderNotFoundError, DuplicateProviderError, PluginError.
        """
        with self._lock:
            wall = self._walls.get(name)
        if wall is None:
            # Outside the lock: an import may take long, or load another provider.
            wall = self._register(_only(name, self._blocked))
            with self._lock:
                wall = self._walls.setdefault(name, wall)
        return wall


def _only(name: str, blocked: Callable[[InstalledPlugin], bool]) -> InstalledPlugin:
    everything = installed()
    matches = [plugin for plugin in everything if plugin.name == name]
    left = [plugin for plugin in matches if not blocked(plugin)]
    if matches and len(left) <= 1:
        return left[0] if left else matches[0]
    if matches:
        both = " and ".join(f"{m.distribution} {m.version} ({m.value})" for m in matches)
        raise DuplicateProviderError(
            f"provider {name!r} is claimed by {both}; neither is used. Uninstall all "
            f"but one, or block it: STOCKADE_DISABLED_PLUGINS={matches[0].distribution}."
        )
    names = sorted({plugin.name for plugin in everything})
    have = ", ".join(names) or "none"
    if name in PUBLISHED:
        raise ProviderNotFoundError(
            f"provider {name!r} is not installed; run: {install(PUBLISHED[name])}; "
            f"installed: {have}"
        )
    raise ProviderNotFoundError(
        f"no installed distribution registers a provider {name!r}"
        f"{nearest(name, {*names, *PUBLISHED})}; installed: {have}. "
        "Install the distribution that brings it, or choose one of these."
    )
