"""The everyday face, awaitable.

    async with stockade.aio.open("landlock") as session:
        result = await session.run(["echo", "hi"])
        async with session.stream(["make"]) as execution:
            async for chunk in execution:
                print(chunk.text, end="")

It is the same implementation, with all that the blocking face has: an execution runs in
core's threads either way, and awaiting one waits on its future. Cancelling an await, of a
result or of the next piece of a stream, ends the execution, its whole tree, before the
cancellation goes on (D12).
"""

from __future__ import annotations

from stockade.aio.calls import Call
from stockade.aio.execution import AsyncExecution, StreamCall
from stockade.aio.files import AsyncFiles
from stockade.aio.opening import attach, open
from stockade.aio.output import AsyncOutputReader
from stockade.aio.pool import AsyncPool
from stockade.aio.session import AsyncSession
from stockade.aio.terminal import AsyncTerminal

__all__ = [
    "AsyncExecution",
    "AsyncFiles",
    "AsyncOutputReader",
    "AsyncPool",
    "AsyncSession",
    "AsyncTerminal",
    "Call",
    "StreamCall",
    "attach",
    "open",
]
