"""Sandboxes whose end is put off, against a service that is played."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from plugins.e2b.conftest import need_parts

need_parts()
exceptions: Any = pytest.importorskip("e2b.exceptions")
renewing: Any = pytest.importorskip("stockade_e2b.renewing")

Until = Callable[[Callable[[], object], float], bool]


class Box:
    """One that takes what it is given, or raises."""

    def __init__(self, most: int = 10**9, error: Exception | None = None) -> None:
        self.most = most
        self.error = error
        self.asked: list[int] = []

    def set_timeout(self, seconds: int, request_timeout: float) -> None:
        self.asked.append(seconds)
        if self.error is not None:
            raise self.error
        if seconds > self.most:
            raise exceptions.SandboxException("400: too long", status_code=400)


def renewed(box: Box, *, left: float | None = None, timeout: float = 3.0) -> Any:
    gone.clear()
    return renewing.Renewed(box, timeout, None if left is None else time.time() + left, gone.append)


gone: list[str] = []


def test_each_is_put_off_three_times_in_its_time_and_no_more_once_it_ends(until: Until) -> None:
    one, other = Box(), Box()
    first, second = renewed(one), renewed(other, timeout=300)
    renewing.begin(first)
    renewing.begin(second)
    assert until(lambda: len(one.asked) == 2, 5) and not other.asked
    renewing.end(first)
    renewing.end(second)
    renewing.end(second)
    seen = len(one.asked)
    time.sleep(1.5)
    assert len(one.asked) == seen and one.asked == [3] * seen


def test_where_the_service_keeps_it_no_longer_what_is_left_is_asked_for() -> None:
    box = Box(most=100)
    assert renewed(box, left=99.5, timeout=300).renew()
    assert box.asked == [300, 100]


def test_a_sandbox_that_is_gone_is_reported_once() -> None:
    box = Box(error=exceptions.SandboxNotFoundException("gone"))
    assert not renewed(box).renew() and len(gone) == 1
    paused = renewed(box)
    paused.paused = True  # a service may not know a paused one's time
    assert paused.renew() and not gone


@pytest.mark.parametrize("error", [exceptions.RateLimitException("429"), OSError("no network")])
def test_what_may_be_over_soon_is_tried_again(error: Exception) -> None:
    assert renewed(Box(error=error)).renew() and not gone
