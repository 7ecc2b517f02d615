"""A session's files, awaited; a call ends when its await is cancelled (F2)."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from stockade.aio.calls import submit
from stockade.files import Files
from stockade.files._api import PIECE_BYTES
from stockade.files._arguments import InsidePath
from stockade.files._calls import Scope, Timeout, cancellable

if TYPE_CHECKING:
    from stockade.session import Session
    from stockade.sessions._runtime import Runtime

__all__ = ["AsyncFiles", "call_awaited"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def call_awaited(runtime: Runtime, call: Callable[[], _T]) -> _T:
    """Make file calls in one of core's threads; cancelling the await ends them at once."""
    scope = Scope()

    def work() -> _T:
        with cancellable(scope):
            return call()

    future = submit(runtime.workers, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        scope.cancel()
        await asyncio.wait([future])
        if not future.cancelled():
            future.exception()
        raise


def _awaited(
    method: Callable[Concatenate[Files, _P], _T],
) -> Callable[Concatenate[AsyncFiles, _P], Coroutine[Any, Any, _T]]:
    """The same call, with the same parameters and words, in one of core's threads."""

    @functools.wraps(method)
    async def call(self: AsyncFiles, /, *args: _P.args, **options: _P.kwargs) -> _T:
        work = functools.partial(method, self._files, *args, **options)
        return await call_awaited(self._runtime, work)

    return call


class AsyncFiles:
    """See :class:`stockade.files.Files`: every call of it is here, awaited."""

    def __init__(self, session: Session) -> None:
        self._files = session.files
        self._runtime = session.provider.runtime

    read = _awaited(Files.read)
    read_text = _awaited(Files.read_text)
    write = _awaited(Files.write)
    write_text = _awaited(Files.write_text)
    list = _awaited(Files.list)
    stat = _awaited(Files.stat)
    exists = _awaited(Files.exists)
    make_dir = _awaited(Files.make_dir)
    remove = _awaited(Files.remove)
    move = _awaited(Files.move)
    copy = _awaited(Files.copy)
    put_tree = _awaited(Files.put_tree)
    get_tree = _awaited(Files.get_tree)
    put_archive = _awaited(Files.put_archive)
    get_archive = _awaited(Files.get_archive)

    async def read_pieces(
        self, path: InsidePath, *, offset: int = 0, timeout: Timeout = "session"
    ) -> AsyncIterator[bytes]:
        """As ``Files.read_pieces``: ``async for piece in session.files.read_pieces(…)``."""
        while piece := await self.read(
            path, offset=offset, length=PIECE_BYTES, max_bytes=PIECE_BYTES, timeout=timeout
        ):
            yield piece
            offset += len(piece)
