"""The everyday face, awaitable.

    async with await stockade.aio.open("landlock") as session:
        result = await session.run(["echo", "hi"])

It is the same implementation: an execution runs in core's threads either way,
and awaiting one waits on its future. Cancelling the await ends the execution,
its whole tree, before the cancellation goes on (D12).
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from stockade.attaching import attach as attach_session
from stockade.errors import CapacityError, SessionStateError
from stockade.execution import KILL_GRACE_SECONDS
from stockade.files import DEFAULT_MAX_BYTES, FileInfo
from stockade.pool import Pool
from stockade.providers import provider as select
from stockade.results import Chunk, ExecutionStatus, SandboxResult, SessionStatus
from stockade.session import DEFAULT_AGENT, RunOptions, Session, restored

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from types import TracebackType

    from typing_extensions import Unpack

    from stockade.capacity import Seat
    from stockade.execution import Execution
    from stockade.providers import WallProvider
    from stockade.runtime import Runtime
    from stockade.snapshots import Snapshot
    from stockade.workers import Narrow, Workers

__all__ = ["AsyncExecution", "AsyncFiles", "AsyncPool", "AsyncSession", "attach", "open"]

_T = TypeVar("_T")


def _submit(workers: Workers | Narrow, call: Callable[[], _T]) -> asyncio.Future[_T]:
    """Start a call in one of core's threads, in the context of the one who awaits it: what
    observers and policies find there (a trace, say) is the caller's."""
    context = contextvars.copy_context()
    return asyncio.wrap_future(workers.submit(functools.partial(context.run, call)))


async def _in_thread(
    session_runtime: Runtime, call: Callable[[], _T], workers: Workers | Narrow | None = None
) -> _T:
    """Run a blocking call in one of core's threads; its end is awaited even when cancelled."""
    future = _submit(workers or session_runtime.workers, call)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        if not future.cancelled():
            future.exception()
        raise


class AsyncExecution:
    """An execution whose result and live output are awaited."""

    def __init__(self, execution: Execution, runtime: Runtime) -> None:
        self._execution = execution
        self._runtime = runtime

    @property
    def execution_id(self) -> str:
        return self._execution.execution_id

    @property
    def status(self) -> ExecutionStatus:
        return self._execution.status

    def cancel(self) -> None:
        """End it, tree and all; await ``result()`` for the end."""
        self._execution.cancel()

    async def result(self) -> SandboxResult:
        """The result; cancelling the await cancels the execution (D12)."""
        future = asyncio.wrap_future(self._execution.future)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            self._execution.cancel()
            await asyncio.wait([future], timeout=2 * KILL_GRACE_SECONDS)
            if future.done() and not future.cancelled():
                future.exception()
            raise

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        """Live pieces until the end; leaving the loop early cancels the execution."""
        take = self._execution.take
        try:
            while (chunk := await _in_thread(self._runtime, take)) is not None:
                yield chunk
        finally:
            if not self._execution.future.done():
                self._execution.cancel()

    async def __aenter__(self) -> AsyncExecution:
        return self

    async def __aexit__(self, *_: object) -> None:
        await _in_thread(self._runtime, functools.partial(self._execution.__exit__, *_))


