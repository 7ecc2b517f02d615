"""Awaiting core's threads on asyncio and on trio alike.

``stockade.aio`` speaks asyncio; inspect runs on either. So calls run in core's own threads, as
those of ``stockade.aio`` do, and their futures are awaited here, by way of anyio.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import anyio
import anyio.lowlevel

import stockade
from stockade.files import Scope, cancellable

__all__ = ["awaited", "called", "made"]

_T = TypeVar("_T")


async def awaited(future: Future[_T], cancel: Callable[[], object] | None = None) -> _T:
    """What comes of a future. When the await is cancelled, ``cancel`` is called, which ends what
    the future stands for, and its end is awaited before the cancellation goes on (D12)."""
    done = anyio.Event()
    loop: Any = anyio.lowlevel.current_token().native_token
    soon = getattr(loop, "run_sync_soon", None) or loop.call_soon_threadsafe

    def wake(_: Future[_T]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            soon(done.set)

    future.add_done_callback(wake)
    try:
        await done.wait()
    except anyio.get_cancelled_exc_class():
        if cancel is not None:
            cancel()
            with anyio.CancelScope(shield=True):
                await done.wait()
        raise
    return future.result()


def _submit(call: Callable[[], _T]) -> Future[_T]:
    """Begin a call in one of core's threads, in the caller's context."""
    context = contextvars.copy_context()
    return stockade.default_runtime().workers.submit(functools.partial(context.run, call))


async def called(call: Callable[[], _T], undo: Callable[[_T], object] | None = None) -> _T:
    """Make a blocking call in a thread; file calls in it end when the await is cancelled. What
    it gave all the same, ``undo`` ends, awaited too."""
    scope = Scope()

    def work() -> _T:
        with cancellable(scope):
            return call()

    future = _submit(work)
    try:
        return await awaited(future, scope.cancel)
    except anyio.get_cancelled_exc_class():
        if undo is not None and future.done() and future.exception() is None:
            with anyio.CancelScope(shield=True):
                await awaited(_submit(functools.partial(undo, future.result())))
        raise


async def made(call: Callable[[], _T], undo: Callable[[_T], object]) -> _T:
    """As ``called``, and a cancelled await does not wait for the end: an image may be on its way.
    What comes then is undone by itself."""
    future = _submit(call)

    def late(_: Future[_T]) -> None:
        if future.exception() is None:
            _submit(functools.partial(undo, future.result()))

    try:
        return await awaited(future)
    except anyio.get_cancelled_exc_class():
        future.add_done_callback(late)
        raise
