"""An execution whose result and live output are awaited."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import TYPE_CHECKING

from stockade.aio.calls import Call, in_thread, next_of, until_done
from stockade.aio.output import AsyncOutputReader
from stockade.executions._execution import KILL_GRACE_SECONDS
from stockade.results import Chunk, ExecutionHandle, ExecutionStatus, SandboxResult

if TYPE_CHECKING:
    from stockade.executions._execution import Execution
    from stockade.sessions._runtime import Runtime
    from stockade.values.signals import SignalLike

__all__ = ["AsyncExecution", "StreamCall"]

#: How long a cancelled await stays for the end that it caused; a wall has less than that.
_END_SECONDS = 2 * KILL_GRACE_SECONDS


class AsyncExecution:
    """See :class:`stockade.Execution`; made by a session's ``start`` and ``stream``."""

    def __init__(self, execution: Execution, runtime: Runtime) -> None:
        self._execution = execution
        self._runtime = runtime

    @property
    def execution_id(self) -> str:
        """As ``Execution.execution_id``."""
        return self._execution.execution_id

    @property
    def status(self) -> ExecutionStatus:
        """The present state (C4)."""
        return self._execution.status

    @property
    def future(self) -> Future[SandboxResult]:
        """The result to come; read it, do not set or cancel it."""
        return self._execution.future

    def handle(self) -> ExecutionHandle:
        """The trait's record of this execution, as it is now."""
        return self._execution.handle()

    async def signal(self, number: SignalLike, *, group: bool = False) -> None:
        """Send the program a signal, by number (Linux') or name (D18)."""
        call = functools.partial(self._execution.signal, number, group=group)
        await in_thread(self._runtime, call)

    async def write(self, data: bytes | str) -> None:
        """Write to its open standard input (D17); a part of it may be written when the await
        is cancelled."""
        cancelled = threading.Event()
        call = functools.partial(self._execution.write_unless, data, cancelled.is_set)
        await in_thread(self._runtime, call, cancel=cancelled.set)

    async def close_stdin(self) -> None:
        """End its standard input, after what was written; may be called again."""
        await in_thread(self._runtime, self._execution.close_stdin)

    def follow(self, offset: int | None = 0) -> AsyncOutputReader:
        """Read its output beside others, from an offset on (D18): ``async for`` pieces."""
        return AsyncOutputReader(self._execution.follow(offset))

    def cancel(self) -> None:
        """End it, tree and all; await ``result()`` for the end."""
        self._execution.cancel()

    @property
    def interpreter(self) -> tuple[str, str] | None:
        """The language and the name of the interpreter that keeps its state, if one does."""
        return self._execution.interpreter

    def interrupt(self) -> None:
        """Interrupt the code of a named interpreter, which keeps its state (D20)."""
        self._execution.interrupt()

    async def result(self, timeout: float | None = None) -> SandboxResult:
        """The result; cancelling the await cancels the execution (D12).

        Raises as ``Execution.result``: TimeoutError when ``timeout`` seconds pass first,
        and the execution runs on then.
        """
        future = asyncio.wrap_future(self._execution.future)
        try:
            done, _ = await asyncio.wait([future], timeout=timeout)
        except asyncio.CancelledError:
            await self._end(future)
            raise
        if not done:
            raise TimeoutError(f"no result within {timeout} s; it is still running")
        return future.result()

    async def take(self) -> Chunk | None:
        """The next live piece, or None at the end; cancelling the await cancels the
        execution (D12). It takes no thread, however long it waits."""
        reader = self._execution._live()
        try:
            return await next_of(reader, reader.forget, None)
        except asyncio.CancelledError:
            await self._end(asyncio.wrap_future(self._execution.future))
            raise

    async def _end(self, waiting: asyncio.Future[SandboxResult]) -> None:
        """The await was cancelled: end the execution, and wait for that."""
        self._execution.cancel()
        await until_done(waiting, _END_SECONDS)

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        """Live pieces until the end; leaving the loop early cancels the execution."""
        try:
            while (chunk := await self.take()) is not None:
                yield chunk
        finally:
            if not self._execution.future.done():
                self._execution.cancel()

    async def __aenter__(self) -> AsyncExecution:
        return self

    async def __aexit__(self, *error: object) -> None:
        """Cancel what still runs and wait for its end."""
        await in_thread(self._runtime, functools.partial(self._execution.__exit__, *error))


class StreamCall(Call[AsyncExecution]):
    """A call that starts a stream: await it, enter it, or iterate over its pieces at once."""

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        async for chunk in await self._work:
            yield chunk