class AsyncSession:
    """A session whose calls are awaited; see :class:`stockade.session.Session`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._runtime = session.provider.runtime

    @property
    def session_id(self) -> str:
        return self._session.session_id

    @property
    def agent_id(self) -> str:
        return self._session.agent_id

    @property
    def status(self) -> SessionStatus:
        return self._session.status

    @property
    def sync(self) -> Session:
        """The same session, with blocking calls."""
        return self._session

    async def run(self, argv: Sequence[str], **options: Unpack[RunOptions]) -> SandboxResult:
        return await (await self.start(argv, **options)).result()

    async def shell(self, line: str, **options: Unpack[RunOptions]) -> SandboxResult:
        return await (await self.start(shell=line, **options)).result()

    async def code(
        self, text: str, language: str = "python", **options: Unpack[RunOptions]
    ) -> SandboxResult:
        return await (await self.start(code=text, language=language, **options)).result()

    async def start(self, argv: Sequence[str] | None = None, **options: Any) -> AsyncExecution:
        """Start one of the three forms; arguments as for ``Session.start``."""
        return await self._begin(functools.partial(self._session.start, argv, **options))

    async def stream(self, argv: Sequence[str] | None = None, **options: Any) -> AsyncExecution:
        """Start with live output: ``async for chunk in await session.stream([...])``."""
        return await self._begin(functools.partial(self._session.stream, argv, **options))

    async def _begin(self, call: Callable[[], Execution]) -> AsyncExecution:
        future = _submit(self._runtime.workers, call)
        try:
            execution = await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            if future.exception() is None:  # it did start: nobody will await it
                future.result().cancel()
            raise
        return AsyncExecution(execution, self._runtime)

    @functools.cached_property
    def files(self) -> AsyncFiles:
        return AsyncFiles(self._session)

    async def snapshot(self, **options: int) -> Snapshot:
        return await _in_thread(self._runtime, functools.partial(self._session.snapshot, **options))

    async def pause(self) -> None:
        await _in_thread(self._runtime, self._session.pause)

    async def resume(self) -> None:
        await _in_thread(self._runtime, self._session.resume)

    async def detach(self) -> None:
        await _in_thread(self._runtime, self._session.detach)

    async def close(self) -> None:
        await _in_thread(self._runtime, self._session.close)

    async def __aenter__(self) -> AsyncSession:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


class AsyncFiles:
    """A session's files, awaited; see :class:`stockade.files.Files`."""

    def __init__(self, session: Session) -> None:
        self._files = session.files
        self._runtime = session.provider.runtime

    async def _call(self, method: Callable[..., _T], *args: Any, **options: Any) -> _T:
        return await _in_thread(self._runtime, functools.partial(method, *args, **options))

    async def read(self, path: str, *, max_bytes: int = DEFAULT_MAX_BYTES) -> bytes:
        return await self._call(self._files.read, path, max_bytes=max_bytes)

    async def read_text(self, path: str, *, max_bytes: int = DEFAULT_MAX_BYTES) -> str:
        return await self._call(self._files.read_text, path, max_bytes=max_bytes)

    async def write(self, path: str, data: bytes, *, mode: int | None = None) -> None:
        await self._call(self._files.write, path, data, mode=mode)

    async def write_text(self, path: str, text: str, *, mode: int | None = None) -> None:
        await self._call(self._files.write_text, path, text, mode=mode)

    async def list(self, path: str = ".") -> list[FileInfo]:
        return await self._call(self._files.list, path)

    async def stat(self, path: str) -> FileInfo:
        return await self._call(self._files.stat, path)

    async def exists(self, path: str) -> bool:
        return await self._call(self._files.exists, path)

    async def make_dir(self, path: str) -> None:
        await self._call(self._files.make_dir, path)

    async def remove(self, path: str, *, tree: bool = False) -> None:
        await self._call(self._files.remove, path, tree=tree)

    async def put_tree(self, source: str | os.PathLike[str], path: str) -> None:
        await self._call(self._files.put_tree, source, path)

    async def get_tree(
        self, path: str, destination: str | os.PathLike[str], **options: int
    ) -> None:
        await self._call(self._files.get_tree, path, destination, **options)


