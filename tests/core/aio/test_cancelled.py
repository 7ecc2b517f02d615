"""What a cancelled await has to end is ended before the cancellation goes on (C5, D12, F2).

A cancel scope of anyio's, which frameworks are built on, cancels every further await of its tasks
until they have left it. So whatever awaits while it cleans up is tried with that, too.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from core.durable_walls import DurableWall
from core.files.test_files import Deaf
from core.files.test_files import opened as with_files
from core.sessions.test_attach import clean, here, there  # noqa: F401 - fixtures
from core.sessions.test_terminals import TerminalSandbox
from core.walls import ScriptedRunning, ScriptedSandbox, ScriptedWall, make_provider, until_killed
from stockade import SessionStatus, aio
from stockade import open as open_session
from stockade.aio import AsyncSession
from stockade.aio.opening import start
from stockade.plugin import ExecutionProposal, hookimpl
from stockade.session import Session
from stockade.session._pool import Pool
from stockade.sessions._pool import WarmPool
from stockade.sessions._runtime import Runtime
from stockade.wall import Exit, Output, Terminal, TerminalRequest

_Cancel = Callable[["asyncio.Task[Any]"], None]


def once(task: asyncio.Task[Any]) -> None:
    """As asyncio does."""
    task.cancel()


def always(task: asyncio.Task[Any]) -> None:
    """As a cancel scope of anyio's does: at each turn of the loop, until the task has ended."""
    if not task.done():
        task.cancel()
        asyncio.get_running_loop().call_soon(always, task)


@pytest.fixture(params=[once, always], ids=["once", "always"])
def cancel(request: pytest.FixtureRequest) -> _Cancel:
    found: _Cancel = request.param
    return found


async def cancelled(work: Coroutine[Any, Any, Any], cancel: _Cancel, after: float = 0.1) -> None:
    """Await it in a task, and cancel that; returns when the task has ended."""
    task = asyncio.create_task(work)
    await asyncio.sleep(after)
    cancel(task)
    with pytest.raises(asyncio.CancelledError):
        await task


def slow_to_open(closed: list[str]) -> ScriptedWall:
    wall = ScriptedWall()

    def closing() -> None:
        time.sleep(0.2)
        closed.append("closed")

    def opening(_: object) -> ScriptedSandbox:
        time.sleep(0.3)
        return ScriptedSandbox(on_close=closing)

    wall.on_open = opening
    return wall


def slow_to_end(ended: threading.Event) -> Callable[[ScriptedRunning, Output], Exit]:
    def body(running: ScriptedRunning, output: Output) -> Exit:
        until_killed(running, output)
        time.sleep(0.3)
        ended.set()
        return Exit(signal=9)

    return body


def opened(body: Any = None, runtime: Runtime | None = None) -> AsyncSession:
    provider = make_provider(body, runtime=runtime)
    return AsyncSession(Session(provider, provider.open_record("agent")))


def test_C5_an_opening_leaves_no_session(cancel: _Cancel) -> None:
    closed: list[str] = []
    provider = make_provider(wall=slow_to_open(closed))

    async def main() -> None:
        await cancelled(start(provider, "agent"), cancel)
        assert closed and not provider.runtime.registry.records()

    asyncio.run(main())
    assert provider.runtime.capacity.used == 0


def test_a_session_is_closed_where_its_block_is_left(cancel: _Cancel) -> None:
    closed: list[str] = []
    provider = make_provider(wall=slow_to_open(closed))

    async def block() -> None:
        async with await start(provider, "agent"):
            await asyncio.sleep(30)

    async def main() -> None:
        await cancelled(block(), cancel, after=1.0)
        assert closed and not provider.runtime.registry.records()

    asyncio.run(main())


@pytest.mark.parametrize("call", ["run", "stream", "block", "result"])
def test_D12_the_tree_has_ended(call: str, cancel: _Cancel) -> None:
    ended = threading.Event()

    async def streamed(session: AsyncSession) -> None:
        async for _ in session.stream(["x"]):
            pass

    async def block(session: AsyncSession) -> None:
        async with session.start(["x"]):
            await asyncio.sleep(30)

    async def result(session: AsyncSession) -> None:
        await (await session.start(["x"])).result()

    calls = {"run": lambda one: one.run(["x"]), "stream": streamed, "block": block}

    async def main() -> None:
        async with opened(slow_to_end(ended)) as session:
            await cancelled(calls.get(call, result)(session), cancel)
            assert ended.is_set() and session.status is SessionStatus.READY

    asyncio.run(main())


