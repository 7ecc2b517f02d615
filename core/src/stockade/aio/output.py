"""A reader of an execution's output, awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from stockade.aio.calls import next_of

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
        return await next_of(self._reader, self._reader.forget, timeout)

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
