"""Ending every session of a runtime at the same time, within a bound."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable

from stockade.sessions._opening import Openings
from stockade.sessions._registry import SessionRecord, SessionRegistry
from stockade.system.threads import Workers, all_at_once

__all__ = ["Closing"]

_log = logging.getLogger(__name__)

#: Sessions of one kind of wall that are ended at the same time: an engine gets slower
#: with more.
_AT_ONCE = 64
_LOOK_SECONDS = 0.05


class Closing:
    """Ends all sessions of one runtime."""

    def __init__(
        self,
        workers: Workers,
        registry: SessionRegistry,
        openings: Openings,
        let_go: Callable[[SessionRecord], None],
    ) -> None:
        """``let_go`` ends one session, or leaves it to others; it raises nothing."""
        self._workers = workers
        self._registry = registry
        self._openings = openings
        self._let_go = let_go

    def close_all(self, seconds: float) -> None:
        """End all within that time; those that are being opened are ended too."""
        until = time.monotonic() + seconds
        tried: set[str] = set()
        while True:
            new = [r for r in self._registry.records() if r.session_id not in tried]
            tried.update(record.session_id for record in new)
            self._end(new, until)
            # What is being opened just now comes into the registry, or is removed.
            if not new and (self._openings.wait(0) or time.monotonic() >= until):
                break
            self._openings.wait(min(_LOOK_SECONDS, until - time.monotonic()))
        left = [r for r in self._registry.records() if r.session_id in tried]
        if left:
            _log.warning("%d sessions could not be ended within %g s", len(left), seconds)

    def _end(self, records: list[SessionRecord], until: float) -> None:
        """Each kind of wall for itself, so that one which hangs holds no other up."""
        walls: dict[str, list[Callable[[], object]]] = {}
        for record in records:
            walls.setdefault(record.provider, []).append(functools.partial(self._let_go, record))
        left = until - time.monotonic()
        calls = [
            functools.partial(all_at_once, self._workers, ends, left, width=_AT_ONCE)
            for ends in walls.values()
        ]
        all_at_once(self._workers, calls, left, width=len(calls))
