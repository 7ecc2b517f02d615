"""From one alternative of a preference to a wall with its configuration, checked (A2, A6, B1)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import attrs

from stockade._proposals import loosened
from stockade.capabilities import Capabilities, Isolation
from stockade.config import Limits, SandboxConfig
from stockade.errors import ConfigError, PluginError, StockadeError
from stockade.selection._discovery import WallLoader
from stockade.selection._probing import PROBE_SECONDS
from stockade.selection._spec import ProviderString, split_options
from stockade.system.threads import Workers, bounded
from stockade.values.shown import named
from stockade.wall import Wall

__all__ = ["Candidate", "Candidates"]


@attrs.frozen(kw_only=True)
class Candidate:
    """A wall that may be taken: loaded, not yet asked whether it is available."""

    spec: ProviderString
    wall: Wall
    config: SandboxConfig
    #: Fields that stand at the wall's own defaults, since nobody set them; None if the
    #: limit is fixed elsewhere (B6).
    lowered: Mapping[str, Any]


class Candidates:
    """Makes candidates for one runtime, of the walls that it loads."""

    def __init__(self, walls: WallLoader, workers: Workers) -> None:
        self._walls = walls
        self._workers = workers

    def build(
        self,
        spec: ProviderString,
        config: Mapping[str, Any],
        *,
        alone: bool = True,
        restricted_by: str = "",
    ) -> Candidate:
        """Load the wall that ``spec`` names, and work out its configuration.

        ``config`` holds what the caller set besides, which overrides the string's options.
        ``alone``: the wall is the only one that was named. ``restricted_by`` names the
        file that the string stands in, which may only tighten. Raises ProviderStringError,
        ConfigError, ProviderNotFoundError, DuplicateProviderError, PluginError.
        """
        wall_class = self._walls.load(spec.name)
        changes, options = split_options(spec, wall_class.options)
        if restricted_by:
            _check_restricted(spec, wall_class, changes, options, restricted_by)
        asked = {**changes, **config}
        wall = self._made(spec, wall_class, options)
        if restricted_by and wall.isolation is Isolation.NONE:
            raise _refused(spec, restricted_by, "names a wall that isolates nothing")
        # In a list a failed engine must not lead from a wall to none. So the trait's defaults
        # apply there, which a wall that isolates nothing cannot hold (A7).
        defaults = _defaults(spec.name, wall) if alone else {}
        defaults = {**defaults, **dict.fromkeys(_fixed_elsewhere(spec.name, wall))}
        lowered = {field: value for field, value in defaults.items() if field not in asked}
        return Candidate(
            spec=spec,
            wall=wall,
            config=SandboxConfig().with_(**{**lowered, **asked}),
            lowered=lowered,
        )

    def _made(
        self, spec: ProviderString, wall_class: type[Wall], options: Mapping[str, Any]
    ) -> Wall:
        try:
            wall = bounded(self._workers, lambda: wall_class(spec.target, options), PROBE_SECONDS)
            _check_declared(spec.name, wall)
            wall.texts = {option: spec.options[option] for option in options}
        except StockadeError:
            raise
        except Exception as error:
            raise PluginError(f"provider {spec.name!r} cannot be set up: {named(error)}") from error
        return wall

    def embedded(self) -> tuple[list[str], list[str]]:
        """The installed walls that call themselves embedded: the project's own, and others."""
        return self._walls.embedded()

    def isolation(self, name: str) -> object:
        """What a wall's class says that isolates it. Raises what loading it raises."""
        return self._walls.load(name).isolation


def _check_declared(name: str, wall: Wall) -> None:
    """Raise PluginError or TypeError if the wall's own words about itself are wrong."""
    try:
        have, isolation = wall.capabilities, wall.isolation
    except ConfigError as error:
        raise PluginError(
            f"provider {name!r} states its capabilities wrongly: {error} Its author must mend them."
        ) from error
    if not isinstance(have, Capabilities):
        raise TypeError(f"its capabilities are {have!r:.80}, not a Capabilities")
    if not isinstance(isolation, Isolation):
        raise TypeError(f"its isolation is {isolation!r:.80}, not an Isolation")


def _defaults(name: str, wall: Wall) -> Mapping[str, Any]:
    """The wall's own defaults, where it may have any (B1)."""
    if not wall.defaults:
        return {}
    if wall.isolation is not Isolation.NONE:
        raise PluginError(
            f"provider {name!r} says that it isolates ({wall.isolation}) and still lowers the "
            f"defaults of {', '.join(wall.defaults)}; its author must remove Wall.defaults, and "
            "core refuses what the wall cannot hold."
        )
    try:
        SandboxConfig().with_(**wall.defaults)
    except StockadeError as error:
        raise PluginError(
            f"provider {name!r}: its Wall.defaults are wrong: {error} Its author must mend them."
        ) from error
    return wall.defaults


def _fixed_elsewhere(name: str, wall: Wall) -> Collection[str]:
    """The fields whose limit something else fixes, where a wall may say so (B6)."""
    allowed = [field.name for field in attrs.fields(Limits)]
    for field in wall.fixed_elsewhere:
        if field not in allowed:
            raise PluginError(
                f"provider {name!r} says that {field!r} is fixed elsewhere, which only limits can "
                f"be ({', '.join(allowed)}); its author must mend Wall.fixed_elsewhere."
            )
    return wall.fixed_elsewhere


# -- what a project's file may choose ------------------------------------------


def _check_restricted(
    spec: ProviderString,
    wall: type[Wall],
    changes: Mapping[str, Any],
    options: Mapping[str, Any],
    file: str,
) -> None:
    """Refuse what opens the wall: the code behind it may come from where the file does."""
    if spec.target is not None and not wall.target_is_name:
        raise _refused(spec, file, f"names a target, {spec.target!r}, that may be a path of yours")
    if options:
        raise _refused(spec, file, f"sets {', '.join(options)}, which the wall alone understands")
    plain = SandboxConfig()
    opened = loosened(plain.with_(**changes), plain)
    if opened:
        raise _refused(spec, file, f"asks for more than the defaults allow ({', '.join(opened)})")


def _refused(spec: ProviderString, file: str, what: str) -> ConfigError:
    return ConfigError(
        f"{file}: {spec.label!r} {what}. A file that was found in a folder may choose a wall and "
        "tighten its limits, no more; name the provider yourself, with -p or STOCKADE_PROVIDER."
    )
