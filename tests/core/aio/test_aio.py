"""The awaitable face (D12)."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from typing import Any

import pytest

from core.sessions.test_terminals import opened as terminal_session
from core.walls import ScriptedRunning, make_provider, until_killed
from stockade import ConfigError, SessionStatus, Verdict, aio
from stockade.aio import AsyncSession
from stockade.results import Stream
from stockade.session import Session
from stockade.sessions._runtime import Runtime
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


def slow_to_end(ended: threading.Event) -> Any:
    """Prints nothing; takes a moment to end once it is killed."""

    def body(running: ScriptedRunning, output: Output) -> Exit:
        until_killed(running, output)
        time.sleep(0.2)
        ended.set()
        return Exit(signal=9)

    return body


def test_D12_cancelling_a_loop_over_a_stream_is_prompt() -> None:
    ended = threading.Event()

    async def read(session: AsyncSession) -> None:
        async for _ in session.stream(["x"]):
            pass

    async def main() -> None:
        async with opened(slow_to_end(ended)) as session:
            task = asyncio.create_task(read(session))
            await asyncio.sleep(0.2)
            began = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - began < 3
            assert ended.is_set(), "the tree has ended before the cancellation goes on"
            assert session.status is SessionStatus.READY

    asyncio.run(main())


def test_D12_waiting_for_the_next_piece_with_a_bound_is_prompt() -> None:
    ended = threading.Event()

    async def main() -> None:
        async with opened(slow_to_end(ended)) as session, session.stream(["x"]) as execution:
            began = time.monotonic()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(aiter(execution)), 0.2)
            assert time.monotonic() - began < 3 and ended.is_set()
            assert (await execution.result()).verdict is Verdict.CANCELLED

    asyncio.run(main())


def test_a_bound_on_the_result_leaves_the_execution_running() -> None:
    async def main() -> None:
        async with opened(until_killed) as session:
            execution = await session.start(["x"])
            with pytest.raises(TimeoutError, match="still running"):
                await execution.result(0.1)
            assert str(execution.status) == "running"
            assert execution.handle().status is execution.status
            execution.cancel()
            assert (await execution.result(5)).verdict is Verdict.CANCELLED
            assert execution.future.done() and await execution.take() is None

    asyncio.run(main())


def test_no_second_await_is_needed_and_one_does_no_harm() -> None:
    def body(_: ScriptedRunning, output: Output) -> Exit:
        output.write(Stream.STDOUT, b"a")
        return Exit(code=0)

    async def main() -> None:
        runtime = Runtime(discover_plugins=False)
        string = "reference-no-isolation"
        async with aio.open(string, runtime=runtime) as session:
            assert session.provider.name == string and not session.paused
        assert session.status is SessionStatus.DESTROYED
        async with await aio.open(string, runtime=runtime) as session:
            assert session.status is SessionStatus.READY
        task = asyncio.create_task(aio.open(string, runtime=runtime))
        await (await task).close()
        async with opened(body) as one, one.stream(["x"]) as execution:
            assert [chunk.data async for chunk in execution] == [b"a"]
            async with await one.stream(["x"]) as execution:
                assert (await execution.result()).success
            assert [chunk.data async for chunk in one.stream(["x"])] == [b"a"]
            assert (await (await asyncio.create_task(one.start(["x"]))).result()).success

    asyncio.run(main())


def test_what_is_never_awaited_is_warned_of_as_any_coroutine() -> None:
    async def main() -> None:
        async with opened() as session:
            with pytest.warns(RuntimeWarning, match="never awaited"):
                session.stream(["x"])
                gc.collect()

    asyncio.run(main())


def test_a_terminal() -> None:
    plain, sandbox = terminal_session()

    async def main() -> None:
        async with AsyncSession(plain) as session:
            async with session.terminal(["top"], rows=5) as terminal:
                os.write(sandbox.made[0].shows, b"shown")
                assert await terminal.read() == b"shown"
                await terminal.write(b"typed")
                await terminal.resize(10, 20)
                assert terminal.fileno() == terminal.fileno() > 2
                reading = asyncio.create_task(terminal.read())
                await asyncio.sleep(0.1)
                await terminal.close()
                assert await reading == b"" and await terminal.exit_code() == 137
            assert sandbox.made[0].typed == [b"typed"] and sandbox.asked[0].rows == 5

    asyncio.run(main())


def test_a_pool() -> None:
    async def main() -> None:
        runtime = Runtime(discover_plugins=False)
        async with aio.AsyncPool("reference-no-isolation", size=1, runtime=runtime) as pool:
            assert await pool.wait_ready(20) and pool.ready == 1
            async with pool.open() as session:
                assert (await session.run(["true"])).success
            assert pool.hits == 1 and pool.misses == 0 and pool.provider is session.provider
            assert pool.runtime is runtime

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
