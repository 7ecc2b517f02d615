"""A terminal whose reading and writing are awaited."""

from __future__ import annotations

import asyncio
import functools
import time
from typing import TYPE_CHECKING

from stockade.aio.calls import in_thread
from stockade.aio.execution import AsyncExecution
from stockade.aio.output import AsyncOutputReader

if TYPE_CHECKING:
    from stockade.executions._terminals import TerminalExecution
    from stockade.sessions._runtime import Runtime

__all__ = ["AsyncTerminal"]


class AsyncTerminal(AsyncExecution):
    """See :class:`stockade.TerminalExecution`; made by a session's ``terminal``."""

    def __init__(self, terminal: TerminalExecution, runtime: Runtime) -> None:
        super().__init__(terminal, runtime)
        self._terminal = terminal
        self._shown: AsyncOutputReader | None = None

    def fileno(self) -> int:
        """A descriptor that is readable when ``read`` would not wait, until ``close``."""
        return self._terminal.fileno()

    async def read(self, timeout: float | None = None) -> bytes:
        """What it shows next; empty when the program has ended. A cancelled await loses
        nothing. Raises TimeoutError when ``timeout`` seconds pass first."""
        if self._shown is None:
            self._shown = AsyncOutputReader(self._terminal.pace())
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if until is None else max(0.0, until - time.monotonic())
            chunk = await self._shown.take(left)
            if chunk is None and not self._shown.over:
                raise TimeoutError(f"the terminal showed nothing within {timeout} s")
            if chunk is None:
                await asyncio.wait([asyncio.wrap_future(self._terminal.future)])
                return b""
            if chunk.data:
                return chunk.data

    async def resize(self, rows: int, columns: int) -> None:
        """Report the window's size to the program."""
        await in_thread(self._runtime, functools.partial(self._terminal.resize, rows, columns))

    async def exit_code(self) -> int:
        """The program's exit code, waiting for its end; cancelling the await ends it."""
        return (await self.result()).exit_code

    async def close(self) -> None:
        """Hang up: the program is ended, with its tree; may be called again."""
        await in_thread(self._runtime, self._terminal.close)

    async def __aenter__(self) -> AsyncTerminal:
        return self
