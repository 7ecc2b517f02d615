"""The wait for an execution's end: each thread that waits is woken, and none is kept for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from stockade.errors import SandboxLostError
from stockade.executions._end import End
from stockade.results import SandboxResult


def waiting(end: End, count: int) -> list[threading.Thread]:
    threads = [threading.Thread(target=end.reached, args=(None,)) for _ in range(count)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 20
    while len(end._asleep) < count:
        assert time.monotonic() < until
        time.sleep(0.001)
    return threads


GIVEN: dict[str, Callable[[], SandboxResult | SandboxLostError]] = {
    "a result": lambda: SandboxResult(exit_code=0),
    "an error": lambda: SandboxLostError("it is gone"),
}


@pytest.mark.parametrize("make", GIVEN.values(), ids=GIVEN)
def test_all_that_wait_are_woken(make: Callable[[], SandboxResult | SandboxLostError]) -> None:
    end = End()
    threads = waiting(end, 5)
    end.give(make())
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert end.reached(0) and end._asleep == []


def test_a_wait_that_is_over_is_forgotten() -> None:
    end = End()
    for seconds in (0, -1, 0.01):
        assert not end.reached(seconds)
    assert end._asleep == []


class Late(list[threading.Lock]):
    """The end is given just before a thread that waits is noted."""

    def __init__(self, end: End) -> None:
        super().__init__()
        self._end = end

    def append(self, lock: threading.Lock) -> None:
        self._end.give(SandboxResult(exit_code=0))
        super().append(lock)


def test_an_end_at_the_moment_of_the_wait_is_seen() -> None:
    end = End()
    end._asleep = Late(end)
    thread = threading.Thread(target=end.reached, args=(None,), daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
