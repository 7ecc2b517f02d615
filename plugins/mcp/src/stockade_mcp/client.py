"""One client's sandbox: opened at its first call, ended with the client."""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import attrs

import stockade
from stockade import SessionStatus
from stockade.errors import (
    CapacityError,
    ExecutionNotFoundError,
    SessionStateError,
    StockadeError,
)

if TYPE_CHECKING:
    from stockade.aio import AsyncExecution, AsyncSession
    from stockade.session import Session

__all__ = ["Behind", "Client", "Process", "whole"]

#: Programs that one client may have started and not stopped, and executions at one time: each
#: takes a thread of this process and as much memory as its output may.
MOST_PROCESSES = 32
MOST_AT_ONCE = 16
_GONE = (SessionStatus.DESTROYING, SessionStatus.DESTROYED, SessionStatus.FAILED)
_T = TypeVar("_T")


@attrs.frozen(kw_only=True)
class Behind:
    """What the operator decides, and no model: the wall, its limits, what it is shown."""

    preference: Any  #: as ``stockade.open`` takes it
    fields: Mapping[str, Any] = attrs.field(factory=dict)  #: of the configuration
    #: ``env`` and ``working_dir`` of every execution
    start: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    #: Called with each session that was opened, in a thread: what it copies in is there.
    bring: Callable[[Session], None] = attrs.field(default=lambda _: None)
    agent: str = "mcp"  #: the agent that policies and listings see
    text_bytes: int = 30_000  #: of each text that a result holds


@attrs.define(eq=False)
class Process:
    """A program that ``start_process`` started."""

    execution: AsyncExecution
    position: int = 0  #: how far its output was read
    reading: asyncio.Lock = attrs.field(factory=asyncio.Lock)


async def whole(work: Coroutine[Any, Any, _T]) -> _T:
    """Await it in a task of its own, which a cancelled request cancels once and waits for.

    The SDK's cancel scopes cancel every await until their end, and stockade awaits the end of
    what it cancels: so a cancelled execution's tree is gone before the request is.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise


class Client:
    """Made for each client; ``close`` ends all that is left of it."""

    def __init__(self, behind: Behind) -> None:
        self.behind = behind
        self.at_once = asyncio.Semaphore(MOST_AT_ONCE)
        #: Held from ``make_room`` to ``keep``.
        self.starting = asyncio.Lock()
        self._opening: asyncio.Task[AsyncSession] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._processes: dict[str, Process] = {}

    async def session(self) -> AsyncSession:
        """Its session. One that has ended is reported once; the next call opens another."""
        if self._closing is not None:
            raise SessionStateError("this client has left; connect again.")
        opening = self._opening
        if opening is None:
            opening = self._opening = asyncio.create_task(self._open())
        try:
            session = await asyncio.shield(opening)
        except Exception:
            self._forget(opening)
            raise
        if session.status in _GONE:
            self._forget(opening)
            with contextlib.suppress(StockadeError):  # observers have it
                await session.close()  # one that failed still has its sandbox
            raise SessionStateError(
                "the sandbox has ended (it died, or its lifetime is over), and its files and "
                "processes with it; the next call gets a new one."
            )
        return session

    def _forget(self, opening: asyncio.Task[AsyncSession]) -> None:
        if self._opening is opening:
            self._opening = None
            self._processes.clear()

    async def _open(self) -> AsyncSession:
        behind = self.behind
        session = await stockade.aio.open(behind.preference, agent_id=behind.agent, **behind.fields)
        try:
            await asyncio.to_thread(behind.bring, session.sync)
        except BaseException:
            await session.close()
            raise
        return session

    def placed(self, path: str) -> str:
        """A path as the model writes it: relative ones start where its commands do."""
        return posixpath.join(self.behind.start.get("working_dir", ""), path) or "."

    def options(self, working_dir: str, **more: Any) -> dict[str, Any]:
        """Of an execution."""
        found = {**self.behind.start, **more}
        if working_dir:
            found["working_dir"] = self.placed(working_dir)
        return found

    # -- programs that run beside ---------------------------------------------

    def keep(self, execution: AsyncExecution) -> None:
        """Know it by its id; those that have ended make room."""
        self._processes[execution.execution_id] = Process(execution)

    def make_room(self) -> None:
        """Raises CapacityError where too many run; who has ended longest goes."""
        ended = [key for key, one in self._processes.items() if one.execution.future.done()]
        while len(self._processes) >= MOST_PROCESSES:
            if not ended:
                raise CapacityError(f"{MOST_PROCESSES} processes run; stop one of them first.")
            del self._processes[ended.pop(0)]

    def process(self, process_id: str) -> Process:
        """The one of that id. Raises ExecutionNotFoundError."""
        found = self._processes.get(process_id)
        if found is None:
            have = ", ".join(self._processes) or "none"
            raise ExecutionNotFoundError(f"no process {process_id!r:.80}; there are: {have}.")
        return found

    # -- the end ----------------------------------------------------------------

    async def close(self) -> None:
        """End its session, and the opening of one; may be called again."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        opening = self._opening
        if opening is None:
            return
        opening.cancel()
        await asyncio.wait([opening])
        if not opening.cancelled() and opening.exception() is None:
            await opening.result().close()
