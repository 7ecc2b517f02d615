"""The warm pool, over scripted walls."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import stockade.session._pool
from core.walls import EVERYTHING, ScriptedSandbox, ScriptedWall
from stockade.aio import AsyncPool
from stockade.config import SandboxConfig
from stockade.errors import ConfigError, SandboxStartError, SessionNotFoundError, SessionStateError
from stockade.results import SessionStatus
from stockade.session._pool import Pool
from stockade.sessions._providers import WallProvider
from stockade.sessions._runtime import Runtime
from stockade.wall import Availability, OpenRequest, Sandbox, Wall


class CountingWall(Wall):
    """Makes sandboxes and remembers them; ``fails`` has the next openings fail."""

    capabilities = EVERYTHING

    def __init__(self) -> None:
        super().__init__()
        self.made: list[ScriptedSandbox] = []
        self.fails = 0
        self.seconds = 0.0
        self.tried = 0

    def probe(self) -> Availability:
        return Availability()

    def open(self, request: OpenRequest) -> Sandbox:
        self.tried += 1
        time.sleep(self.seconds)
        if self.fails:
            self.fails -= 1
            raise SandboxStartError("not now")
        sandbox = ScriptedSandbox()
        self.made.append(sandbox)
        return sandbox


@pytest.fixture
def wall() -> CountingWall:
    return CountingWall()


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    made = Runtime(discover_plugins=False)
    yield made
    made.close_all()


@pytest.fixture
def string(wall: CountingWall, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> str:
    def select(_: str, **config: Any) -> WallProvider:
        for name in ("runtime", "check_available", "needs"):
            config.pop(name, None)
        return WallProvider("counting", wall, SandboxConfig(**config), runtime)

    monkeypatch.setattr(stockade.session._pool, "select", select)
    return "counting"


def test_each_session_is_handed_out_once(string: str, wall: CountingWall) -> None:
    with Pool(string, size=3) as pool:
        assert pool.wait_ready(20) and pool.ready == 3
        seen = [pool.open(agent_id=f"agent-{number}") for number in range(3)]
        assert len({session.session_id for session in seen}) == 3
        assert pool.hits == 3 and pool.misses == 0
        assert pool.wait_ready(20)  # and others are started in their place
        assert len(wall.made) == 6
    assert [session.status for session in seen] == [SessionStatus.READY] * 3
    assert [sandbox.closed for sandbox in wall.made].count(0) == 3
    for session in seen:
        session.close()


def test_it_is_the_agents_from_then_on(string: str, runtime: Runtime) -> None:
    with Pool(string, size=1, lifetime_seconds=100.0) as pool:
        pool.wait_ready(20)
        time.sleep(0.05)
        session = pool.open(agent_id="alice")
        record = runtime.registry.get("alice", session.session_id)
        assert record.config.lifetime_seconds == 100.0
        assert record.expires_at is not None and 90 < record.expires_at - time.time() <= 100
        with pytest.raises(SessionNotFoundError):
            runtime.registry.get("bob", session.session_id)
        session.close()


def test_an_empty_pool_starts_cold(string: str, wall: CountingWall) -> None:
    with Pool(string, size=1) as pool:
        pool.wait_ready(20)
        wall.seconds = 2.0  # its successor is late
        first, second = pool.open(), pool.open()
        assert first.session_id != second.session_id
        assert (pool.hits, pool.misses) == (1, 1)
        first.close()
        second.close()


def test_openings_that_fail_do_not_spin(string: str, wall: CountingWall) -> None:
    wall.fails = 2
    with Pool(string, size=1) as pool:
        assert not pool.wait_ready(0.2)
        assert pool.wait_ready(20)
        assert wall.tried == 3


def test_what_waited_too_long_is_replaced(string: str, wall: CountingWall) -> None:
    with Pool(string, size=1, max_age_seconds=0.3) as pool:
        assert pool.wait_ready(20)
        deadline = time.monotonic() + 20
        while len(wall.made) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert pool.wait_ready(20)
        assert wall.made[0].closed


def test_closed_it_hands_out_nothing(string: str, wall: CountingWall) -> None:
    pool = Pool(string, size=2)
    pool.wait_ready(20)
    pool.close()
    pool.close()
    assert all(sandbox.closed for sandbox in wall.made)
    with pytest.raises(SessionStateError):
        pool.open()


def test_many_threads(string: str) -> None:
    with Pool(string, size=4) as pool:
        seen: list[str] = []

        def work() -> None:
            for _ in range(10):
                with pool.open() as session:
                    seen.append(session.session_id)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(seen) == len(set(seen)) == 80


def test_a_large_pool_takes_few_threads(runtime: Runtime) -> None:
    """However many sessions it starts and ends."""
    most = [0]

    def count() -> None:
        most[0] = max(most[0], threading.active_count())
        time.sleep(0.02)

    class Slow(ScriptedWall):
        def open(self, request: OpenRequest) -> Sandbox:
            count()
            return ScriptedSandbox(on_close=count)

    runtime.walls._walls["slow"] = Slow
    before = threading.active_count()
    with Pool("slow", size=300, runtime=runtime) as pool:
        assert pool.wait_ready(60)
    assert most[0] - before < 200
    assert not runtime.registry.records()


def test_sizes_that_make_no_sense(string: str) -> None:
    for size in (0, -1, True, 1.5, 10_000):
        with pytest.raises(ConfigError):
            Pool(string, size=size)  # type: ignore[arg-type]


def test_the_awaitable_form(string: str, wall: CountingWall) -> None:
    async def main() -> None:
        async with AsyncPool(string, size=1) as pool:
            async with await pool.open(agent_id="alice") as session:
                assert session.agent_id == "alice"
                assert (await session.run(["true"])).success

    asyncio.run(main())
    assert all(sandbox.closed for sandbox in wall.made)
