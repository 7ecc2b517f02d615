"""How long to pause before something that is safe to repeat is tried again."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["pauses"]

_FIRST_SECONDS, _MOST_SECONDS = 0.1, 2.0


def pauses(count: int) -> Iterator[float]:
    """``count`` pauses in seconds, each about twice as long as the one before.

    Up to half of each is left to chance, so that callers that failed together do
    not all come back together.
    """
    import random  # where something has failed

    chance = random.SystemRandom()  # forked processes must not pause alike
    longest = _FIRST_SECONDS
    for _ in range(count):
        yield longest * chance.uniform(0.5, 1.0)
        longest = min(_MOST_SECONDS, longest * 2)