class Slow:
    """A policy that lets executions begin late."""

    asked = 0

    @hookimpl
    def stockade_execution_policy(self, proposal: ExecutionProposal) -> None:
        time.sleep(0.3)
        self.asked += 1


def test_D12_one_that_was_being_started_has_ended(cancel: _Cancel) -> None:
    runtime = Runtime(discover_plugins=False)
    policy = Slow()
    runtime.hooks.add(policy)

    async def main() -> None:
        async with opened(slow_to_end(threading.Event()), runtime) as session:
            await cancelled(session.run(["x"]), cancel)
            assert policy.asked == 1 and not session.executions()
            assert session.status is SessionStatus.READY

    asyncio.run(main())


def test_D19_a_terminal_that_was_being_started_is_closed(cancel: _Cancel) -> None:
    class Late(TerminalSandbox):
        def terminal(self, request: TerminalRequest) -> Terminal:
            time.sleep(0.3)
            return super().terminal(request)

    wall = ScriptedWall()
    wall.sandbox = sandbox = Late()
    provider = make_provider(wall=wall)

    async def main() -> None:
        async with await start(provider, "agent") as session:
            await cancelled(session.terminal()._work, cancel)
            assert sandbox.made[0].ended_once and session.status is SessionStatus.READY

    asyncio.run(main())


@pytest.mark.parametrize("call", ["list", "watch"])
def test_F2_a_file_call_ends_at_once(call: str, cancel: _Cancel) -> None:
    backend = Deaf()

    async def main() -> None:
        with with_files(backend) as session:
            files = AsyncSession(session).files
            work = files.list() if call == "list" else files.watch()._work
            began = time.monotonic()
            await cancelled(work, cancel)
            assert time.monotonic() - began < 3 and backend.calls[0].cancelled

    asyncio.run(main())


def test_C10_what_was_attached_to_is_let_go_of(
    here: Runtime,  # noqa: F811
    there: Runtime,  # noqa: F811
    cancel: _Cancel,
) -> None:
    first = open_session("wall?durable=true", agent_id="a", runtime=here)
    first.detach()
    DurableWall.slow = 0.3

    async def main() -> None:
        work = aio.attach(first.session_id, agent_id="a", runtime=there)._work
        await cancelled(work, cancel)
        assert not there.registry.records() and first.session_id in DurableWall.there
        assert [one.detached for one in DurableWall.held] == [1, 1]

    asyncio.run(main())


def test_a_pool_keeps_the_session_that_it_had_ready(
    cancel: _Cancel, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = WarmPool._take

    def slow(pool: WarmPool) -> Any:
        found = real(pool)
        time.sleep(0.3)
        return found

    monkeypatch.setattr(WarmPool, "_take", slow)

    async def main() -> None:
        runtime = Runtime(discover_plugins=False)
        async with aio.AsyncPool("reference-no-isolation", size=1, runtime=runtime) as pool:
            assert await pool.wait_ready(20)
            (record,) = runtime.registry.records()
            await cancelled(pool.open()._work, cancel)
            assert record in pool.sync.warm._ready
        assert not runtime.registry.records()

    asyncio.run(main())


def test_a_pool_that_nobody_has_is_closed(cancel: _Cancel, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Pool] = []
    real = Pool.__init__

    def slow(pool: Pool, *args: Any, **options: Any) -> None:
        real(pool, *args, **options)
        made.append(pool)
        time.sleep(0.3)

    monkeypatch.setattr(Pool, "__init__", slow)

    async def main() -> None:
        runtime = Runtime(discover_plugins=False)
        pool = aio.AsyncPool("reference-no-isolation", size=1, runtime=runtime)
        await cancelled(pool.__aenter__(), cancel)
        assert made and made[0].warm._closed and not runtime.registry.records()

    asyncio.run(main())
