"""Ending every session of a runtime at the same time, within a bound."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from stockade.errors import CapacityError, StockadeError
from stockade.results import SessionStatus
from stockade.sessions._detaching import detach
from stockade.sessions._registry import SessionRecord
from stockade.system.threads import all_at_once

if TYPE_CHECKING:
    from stockade.sessions._runtime import Runtime

__all__ = ["close_all"]

_log = logging.getLogger(__name__)

#: Sessions of one kind of wall that are ended at the same time: an engine gets slower
#: with more.
_AT_ONCE = 64
_LOOK_SECONDS = 0.05


def close_all(runtime: Runtime, seconds: float) -> None:
    """What ``Runtime.close_all`` says; those that are being opened are ended too."""
    until = time.monotonic() + seconds
    runtime.closing += 1
    runtime.capacity.refuse_waiting(
        CapacityError("the sessions of this process are being ended; none is opened.")
    )
    tried: set[str] = set()
    try:
        while True:
            new = [r for r in runtime.registry.records() if r.session_id not in tried]
            tried.update(record.session_id for record in new)
            _end(runtime, new, until)
            # What is being opened just now comes into the registry, or is removed.
            if not new and (runtime.openings.wait(0) or time.monotonic() >= until):
                break
            runtime.openings.wait(min(_LOOK_SECONDS, until - time.monotonic()))
    finally:
        runtime.closing -= 1
    left = [r for r in runtime.registry.records() if r.session_id in tried]
    if left:
        _log.warning("%d sessions could not be ended within %g s", len(left), seconds)


def _end(runtime: Runtime, records: list[SessionRecord], until: float) -> None:
    """Each kind of wall for itself, so that one which hangs holds no other up."""
    walls: dict[str, list[Callable[[], object]]] = {}
    for record in records:
        end = functools.partial(_let_go, runtime, record)
        walls.setdefault(record.provider, []).append(end)
    left = until - time.monotonic()
    calls = [
        functools.partial(all_at_once, runtime.workers, ends, left, width=_AT_ONCE)
        for ends in walls.values()
    ]
    all_at_once(runtime.workers, calls, left, width=len(calls))


def _let_go(runtime: Runtime, record: SessionRecord) -> None:
    """What becomes of a session when its process ends."""
    if not record.config.durable or record.status is SessionStatus.FAILED:
        runtime.expire(record, "shutdown")
        return
    try:
        detach(runtime, record)
    except StockadeError as error:
        _log.warning("session %s was not let go of in order: %s", record.session_id, error)
