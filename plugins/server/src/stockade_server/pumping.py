"""An execution's output, handed to all who listen at the time.

A listener holds the program back while it is behind, as a pipe would; without one the output goes
nowhere and the program runs on. A listener that goes away changes nothing for the execution.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

import anyio

from stockade.aio import AsyncExecution, AsyncTerminal
from stockade.results import SandboxResult, Verdict
from stockade_server.errors import has_ended

__all__ = ["Listener", "Pump"]

#: The kind ("stdout", "stderr", "pty") and the bytes.
_Piece = tuple[str, bytes]
#: Pieces that wait for a listener.
_MOST_WAITING = 4


class Listener:
    """One reader of a pump: ``take`` until None, then ``close``."""

    def __init__(self, left: Callable[[Listener], None]) -> None:
        self._left = left
        self._pieces: deque[_Piece] = deque()
        self._came = asyncio.Event()
        self._room = asyncio.Event()
        self._over = False
        self._closed = False

    async def put(self, piece: _Piece) -> None:
        """Called by the pump: waits for room."""
        while len(self._pieces) >= _MOST_WAITING and not self._closed:
            self._room.clear()
            await self._room.wait()
        if not self._closed:
            self._pieces.append(piece)
            self._came.set()

    def end(self) -> None:
        """Called by the pump: nothing more comes."""
        self._over = True
        self._came.set()

    async def take(self, seconds: float | None = None) -> _Piece | None:
        """The next piece, None at the end. Raises TimeoutError."""
        while True:
            if self._pieces:
                self._room.set()
                return self._pieces.popleft()
            if self._over or self._closed:
                return None
            self._came.clear()
            with anyio.fail_after(seconds):
                await self._came.wait()

    def close(self) -> None:
        """Listen no more; nobody is held back by it any more."""
        self._closed = True
        self._pieces.clear()
        self._room.set()
        self._came.set()
        self._left(self)


class Pump:
    """Reads an execution from its start to its end, in a task of its own."""

    def __init__(self, execution: AsyncExecution, ended: Callable[[], None]) -> None:
        """``ended`` is called once, at the execution's end."""
        self.execution = execution
        self.result: SandboxResult | None = None
        self.error: BaseException | None = None
        self.over = False
        self._ended = ended
        self._listeners: set[Listener] = set()
        self._task = asyncio.ensure_future(self._run())

    def listen(self) -> Listener:
        """Hear what comes from now on."""
        listener = Listener(self._listeners.discard)
        if self.over:
            listener.end()
        else:
            self._listeners.add(listener)
        return listener

    async def wait(self) -> None:
        """Wait for the end."""
        await asyncio.wait({self._task})

    def outcome(self, *, killed: bool = False) -> SandboxResult:
        """The result, at the end. Raises what the execution raised, and Refused where its
        sandbox or the server ended first; ``killed``: its caller had it cancelled."""
        if self.error is not None:
            raise self.error
        result = self.result
        if result is None or (result.verdict is Verdict.CANCELLED and not killed):
            raise has_ended()
        return result

    async def _run(self) -> None:
        try:
            async for piece in _printed(self.execution):
                for listener in tuple(self._listeners):
                    await listener.put(piece)
            self.result = await self.execution.result()
        except Exception as error:
            self.error = error  # whoever listens reports it
        finally:
            self.over = True
            self._ended()
            for listener in self._listeners:
                listener.end()


async def _printed(execution: AsyncExecution) -> AsyncIterator[_Piece]:
    """What an execution prints, or a terminal shows."""
    if isinstance(execution, AsyncTerminal):
        while data := await execution.read():
            yield "pty", data
        return
    while (chunk := await execution.take()) is not None:
        if chunk.data:
            yield str(chunk.stream), chunk.data
