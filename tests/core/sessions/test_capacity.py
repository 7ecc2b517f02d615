"""Limits on sessions, the queue before them, and settings."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import stockade
from core.sessions.test_pool import CountingWall
from core.walls import make_provider, until_killed
from stockade import CapacityError, SandboxConfig, SessionStateError, Settings
from stockade.aio.opening import start as start_awaited
from stockade.plugin import Event, EventKind, hookimpl
from stockade.session._pool import Pool
from stockade.sessions._capacity import Capacity
from stockade.sessions._providers import WallProvider
from stockade.sessions._runtime import Runtime


def limited(**settings: Any) -> WallProvider:
    return make_provider(runtime=Runtime(discover_plugins=False, settings=Settings(**settings)))


def in_queue(capacity: Capacity, count: int) -> None:
    """Wait until so many wait."""
    deadline = time.monotonic() + 20
    while capacity.waiting < count and time.monotonic() < deadline:
        time.sleep(0.002)
    assert capacity.waiting == count


# -- refused at once -----------------------------------------------------------------


def test_past_the_limit_comes_a_capacity_error() -> None:
    provider = limited(max_sessions=2)
    first, _ = provider.open_record("a"), provider.open_record("b")
    with pytest.raises(CapacityError, match=r"has its 2 sessions.*stockade\.configure") as caught:
        provider.open_record("c")
    assert caught.value.retryable
    provider.runtime.destroy(first)
    provider.open_record("c")
    assert provider.runtime.capacity.used == 2


def test_an_agent_has_a_limit_of_its_own() -> None:
    provider = limited(max_sessions=3, max_sessions_per_agent=1)
    mine = provider.open_record("a")
    with pytest.raises(CapacityError, match="the agent has its 1 sessions"):
        provider.open_record("a")
    provider.open_record("b")
    provider.runtime.destroy(mine)
    provider.open_record("a")


def test_what_is_refused_is_reported() -> None:
    provider = limited(max_sessions=1)
    reported: list[Event] = []

    class Observer:
        @hookimpl
        def stockade_event(self, event: Event) -> None:
            reported.append(event)

    provider.runtime.hooks.add(Observer())
    provider.open_record("a")
    with pytest.raises(CapacityError):
        provider.open_record("b")
    assert (reported[-1].kind, reported[-1].reason) == (EventKind.SESSION_REFUSED, "CapacityError")


def test_a_failed_start_gives_its_permit_back() -> None:
    provider = limited(max_sessions=1)

    def fail(_: object) -> None:
        raise RuntimeError("no")

    provider.wall.on_open = fail  # type: ignore[attr-defined]
    for _ in range(3):
        with pytest.raises(stockade.SandboxStartError):
            provider.open_record("a")
    assert provider.runtime.capacity.used == 0


def test_a_session_that_could_not_be_ended_keeps_its_permit() -> None:
    provider = limited(max_sessions=1)
    record = provider.open_record("a")
    sandbox: Any = record.sandbox

    def stuck() -> None:
        raise OSError("stuck")

    sandbox.on_close = stuck
    with pytest.raises(stockade.DestroyError):
        provider.runtime.destroy(record)
    with pytest.raises(CapacityError):
        provider.open_record("a")
    sandbox.on_close = lambda: None
    provider.runtime.destroy(record)
    provider.open_record("a")


# -- the queue --------------------------------------------------------------------------


def test_first_come_first_served() -> None:
    provider = limited(max_sessions=1, queue_seconds=30)
    runtime, served = provider.runtime, list[int]()
    record = provider.open_record("first")

    def work(number: int) -> None:
        mine = provider.open_record(f"agent-{number}")
        served.append(number)
        runtime.destroy(mine)

    threads = []
    for number in range(8):
        threads.append(threading.Thread(target=work, args=(number,)))
        threads[-1].start()
        in_queue(runtime.capacity, number + 1)
    runtime.destroy(record)
    for thread in threads:
        thread.join(30)
    assert served == list(range(8))
    assert runtime.capacity.used == 0


def test_who_waits_for_its_own_agent_holds_nobody_up() -> None:
    capacity = Capacity(
        lambda: Settings(max_sessions=2, max_sessions_per_agent=1, queue_seconds=30)
    )
    first = capacity.take("a")
    blocked = capacity.ask("a")
    other = capacity.take("b")  # past it
    late = capacity.ask("c")
    assert not blocked.future.done() and not late.future.done()
    other.release()
    assert late.future.done() and not blocked.future.done()
    first.release()
    assert blocked.future.done()


def test_the_wait_has_a_deadline() -> None:
    provider = limited(max_sessions=1, queue_seconds=0.2)
    provider.open_record("a")
    with pytest.raises(CapacityError, match=r"none ended within 0\.2 s"):
        provider.open_record("b")
    assert provider.runtime.capacity.waiting == 0


def test_the_line_has_an_end() -> None:
    capacity = Capacity(lambda: Settings(max_sessions=1, queue_seconds=30, max_waiting=1))
    capacity.take("a")
    capacity.ask("b")
    with pytest.raises(CapacityError, match="1 wait already"):
        capacity.ask("c")


def test_limits_change_while_others_wait() -> None:
    settings = [Settings(max_sessions=1, queue_seconds=30)]
    capacity = Capacity(lambda: settings[0])
    capacity.take("a")
    waiter = capacity.ask("b")
    settings[0] = Settings(max_sessions=2, queue_seconds=30)
    capacity.look_again()
    assert waiter.future.done()


def test_who_leaves_the_line_takes_nothing_along() -> None:
    capacity = Capacity(lambda: Settings(max_sessions=1, queue_seconds=30))
    permit = capacity.take("a")
    waiting, admitted = capacity.ask("b"), capacity.ask("c")
    capacity.abandon(waiting)
    permit.release()
    assert admitted.future.done()
    capacity.abandon(admitted)
    capacity.abandon(admitted)
    assert capacity.used == 0 and capacity.used_by("c") == 0


def test_many_threads_never_pass_the_limits() -> None:
    provider = limited(max_sessions=4, max_sessions_per_agent=2, queue_seconds=60)
    runtime = provider.runtime
    lock, most, errors = threading.Lock(), [0, 0], list[BaseException]()

    def work(agent: str) -> None:
        try:
            for _ in range(15):
                record = provider.open_record(agent)
                with lock:
                    most[0] = max(most[0], len(runtime.registry.records()))
                    most[1] = max(most[1], runtime.capacity.used_by(agent))
                runtime.destroy(record)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"agent-{n % 3}",)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert most[0] <= 4 and most[1] <= 2
    assert runtime.capacity.used == 0 and runtime.capacity.waiting == 0


# -- asyncio ----------------------------------------------------------------------------


def test_awaiting_takes_no_thread_and_keeps_the_order() -> None:
    provider = limited(max_sessions=1, queue_seconds=60)
    served: list[int] = []

    async def one(number: int) -> None:
        async with await start_awaited(provider, "agent"):
            served.append(number)
            await asyncio.sleep(0)

    async def main() -> int:
        threads = threading.active_count()
        held = await start_awaited(provider, "agent")
        tasks = []
        for number in range(200):
            tasks.append(asyncio.create_task(one(number)))
            while provider.runtime.capacity.waiting <= number:
                await asyncio.sleep(0)
        extra = threading.active_count() - threads
        await held.close()
        await asyncio.gather(*tasks)
        return extra

    assert asyncio.run(main()) < 50
    assert served == list(range(200))
    assert provider.runtime.capacity.used == 0


def test_a_cancelled_await_leaves_the_line_at_once() -> None:
    provider = limited(max_sessions=1, queue_seconds=60)

    async def main() -> None:
        async with await start_awaited(provider, "a"):
            task = asyncio.create_task(start_awaited(provider, "b"))
            while not provider.runtime.capacity.waiting:
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, 10)
            assert provider.runtime.capacity.waiting == 0
        async with await start_awaited(provider, "c") as session:
            assert session.agent_id == "c"

    asyncio.run(main())
    assert provider.runtime.capacity.used == 0


def test_an_await_past_the_deadline() -> None:
    provider = limited(max_sessions=1, queue_seconds=0.1)

    async def main() -> None:
        async with await start_awaited(provider, "a"):
            with pytest.raises(CapacityError):
                await start_awaited(provider, "b")

    asyncio.run(main())


# -- pools --------------------------------------------------------------------------------


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Runtime, CountingWall]]:
    wall, runtime = CountingWall(), Runtime(discover_plugins=False)

    def select(_: str, **config: Any) -> WallProvider:
        for name in ("runtime", "check_available", "needs"):
            config.pop(name, None)
        return WallProvider("counting", wall, SandboxConfig(**config), runtime)

    monkeypatch.setattr(stockade.session._pool, "select", select)
    yield runtime, wall
    runtime.close_all()


def test_sessions_of_a_pool_count(counting: tuple[Runtime, CountingWall]) -> None:
    runtime, wall = counting
    runtime.settings = Settings(max_sessions=3)
    with Pool("counting", size=2) as pool:
        assert pool.wait_ready(20) and runtime.capacity.used == 2
        sessions = [pool.open(agent_id="a"), pool.open(agent_id="a")]
        assert pool.wait_ready(0.3) is False  # there is room for one more, not for two
        deadline = time.monotonic() + 20
        while pool.ready < 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert runtime.capacity.used == 3 == len(wall.made)
        sessions[0].close()
        assert pool.wait_ready(20)
        sessions[1].close()
    assert runtime.capacity.used == 0


def test_an_agents_limit_holds_for_pools(counting: tuple[Runtime, CountingWall]) -> None:
    runtime, _ = counting
    runtime.settings = Settings(max_sessions_per_agent=1)
    with Pool("counting", size=2) as pool:
        pool.wait_ready(20)
        with pool.open(agent_id="a"):
            with pytest.raises(CapacityError, match="the agent"):
                pool.open(agent_id="a")
            assert pool.wait_ready(20)  # what it could not have is still there
            with pool.open(agent_id="b"):
                assert runtime.capacity.used_by("b") == 1
        with pool.open(agent_id="a"):
            pass


def test_a_pools_session_that_nobody_took_is_nobodys_again() -> None:
    capacity = Capacity(lambda: Settings(max_sessions_per_agent=1))
    permit = capacity.take(None)
    waiter = capacity.ask("a", permit=permit)
    assert waiter.future.result() is permit and capacity.used_by("a") == 1
    capacity.abandon(waiter)
    assert capacity.used_by("a") == 0 and capacity.used == 1 and permit.agent_id is None
    permit.release()
    assert capacity.used == 0


# -- the end ------------------------------------------------------------------------------


def test_who_waits_is_sent_away_when_all_is_ended() -> None:
    provider = limited(max_sessions=1, queue_seconds=60)
    provider.open_record("a")
    errors: list[BaseException] = []

    def work() -> None:
        try:
            provider.open_record("b")
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    in_queue(provider.runtime.capacity, 1)
    provider.runtime.shutdown(10)
    thread.join(20)
    assert isinstance(errors[0], CapacityError)
    with pytest.raises(SessionStateError, match="being ended"):
        provider.open_record("a")
    assert provider.runtime.registry.records() == [] and provider.runtime.capacity.used == 0


def test_close_all_ends_what_runs_and_is_not_for_good() -> None:
    provider = make_provider(until_killed)
    session = stockade.Session(provider, provider.open_record("a"))
    running = session.start(["x"])
    provider.runtime.close_all(10)
    assert str(running.result(10).verdict) == "cancelled"
    provider.runtime.destroy(provider.open_record("a"))
