"""Every installed plug-in, looked at: for ``stockade plugins``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import attrs

from stockade import plugin as api
from stockade.errors import StockadeError
from stockade.policies._hooks import Hooks, disabled_names, is_disabled
from stockade.selection._discovery import InstalledPlugin, installed

__all__ = ["PluginInfo", "inspect_plugins"]


@attrs.frozen(kw_only=True)
class PluginInfo:
    """One entry point of either group."""

    group: str  #: ``stockade.providers`` or ``stockade.plugins``
    name: str
    distribution: str
    version: str
    hooks: tuple[str, ...] = ()  #: those that it implements, where it can be loaded
    broken: bool = False  #: it cannot be used; the reason says why
    blocked: bool = False  #: STOCKADE_DISABLED_PLUGINS names it, so it was not imported
    reason: str = ""


def inspect_plugins(disabled: Iterable[str] | None = None) -> list[PluginInfo]:
    """Load each installed plug-in on its own, in no runtime, and say what became of it.

    ``disabled`` names those that are blocked; by default those that the environment names.
    Never raises for what a plug-in does.
    """
    names = disabled_names() if disabled is None else frozenset(disabled)
    providers, plugins = installed(api.PROVIDER_GROUP), installed(api.PLUGIN_GROUP)
    claims = Counter(found.name for found in providers)
    return [_inspect(found, names, claims) for found in (*providers, *plugins)]


def _inspect(found: InstalledPlugin, names: frozenset[str], claims: Counter[str]) -> PluginInfo:
    info = PluginInfo(
        group=found.group,
        name=found.name,
        distribution=found.distribution,
        version=found.version,
    )
    if is_disabled(found, names):
        return attrs.evolve(info, blocked=True, reason="STOCKADE_DISABLED_PLUGINS names it")
    alone = Hooks(discover=False, disabled=())
    try:
        hooks = alone.admit(found)
        if found.group == api.PROVIDER_GROUP:
            alone.wall(found)
    except StockadeError as error:
        return attrs.evolve(info, broken=True, reason=str(error))
    if found.group == api.PROVIDER_GROUP and claims[found.name] > 1:
        reason = "other distributions claim the same name; uninstall all but one"
        return attrs.evolve(info, hooks=hooks, broken=True, reason=reason)
    return attrs.evolve(info, hooks=hooks)
