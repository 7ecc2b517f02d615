"""Which faults come when: drawn from a seed, the same ones at each run.

Each draw has a generator of its own, named by seed, session, execution and kind. So threads do not
disturb each other's draws, and a higher rate has all the faults of a lower one and some more.
"""

from __future__ import annotations

import collections
import math
import random
import threading
from collections.abc import Mapping
from enum import Enum
from typing import Any

import attrs

__all__ = ["Dice", "Fault", "Kind", "next_session", "start_over", "to_rate", "to_seconds"]


class Kind(Enum):
    """What happens to an execution, beside a delay."""

    DEATH = "death"
    LOSS = "loss"


@attrs.frozen
class Fault:
    """What one execution meets."""

    delay: float = 0.0  #: seconds before its program starts
    kind: Kind | None = None
    after: float = 0.0  #: seconds from the program's start to the death or the loss


@attrs.frozen(kw_only=True)
class Dice:
    """The faults of one session. Safe from any thread."""

    seed: int
    session: int  #: from 1
    options: Mapping[str, Any]  #: rates and seconds, as the wall's options have them

    def start_fails(self) -> bool:
        """Whether the session's sandbox does not start."""
        return self._falls("start_failure", 0)

    def fault(self, execution: int) -> Fault:
        """What the execution of that number meets, counted from 1."""
        kind = None
        if self._falls("loss", execution):
            kind = Kind.LOSS
        elif self._falls("death", execution):
            kind = Kind.DEATH
        return Fault(
            delay=self.options["delay_seconds"] if self._falls("delay", execution) else 0.0,
            kind=kind,
            after=self._drawn("moment", execution) * self.options["within_seconds"],
        )

    def words(self, execution: int | None = None) -> str:
        """Where this was drawn, for messages: it comes again with the same seed."""
        what = f"seed {self.seed}, session {self.session}"
        return what if execution is None else f"{what}, execution {execution}"

    def _falls(self, what: str, execution: int) -> bool:
        rate: float = self.options[f"{what}_rate"]
        return self._drawn(what, execution) < rate

    def _drawn(self, what: str, execution: int) -> float:
        """From 0, 1 excluded; of text ``Random`` makes the same at every run and version."""
        name = f"{self.seed}/{self.session}/{execution}/{what}"
        return random.Random(name).random()  # noqa: S311 - faults for tests keep no secret


_lock = threading.Lock()
_sessions: collections.Counter[object] = collections.Counter()


def next_session(string: object) -> int:
    """The number of the next session of this provider string in this process, from 1."""
    with _lock:
        _sessions[string] += 1
        return _sessions[string]


def start_over() -> None:
    """Let the next session of each provider string be its first again.

    Call it before each test, which then meets the same faults whatever ran before.
    """
    with _lock:
        _sessions.clear()


def to_rate(text: str) -> float:
    """A share of all, from 0 to 1. Raises ValueError."""
    rate = float(text)
    if not 0 <= rate <= 1:
        raise ValueError("a rate from 0 to 1 is needed")
    return rate


def to_seconds(text: str) -> float:
    """Seconds, 0 or more. Raises ValueError."""
    seconds = float(text)
    if not (seconds >= 0 and math.isfinite(seconds)):
        raise ValueError("seconds are needed, 0 or more")
    return seconds
