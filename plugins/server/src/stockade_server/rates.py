"""How many requests a key makes in a second."""

from __future__ import annotations

import time
from collections.abc import Callable

from stockade_server.errors import Refused

__all__ = ["Rates"]


class Rates:
    """A second's worth of requests at once, and after that as many as the limit says."""

    def __init__(self, per_second: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        """None: as many as come."""
        self._per_second = per_second
        self._clock = clock
        #: By owner: when it last asked, and what it had left. Owners are the operator's keys.
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, owner: str) -> None:
        """One request of an owner's. Raises Refused where there were too many."""
        most = self._per_second
        if most is None:
            return
        now = self._clock()
        then, left = self._left.get(owner, (now, float(most)))
        left = min(float(most), left + (now - then) * most)
        if left < 1:
            self._left[owner] = (now, left)
            raise Refused(429, f"this key makes more than {most} requests a second; slow down")
        self._left[owner] = (now, left - 1)
