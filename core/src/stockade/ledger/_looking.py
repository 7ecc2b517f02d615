"""Where ``gc`` looks: at each place where a record says that its sandbox lives, and at those
to which the walls lead now (C9)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent import futures

import attrs

from stockade._leftover import Leftover
from stockade._place import Place
from stockade.errors import StockadeError
from stockade.ledger._judging import Look
from stockade.ledger._sqlite import LedgerRecord
from stockade.selection._alternatives import each
from stockade.selection._spec import Preference
from stockade.system.threads import Narrow, Workers, bounded
from stockade.values.shown import named
from stockade.wall import Wall

__all__ = ["Found", "Sites", "WallAt"]

_log = logging.getLogger(__name__)

#: How long a wall may take to list what is there, and to say where it looks.
_LIST_SECONDS, _PLACE_SECONDS = 30.0, 15.0
#: Places that are looked at at the same time.
_AT_ONCE = 16


@attrs.frozen
class Found:
    """One sandbox that a wall listed."""

    name: str
    wall: Wall
    leftover: Leftover


@attrs.define(eq=False)
class _Site:
    """One place of one provider."""

    name: str
    wall: Wall
    wanted: bool  #: by a record or by the caller: what fails there is reported
    listed: list[Leftover] | None = None

    @property
    def mute(self) -> bool:
        return type(self.wall).leftovers is Wall.leftovers


_Key = tuple[str, str]
#: The wall of a provider string, looking at a place alone; at None if it leads now. Raises
#: StockadeError if there is none, or where it cannot look there.
WallAt = Callable[[str, Place | None], Wall]


class Sites:
    """The places of one pass, each once."""

    def __init__(
        self, workers: Workers, wall_at: WallAt, skipped: Callable[[str, str], None]
    ) -> None:
        """``skipped`` takes the provider and why it was not looked at."""
        self._workers = workers
        self._wall_at = wall_at
        self._skipped = skipped
        self._sites: dict[_Key, _Site] = {}
        self._failed: set[tuple[str, str]] = set()
        self._old: dict[str, _Key] = {}  # of records without a place: where theirs lead now

    def add(self, name: str, wall: Wall, *, wanted: bool) -> _Key | None:
        """Where a wall leads now."""
        try:
            place = bounded(self._workers, wall.place, _PLACE_SECONDS)
        except Exception as error:
            self._leave_out(name, name, error, wanted)
            return None
        key = name, place.word
        self._sites.setdefault(key, _Site(name, wall, wanted))
        return key

    def add_string(self, string: str, *, wanted: bool) -> _Key | None:
        """Where a provider string leads now."""
        name = string.partition(":")[0].partition("?")[0]
        try:
            wall = self._wall_at(string, None)
        except StockadeError as error:
            self._leave_out(name, string, error, wanted)
            return None
        return self.add(name, wall, wanted=wanted)

    def add_named(self, string: str) -> None:
        """Where each wall leads now that a caller's string names."""
        try:
            named_walls = each(Preference.parse(string))
        except StockadeError as error:
            name = string.partition(":")[0].partition("?")[0]
            self._leave_out(name, name, error, wanted=True)
            return
        for spec in named_walls:
            self.add_string(str(spec), wanted=True)

    def add_record(self, record: LedgerRecord) -> None:
        """Where a record's sandbox was made, where that can be reached."""
        place = record.place
        if place is None:
            key = self.add_string(record.string, wanted=True)
            if key is not None:
                self._old[record.session_id] = key
            return
        if place.elsewhere or (record.provider, place.word) in self._sites:
            return
        try:
            wall = self._wall_at(record.string, place)
        except StockadeError as error:
            self._leave_out(record.provider, place.word, error, wanted=True)
            return
        self._sites[record.provider, place.word] = _Site(record.provider, wall, True)

    def _leave_out(self, name: str, where: str, error: Exception, wanted: bool) -> None:
        words = str(error) if isinstance(error, StockadeError) else named(error)
        if not wanted:
            _log.debug("%s was not looked at: %s", name, words)
        elif (name, where) not in self._failed:
            self._failed.add((name, where))
            self._skipped(name, words)

    def look(self) -> list[Found]:
        """What all walls list, asked at the same time; each sandbox once."""
        narrow = Narrow(self._workers, _AT_ONCE)
        sites = sorted(self._sites.values(), key=lambda site: not site.wanted)
        asked = [narrow.submit(lambda site=site: self._list(site)) for site in sites]  # type: ignore[misc]
        futures.wait(asked, _LIST_SECONDS + 5)
        found: dict[tuple[str, str], Found] = {}
        for site, answer in zip(sites, asked, strict=True):
            try:
                site.listed = answer.result(0)
            except Exception as error:
                self._leave_out(site.name, f"list {site.name}", error, site.wanted)
                continue
            for leftover in site.listed:
                one = Found(site.name, site.wall, leftover)
                found.setdefault((leftover.session_id, leftover.handle), one)
        return list(found.values())

    def _list(self, site: _Site) -> list[Leftover]:
        def work() -> list[Leftover]:
            return list(site.wall.leftovers())

        return bounded(self._workers, work, _LIST_SECONDS)

    def look_of(self, record: LedgerRecord) -> Look:
        """How sure it is that a record's sandbox is gone which nobody listed."""
        place = record.place
        if place is not None and place.elsewhere:
            return Look.FAR
        where = (record.provider, "" if place is None else place.word)
        site = self._sites.get(self._old.get(record.session_id, where))
        if site is None or site.listed is None:
            return Look.AWAY
        if site.mute:
            return Look.MUTE
        if place is None:  # one that needs no process may live where nobody knows any more
            return Look.FAR if record.durable else Look.SEEN
        return Look.SEEN if place.sure else Look.FAR
