"""Selecting for one runtime: a preference made a wall that is there, with its configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from stockade._place import Place
from stockade.capabilities import Feature
from stockade.errors import ProviderStringError, ProviderUnavailableError, StockadeError
from stockade.selection._alternatives import LOCAL, Alternatives, check_holds
from stockade.selection._candidates import Candidate, Candidates
from stockade.selection._discovery import InstalledPlugin, WallLoader, installed
from stockade.selection._probing import PROBE_SECONDS, Probing
from stockade.selection._spec import Preference, ProviderString
from stockade.system.threads import Workers, bounded
from stockade.values.shown import named
from stockade.wall import Availability, Wall

__all__ = ["ProviderInfo", "Selector", "default_preference"]


def default_preference() -> Preference:
    """What a program gets that names no provider: STOCKADE_PROVIDER, else ``local``.

    The command line looks for a project's file between the two; a program does not, since
    the person who fills its working folder would choose its wall.
    """
    text = os.environ.get("STOCKADE_PROVIDER")
    if not text:
        return Preference((ProviderString(LOCAL),), source="the default")
    try:
        return Preference.parse(text, source="STOCKADE_PROVIDER")
    except ProviderStringError as error:
        raise ProviderStringError(f"STOCKADE_PROVIDER: {error}") from None


@attrs.frozen(kw_only=True)
class ProviderInfo:
    """One installed provider, looked at: for ``stockade providers`` and ``doctor``."""

    name: str
    distribution: str
    version: str
    isolation: str | None = None
    summary: str = ""
    available: bool = False
    broken: bool = False  #: it cannot be loaded at all (A5, A6)
    reason: str = ""  #: why it is not available, or broken
    availability: Availability | None = None


class Selector:
    """What one runtime selects with: the walls that it loaded, its threads, its probes."""

    def __init__(self, walls: WallLoader, workers: Workers, retries: Callable[[], int]) -> None:
        self.candidates = Candidates(walls, workers)
        self.probing = Probing(workers, retries)
        self._workers = workers

    def select(
        self,
        wanted: Preference,
        config: Mapping[str, Any],
        *,
        check_available: bool = False,
        needs: Sequence[Feature | str] = (),
    ) -> tuple[Candidate, Alternatives | None]:
        """The wall that is taken, and the alternatives that are left where several were named.

        Raises what :func:`stockade.provider` raises.
        """
        if len(wanted.alternatives) > 1 or wanted.alternatives[0].name == LOCAL:
            others = Alternatives(wanted, self.candidates, self.probing, config, needs)
            return others.next(), others
        restricted_by = wanted.source if wanted.restricted else ""
        found = self.candidates.build(wanted.alternatives[0], config, restricted_by=restricted_by)
        if check_available:
            self.probing.require(found.spec.name, found.wall)
        if needs:
            check_holds(found, needs)
        return found, None

    def select_at(
        self, wanted: Preference, place: Place | None, config: Mapping[str, Any]
    ) -> tuple[Candidate, Alternatives | None]:
        """As ``select``, and the wall looks at that place alone (C9); None: where it leads now.

        Raises ProviderUnavailableError, too, where that place cannot be looked at from here.
        """
        found, others = self.select(wanted, config)
        if place is None:
            return found, others
        if place.elsewhere:
            raise ProviderUnavailableError(
                f"the sandbox lives on another machine, at {place.word or 'one place there'!r}; go "
                "on there."
            )
        try:
            bounded(self._workers, lambda: found.wall.look_at(place), PROBE_SECONDS)
        except StockadeError:
            raise
        except Exception as error:
            raise ProviderUnavailableError(
                f"{found.spec.name} cannot look at {place.word!r}: {named(error)}"
            ) from error
        return found, others

    def wall_at(self, string: str, place: Place | None) -> Wall:
        """The wall of a string, looking at that place alone; None: where it leads now."""
        return self.select_at(Preference.parse(string), place, {})[0].wall

    def inspect(self, names: Sequence[str] | None = None) -> list[ProviderInfo]:
        """Load and probe installed providers, each on its own; never raises (A6, A8)."""
        return [self._inspect(one) for one in installed() if names is None or one.name in names]

    def _inspect(self, found: InstalledPlugin) -> ProviderInfo:
        info = ProviderInfo(name=found.name, distribution=found.distribution, version=found.version)
        if found.name == LOCAL:
            why = (
                f"{found.where}: the name {LOCAL!r} is stockade's own; its author must choose "
                "another"
            )
            return attrs.evolve(info, broken=True, reason=why)
        try:
            chosen = self.candidates.build(ProviderString(found.name), {})
        except StockadeError as error:
            return attrs.evolve(info, broken=True, reason=str(error))
        answer = self.probing.look(found.name, chosen.wall)
        return attrs.evolve(
            info,
            isolation=str(chosen.wall.isolation),
            summary=chosen.wall.summary,
            available=bool(answer),
            reason=answer.reason,
            availability=answer,
        )
