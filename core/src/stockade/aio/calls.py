"""What the awaitable calls are made of: core's threads, and calls that are entered or awaited."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from stockade.sessions._runtime import Runtime
    from stockade.system.threads import Narrow, Workers

__all__ = ["Call", "in_thread", "next_of", "submit", "until_done"]

_T = TypeVar("_T")
_C_co = TypeVar("_C_co", covariant=True)


def submit(workers: Workers | Narrow, call: Callable[[], _T]) -> asyncio.Future[_T]:
    """Start a call in one of core's threads, in the context of the one who awaits it: what
    observers and policies find there (a trace, say) is the caller's."""
    return asyncio.wrap_future(workers.submit(_in_context(call)))


def _in_context(call: Callable[[], _T]) -> Callable[[], _T]:
    return functools.partial(contextvars.copy_context().run, call)


async def in_thread(
    runtime: Runtime,
    call: Callable[[], _T],
    workers: Workers | Narrow | None = None,
    *,
    cancel: Callable[[], object] | None = None,
    undo: Callable[[_T], object] | None = None,
) -> _T:
    """Run a blocking call in one of core's threads; its end is awaited even when cancelled.

    When it is cancelled, ``cancel`` is called first, which may not block, so that the call ends
    soon. Where it gave something all the same, ``undo`` ends that in a thread, awaited too.
    """
    future = submit(workers or runtime.workers, call)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if cancel is not None:
            cancel()
        await until_done(future)
        if undo is not None and not future.cancelled() and future.exception() is None:
            work = _in_context(functools.partial(undo, future.result()))
            undone = asyncio.wrap_future(runtime.workers.submit(work, anyhow=True))
            await until_done(undone)
            undone.result()
        raise


async def until_done(future: asyncio.Future[Any], seconds: float | None = None) -> None:
    """Wait for the end of something, ``seconds`` at most, however often that is cancelled.

    For what has to end before a cancellation goes on (D12, C5). asyncio cancels a task once, but
    a cancel scope of anyio's cancels its every further await until the task has left the scope.
    """
    loop = asyncio.get_running_loop()
    until = None if seconds is None else loop.time() + seconds
    while not future.done() and (until is None or loop.time() < until):
        left = None if until is None else until - loop.time()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([future], timeout=left)
    if future.done() and not future.cancelled():
        future.exception()  # looked at: asyncio warns of errors that nobody looked at


class _Source(Protocol[_C_co]):
    """Something that comes from another thread, piece by piece."""

    def poll(self) -> tuple[_C_co | None, bool]: ...

    def listen(self, listener: Callable[[], None], /) -> None: ...


async def next_of(
    source: _Source[_T], forget: Callable[[Callable[[], None]], None], timeout: float | None
) -> _T | None:
    """The next piece, without a thread that waits for it; None at the end, or when ``timeout``
    seconds have passed first. ``forget`` ends what ``listen`` began."""
    loop, woken, late = asyncio.get_running_loop(), asyncio.Event(), False

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(woken.set)

    def be_late() -> None:
        nonlocal late
        late = True
        woken.set()

    source.listen(wake)
    timer = None if timeout is None else loop.call_later(timeout, be_late)
    try:
        while True:
            woken.clear()
            found, over = source.poll()
            if found is not None or over or late:
                return found
            await woken.wait()
    finally:
        forget(wake)
        if timer is not None:
            timer.cancel()


class _Entered(Protocol):
    """Something that ``async with`` ends."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


_E = TypeVar("_E", bound=_Entered)


class Call(Coroutine[Any, Any, _E]):
    """A call that makes something with an end: await it, or enter it at once.

        session = await stockade.aio.open("landlock")
        async with stockade.aio.open("landlock") as session: ...

    It is a coroutine in every other way: a task can be made of it, and one that is never
    awaited is warned of.
    """

    def __init__(self, work: Coroutine[Any, Any, _E]) -> None:
        self._work = work
        self._made: _E | None = None

    def __await__(self) -> Generator[Any, Any, _E]:
        return self._work.__await__()

    def send(self, value: Any) -> Any:
        """Step the awaited coroutine; asyncio calls it, as ``close`` and ``throw``."""
        return self._work.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise in the awaited coroutine."""
        return self._work.throw(*error)

    def close(self) -> None:
        """Close the awaited coroutine."""
        self._work.close()

    async def __aenter__(self) -> _E:
        self._made = await self._work
        return self._made

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._made is not None  # entered before it is left
        await self._made.__aexit__(kind, error, traceback)
