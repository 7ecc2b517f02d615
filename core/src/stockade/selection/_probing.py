"""Asking a wall whether it can serve here and now: in bounded time, and seldom (A8)."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING

from stockade.errors import ProviderUnavailableError
from stockade.system.retries import pauses
from stockade.system.threads import bounded
from stockade.values.shown import named
from stockade.wall import Availability, Check, Wall

if TYPE_CHECKING:
    from stockade.sessions._runtime import Runtime

__all__ = ["PROBE_SECONDS", "look", "require"]

_log = logging.getLogger(__name__)

#: How long a wall may take to say whether it is available (A8).
PROBE_SECONDS = 15.0
#: How long a yes is believed, so that opening many sessions does not probe each time.
PROBE_KEPT_SECONDS = 10.0


def look(runtime: Runtime, name: str, wall: Wall) -> Availability:
    """The checks of the wall's probe; bounded in time, never raises (A8)."""
    try:
        answer: object = bounded(runtime.workers, wall.probe, PROBE_SECONDS)
    except TimeoutError:
        return _no(f"no answer within {PROBE_SECONDS:g} s")
    except Exception as error:
        _log.info("the probe of %s failed", name, exc_info=True)
        return _no(named(error))
    if not isinstance(answer, Availability):
        return _no(f"it returned {answer!r}, not an Availability: report it to its author")
    return answer


def _no(detail: str) -> Availability:
    return Availability((Check("probe", False, detail),))


def require(runtime: Runtime, name: str, wall: Wall) -> None:
    """Raise ProviderUnavailableError unless the wall is available.

    Probes unless the same wall was seen available a moment ago. A no is never kept, but
    for those who ask while it is being found out.
    """
    key = (name, type(wall), wall.target, repr(wall.chosen))
    with runtime.probing_lock:
        if time.monotonic() - runtime.seen_available.get(key, -math.inf) < PROBE_KEPT_SECONDS:
            return
        asking = runtime.probing.get(key)
        if asking is None:
            # Not in this thread: an interrupt of it is no answer for who waits for the same.
            asking = runtime.workers.submit(lambda: _ask(runtime, name, wall, key))
            runtime.probing[key] = asking
    answer = asking.result()
    if not answer:
        raise ProviderUnavailableError(
            f"{name} is not available: {answer.reason}. See `stockade doctor -p {name}`."
        )


def _ask(runtime: Runtime, name: str, wall: Wall, key: object) -> Availability:
    """Probe for all that wait for the answer."""
    answer: Availability | None = None
    try:
        answer = _patient(runtime, name, wall)
        return answer
    finally:
        with runtime.probing_lock:
            if answer:
                runtime.seen_available[key] = time.monotonic()
            del runtime.probing[key]


def _patient(runtime: Runtime, name: str, wall: Wall) -> Availability:
    """The answer, asked for again where the wall says that a no may soon be a yes."""
    answer = look(runtime, name, wall)
    for pause in pauses(runtime.settings.start_retries):
        if not answer.transient:
            break
        time.sleep(pause)
        answer = look(runtime, name, wall)
    return answer