class AsyncPool:
    """A warm pool whose calls are awaited; see :class:`stockade.pool.Pool`.

    async with stockade.aio.AsyncPool("landlock", size=4) as pool:
        async with await pool.open(agent_id="researcher") as session:
            await session.run(["echo", "hi"])
    """

    def __init__(self, string: str, **options: Any) -> None:
        self._string = string
        self._options = options
        self._pool: Pool | None = None

    async def __aenter__(self) -> AsyncPool:
        make = functools.partial(Pool, self._string, **self._options)
        self._pool = await asyncio.get_running_loop().run_in_executor(None, make)
        return self

    @property
    def sync(self) -> Pool:
        """The same pool, with blocking calls; there once the pool was entered."""
        if self._pool is None:
            raise SessionStateError("the pool is used inside of its `async with` block.")
        return self._pool

    async def open(self, agent_id: str = DEFAULT_AGENT) -> AsyncSession:
        """As ``Pool.open``; a session that comes after a cancelled await is closed."""
        pool = self.sync
        runtime = pool.runtime
        offer = functools.partial(pool.offer, agent_id)
        record = await _in_thread(runtime, offer, runtime.preparing)
        if record is None:
            return await _start(pool.provider, agent_id)
        try:
            await _seat(runtime, agent_id, record.seat)
        except BaseException as error:
            back = functools.partial(pool.take_back, record, agent_id, error)
            await _in_thread(runtime, back)
            raise
        return await _session(runtime, functools.partial(pool.hand_over, record, agent_id))

    async def __aexit__(self, *_: object) -> None:
        await _in_thread(self.sync.runtime, self.sync.close)


async def attach(
    session_id: str,
    *,
    agent_id: str = DEFAULT_AGENT,
    runtime: Runtime | None = None,
    env_vars: Mapping[str, str] | None = None,
) -> AsyncSession:
    """As :func:`stockade.attach`; a session that comes after a cancelled await is let go of."""
    from stockade.runtime import default_runtime

    runtime = runtime or default_runtime()
    held = {record.session_id for record in runtime.registry.records()}
    future = asyncio.wrap_future(
        runtime.workers.submit(
            functools.partial(
                attach_session, session_id, agent_id=agent_id, runtime=runtime, env_vars=env_vars
            )
        )
    )
    try:
        return AsyncSession(await asyncio.shield(future))
    except asyncio.CancelledError:
        await asyncio.wait([future])
        if future.exception() is None and session_id not in held:
            await _in_thread(runtime, future.result().detach)
        raise


async def open(
    string: str,
    *,
    agent_id: str = DEFAULT_AGENT,
    runtime: Runtime | None = None,
    snapshot: Snapshot | None = None,
    **config: Any,
) -> AsyncSession:
    """As :func:`stockade.open`; a session that comes up after a cancelled await is closed.

    Where it waits for its turn it takes no thread.
    """
    from stockade.runtime import default_runtime

    runtime = runtime or default_runtime()
    call = functools.partial(select, string, runtime=runtime, check_available=True, **config)
    return await _start(await _in_thread(runtime, call, runtime.preparing), agent_id, snapshot)


async def _start(
    chosen: WallProvider, agent_id: str, snapshot: Snapshot | None = None
) -> AsyncSession:
    """What ``Runtime.create`` does, the wait in line awaited."""
    runtime, name, wall = chosen.runtime, chosen.name, chosen.wall
    prepare = functools.partial(runtime.prepare, name, wall, agent_id, chosen.config)
    config = await _in_thread(runtime, prepare, runtime.preparing)
    try:
        seat = await _seat(runtime, agent_id)
    except CapacityError as error:
        runtime.tell_refused(name, agent_id, error)
        raise

    def start() -> Session:
        record = runtime.start(name, wall, agent_id, config, seat)
        return restored(Session(chosen, record), snapshot)

    return await _session(runtime, start)


async def _seat(runtime: Runtime, agent_id: str, seat: Seat | None = None) -> Seat:
    """As ``Capacity.take``; cancelling the await leaves the line."""
    capacity = runtime.capacity
    turn = capacity.ask(agent_id, seat=seat)
    if turn.future.done():
        return turn.future.result()
    future = asyncio.wrap_future(turn.future)
    try:
        done, _ = await asyncio.wait([future], timeout=capacity.patience)
    except asyncio.CancelledError:
        capacity.abandon(turn)
        raise
    return future.result() if done else capacity.give_up(turn)


async def _session(runtime: Runtime, call: Callable[[], Session]) -> AsyncSession:
    future = _submit(runtime.workers, call)
    try:
        return AsyncSession(await asyncio.shield(future))
    except asyncio.CancelledError:
        await asyncio.wait([future])
        if future.exception() is None:
            await _in_thread(runtime, future.result().close)
        raise
