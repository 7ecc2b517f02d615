"""The awaitable face (D12)."""

from __future__ import annotations

import asyncio
import threading

import pytest

from core.walls import ScriptedRunning, make_provider, until_killed
from stockade import ConfigError, SessionStatus, Verdict
from stockade.aio import AsyncSession
from stockade.results import Stream
from stockade.session import Session
from stockade.wall import Exit, Output


def opened(body: object = None) -> AsyncSession:
    provider = make_provider(body)  # type: ignore[arg-type]
    return AsyncSession(Session(provider, provider.open_record("agent")))


def test_the_three_forms() -> None:
    async def main() -> None:
        async with opened() as session:
            assert (await session.run(["x"])).success
            assert (await session.shell("x")).success
            assert (await session.code("x")).success
            assert session.status is SessionStatus.READY
        assert session.status is SessionStatus.DESTROYED

    asyncio.run(main())


def test_D12_cancelling_the_await_ends_the_execution() -> None:
    ended = threading.Event()

    def body(running: ScriptedRunning, output: Output) -> Exit:
        until_killed(running, output)
        ended.set()
        return Exit(signal=9)

    async def main() -> None:
        async with opened(body) as session:
            task = asyncio.create_task(session.run(["x"]))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert ended.is_set() and session.status is SessionStatus.READY
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(session.run(["x"]), 0.1)
            assert session.status is SessionStatus.READY

    asyncio.run(main())


def test_D11_many_at_once() -> None:
    async def main() -> None:
        async with opened() as session:
            results = await asyncio.gather(*(session.run(["x"]) for _ in range(50)))
            assert all(result.success for result in results)

    asyncio.run(main())


def test_D13_streams() -> None:
    def body(_: ScriptedRunning, output: Output) -> Exit:
        output.write(Stream.STDOUT, b"a")
        output.write(Stream.STDERR, b"b")
        return Exit(code=3)

    async def main() -> None:
        async with opened(body) as session:
            execution = await session.stream(["x"])
            pieces = [(str(chunk.stream), chunk.data) async for chunk in execution]
            assert pieces == [("stdout", b"a"), ("stderr", b"b")]
            assert (await execution.result()).exit_code == 3

    asyncio.run(main())


def test_leaving_a_stream_cancels() -> None:
    async def main() -> None:
        async with opened(until_killed) as session:
            async with await session.stream(["x"]) as execution:
                pass
            assert (await execution.result()).verdict is Verdict.CANCELLED

    asyncio.run(main())


def test_errors_come_through() -> None:
    async def main() -> None:
        async with opened() as session:
            with pytest.raises(ConfigError):
                await session.run([])

    asyncio.run(main())
