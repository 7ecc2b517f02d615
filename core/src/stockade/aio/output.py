"""A reader of an execution's output, awaited."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stockade.executions._output import OutputReader
    from stockade.results import Chunk

__all__ = ["AsyncOutputReader"]


class AsyncOutputReader:
    """See :class:`stockade.OutputReader`; made by an execution's ``follow``.

    It takes no thread, however long it waits. A cancelled await loses nothing: the next one
    goes on where it was. For one task at a time.
    """

    def __init__(self, reader: OutputReader) -> None:
        self._reader = reader
        self._woken: asyncio.Event | None = None

    @property
    def position(self) -> int:
        """Where it is, in the order in which the bytes of both streams came."""
        return self._reader.position

    @property
    def over(self) -> bool:
        """Whether nothing more comes to it."""
        return self._reader.over

    async def take(self, timeout: float | None = None) -> Chunk | None:
        """The next piece; None at the end, after ``close``, or when ``timeout`` seconds have
        passed first."""
        if timeout is None:
            return await self._take()
        try:
            return await asyncio.wait_for(self._take(), timeout)
        except (asyncio.TimeoutError, TimeoutError):
            return None

    async def _take(self) -> Chunk | None:
        woken = self._listen()
        while True:
            woken.clear()
            chunk, over = self._reader.poll()
            if chunk is not None or over:
                return chunk
            await woken.wait()

    def _listen(self) -> asyncio.Event:
        """Wake this task whenever there may be more, from whichever thread."""
        if self._woken is None:
            loop = asyncio.get_running_loop()
            woken = self._woken = asyncio.Event()

            def wake() -> None:
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    loop.call_soon_threadsafe(woken.set)

            self._reader.listen(wake)
        return self._woken

    def close(self) -> None:
        """Read no more; may be called again. Who waits gets None."""
        self._reader.close()

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        while (chunk := await self.take()) is not None:
            yield chunk

    async def __aenter__(self) -> AsyncOutputReader:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
