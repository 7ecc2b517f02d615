"""A terminal whose reading and writing are awaited."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from stockade.aio.calls import in_thread

if TYPE_CHECKING:
    from stockade.sessions._runtime import Runtime
    from stockade.wall import Terminal

__all__ = ["AsyncTerminal"]


class AsyncTerminal:
    """See :class:`stockade.wall.Terminal`; made by a session's ``terminal``."""

    def __init__(self, terminal: Terminal, runtime: Runtime) -> None:
        self._terminal = terminal
        self._runtime = runtime

    def fileno(self) -> int:
        """A descriptor that is readable when ``read`` would not wait."""
        return self._terminal.fileno()

    async def read(self) -> bytes:
        """What it shows next; empty when the program has ended. Cancelling the await waits
        for what comes next: ``close`` ends that wait."""
        return await in_thread(self._runtime, self._terminal.read)

    async def write(self, data: bytes) -> None:
        """Type bytes into it; waits while the program does not read them."""
        await in_thread(self._runtime, functools.partial(self._terminal.write, data))

    async def resize(self, rows: int, columns: int) -> None:
        """Set the window's size, in characters."""
        await in_thread(self._runtime, functools.partial(self._terminal.resize, rows, columns))

    async def exit_code(self) -> int:
        """The program's exit code, 128+n after signal n; ask once ``read`` gave nothing."""
        return await in_thread(self._runtime, self._terminal.exit_code)

    async def close(self) -> None:
        """Hang up and end the program's whole tree; may be called again."""
        await in_thread(self._runtime, self._terminal.close)

    async def __aenter__(self) -> AsyncTerminal:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
