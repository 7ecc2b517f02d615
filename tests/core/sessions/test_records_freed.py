"""A closed session's record is nobody's any more: no timer keeps it (C6)."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable

import pytest

from core.walls import ScriptedWall, make_provider
from stockade import Pool, SessionStatus
from stockade.session import Session
from stockade.sessions._registry import SessionRecord
from stockade.sessions._runtime import Runtime


def _freed(make: Callable[[], SessionRecord]) -> bool:
    """Whether a record is gone soon after it was made and ended."""
    seen = weakref.ref(make())
    until = time.monotonic() + 5
    while seen() is not None and time.monotonic() < until:
        gc.collect()
        time.sleep(0.05)
    return seen() is None


@pytest.fixture
def runtime() -> Runtime:
    return Runtime(discover_plugins=False)


def test_the_idle_timers_keep_none(runtime: Runtime) -> None:
    """It was looked at a few times before it ended, and its lifetime is long."""
    provider = make_provider(runtime=runtime, idle_seconds=0.2, lifetime_seconds=3600.0)

    def made() -> SessionRecord:
        record = provider.open_record("agent")
        until = time.monotonic() + 0.7
        while time.monotonic() < until:
            Session(provider, record).run(["x"])
            time.sleep(0.02)
        assert record.status is SessionStatus.READY
        runtime.destroy(record)
        return record

    assert _freed(made)


def test_a_look_that_comes_late_keeps_none(runtime: Runtime) -> None:
    """The idle timer's work was under way while the session ended."""
    provider = make_provider(runtime=runtime, idle_seconds=3600.0)

    def made() -> SessionRecord:
        record = provider.open_record("agent")
        look = record.timers["idle"].call
        runtime.destroy(record)
        look()
        return record

    assert _freed(made)


def test_a_pool_keeps_none(runtime: Runtime) -> None:
    runtime.walls._walls["pooled"] = ScriptedWall

    def made() -> SessionRecord:
        with Pool("pooled", size=1, runtime=runtime) as pool:
            assert pool.wait_ready(10)
            (record,) = pool.warm._ready
        assert record.status is SessionStatus.DESTROYED
        return record

    assert _freed(made)


def test_one_that_a_pool_handed_out_is_kept_by_none(runtime: Runtime) -> None:
    runtime.walls._walls["pooled"] = ScriptedWall
    with Pool("pooled", size=1, runtime=runtime) as pool:

        def made() -> SessionRecord:
            assert pool.wait_ready(10)
            with pool.open() as session:
                return session._record

        assert _freed(made)
