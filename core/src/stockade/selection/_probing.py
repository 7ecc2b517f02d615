"""Asking a wall whether it can serve here and now: in bounded time, and seldom (A8)."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from stockade.errors import ProviderUnavailableError
from stockade.system.retries import pauses
from stockade.system.threads import Workers, bounded
from stockade.values.shown import named
from stockade.wall import Availability, Check, Wall

__all__ = ["PROBE_SECONDS", "Probing"]

_log = logging.getLogger(__name__)

#: How long a wall may take to say whether it is available (A8).
PROBE_SECONDS = 15.0
#: How long a yes is believed, so that opening many sessions does not probe each time.
PROBE_KEPT_SECONDS = 10.0


class Probing:
    """Probes walls for one runtime, and remembers for a while which were available."""

    def __init__(self, workers: Workers, retries: Callable[[], int]) -> None:
        """``retries``: how often a wall is asked again that says that a no may soon be a yes."""
        self._workers = workers
        self._retries = retries
        self._lock = threading.Lock()
        #: When a wall last answered with yes (monotonic).
        self.seen: dict[object, float] = {}
        self.asking: dict[object, Future[Availability]] = {}  #: probes that are under way

    def look(self, name: str, wall: Wall) -> Availability:
        """The checks of the wall's probe; bounded in time, never raises (A8)."""
        try:
            answer: object = bounded(self._workers, wall.probe, PROBE_SECONDS)
        except TimeoutError:
            return _no(f"no answer within {PROBE_SECONDS:g} s")
        except Exception as error:
            _log.info("the probe of %s failed", name, exc_info=True)
            return _no(named(error))
        if not isinstance(answer, Availability):
            return _no(f"it returned {answer!r}, not an Availability: report it to its author")
        return answer

    def require(self, name: str, wall: Wall) -> None:
        """Raise ProviderUnavailableError unless the wall is available.

        Probes unless the same wall was available a moment ago. A no is never kept. Callers that
        ask during a probe share its answer.
        """
        key = (name, type(wall), wall.target, repr(wall.chosen))
        with self._lock:
            if time.monotonic() - self.seen.get(key, -math.inf) < PROBE_KEPT_SECONDS:
                return
            asking = self.asking.get(key)
            if asking is None:
                # Not in this thread: an interrupt of it is no answer for who waits for the same.
                asking = self._workers.submit(lambda: self._ask(name, wall, key))
                self.asking[key] = asking
        answer = asking.result()
        if not answer:
            raise ProviderUnavailableError(
                f"{name} is not available: {answer.reason}. See `stockade doctor -p {name}`."
            )

    def _ask(self, name: str, wall: Wall, key: object) -> Availability:
        """Probe for all that wait for the answer."""
        answer: Availability | None = None
        try:
            answer = self._patient(name, wall)
            return answer
        finally:
            with self._lock:
                if answer:
                    self.seen[key] = time.monotonic()
                del self.asking[key]

    def _patient(self, name: str, wall: Wall) -> Availability:
        """The answer, asked for again where the wall says that a no may soon be a yes."""
        answer = self.look(name, wall)
        for pause in pauses(self._retries()):
            if not answer.transient:
                break
            time.sleep(pause)
            answer = self.look(name, wall)
        return answer


def _no(detail: str) -> Availability:
    return Availability((Check("probe", False, detail),))
