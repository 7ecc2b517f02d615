"""A session's files, awaited; a call ends when its await is cancelled (F2)."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from stockade.aio.calls import Call, in_thread, next_of
from stockade.files import FileEvent, Files, Watch
from stockade.files._api import PIECE_BYTES
from stockade.files._arguments import InsidePath
from stockade.files._calls import Scope, Timeout, cancellable

if TYPE_CHECKING:
    from stockade.session import Session
    from stockade.sessions._runtime import Runtime

__all__ = ["AsyncFiles", "AsyncWatch", "call_awaited"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def call_awaited(
    runtime: Runtime, call: Callable[[], _T], *, undo: Callable[[_T], object] | None = None
) -> _T:
    """Make file calls in one of core's threads; cancelling the await ends them at once."""
    scope = Scope()

    def work() -> _T:
        with cancellable(scope):
            return call()

    return await in_thread(runtime, work, cancel=scope.cancel, undo=undo)


def _awaited(
    method: Callable[Concatenate[Files, _P], _T],
) -> Callable[Concatenate[AsyncFiles, _P], Coroutine[Any, Any, _T]]:
    """The same call, with the same parameters and words, in one of core's threads."""

    @functools.wraps(method)
    async def call(self: AsyncFiles, /, *args: _P.args, **options: _P.kwargs) -> _T:
        work = functools.partial(method, self._files, *args, **options)
        return await call_awaited(self._runtime, work)

    return call


class AsyncWatch:
    """See :class:`stockade.files.Watch`: ``async for event in changes``."""

    def __init__(self, watch: Watch, runtime: Runtime) -> None:
        self._watch = watch
        self._runtime = runtime

    def poll(self) -> tuple[FileEvent | None, bool]:
        """The next event where there is one, without waiting, and whether no more comes."""
        return self._watch.poll()

    def listen(self, listener: Callable[[], None] | None) -> None:
        """As ``Watch.listen``; ``take`` takes its place."""
        self._watch.listen(listener)

    async def take(self, timeout: float | None = None) -> FileEvent | None:
        """The next event; None at the end, or when ``timeout`` seconds have passed first."""
        return await next_of(self._watch, lambda _: self._watch.listen(None), timeout)

    async def close(self) -> None:
        """Watch no more; may be called again."""
        self._watch.close()

    async def __aiter__(self) -> AsyncIterator[FileEvent]:
        while (event := await self.take()) is not None:
            yield event

    async def __aenter__(self) -> AsyncWatch:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watch.close()


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

    def watch(
        self, path: InsidePath = ".", *, recursive: bool = False, timeout: float | None = None
    ) -> Call[AsyncWatch]:
        """As ``Files.watch``: ``async with session.files.watch(…) as changes``."""
        begin = functools.partial(self._files.watch, path, recursive=recursive, timeout=timeout)
        return Call(self._begin(begin))

    async def _begin(self, begin: Callable[[], Watch]) -> AsyncWatch:
        watch = await call_awaited(self._runtime, begin, undo=Watch.close)
        return AsyncWatch(watch, self._runtime)

    async def read_pieces(
        self, path: InsidePath, *, offset: int = 0, timeout: Timeout = "session"
    ) -> AsyncIterator[bytes]:
        """As ``Files.read_pieces``: ``async for piece in session.files.read_pieces(…)``."""
        while piece := await self.read(
            path, offset=offset, length=PIECE_BYTES, max_bytes=PIECE_BYTES, timeout=timeout
        ):
            yield piece
            offset += len(piece)
