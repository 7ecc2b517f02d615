"""The package's calls are coroutines: one thread runs their loop, for every session."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

from stockade.system.forks import FreshLock
from stockade.toolkit.anew import Anew

__all__ = ["call", "submit"]

T = TypeVar("T")

_lock = FreshLock()
_loop: asyncio.AbstractEventLoop | None = None
_pid = 0
#: The package's native part keeps one set of threads for the whole process.
_anew = Anew("microsandbox._microsandbox")


def _running() -> asyncio.AbstractEventLoop:
    """The loop; a process that was forked gets one of its own."""
    global _loop, _pid
    with _lock:
        if _loop is None or _pid != os.getpid():
            _loop, _pid = asyncio.new_event_loop(), os.getpid()
            threading.Thread(
                target=_loop.run_forever, daemon=True, name="stockade-microsandbox"
            ).start()
        return _loop


async def _wait(begin: Callable[[], Awaitable[T]]) -> T:
    return await begin()


def submit(begin: Callable[[], Awaitable[T]]) -> concurrent.futures.Future[T]:
    """Have the loop's thread call ``begin`` and await what it returns; from any thread.

    The package's methods must be called there, not only awaited.
    """
    return asyncio.run_coroutine_threadsafe(_wait(begin), _running())


def call(begin: Callable[[], Awaitable[T]], seconds: float | None = None) -> T:
    """``submit``, and wait. Raises TimeoutError, after which it is cancelled."""
    future = submit(begin)
    try:
        return future.result(seconds)
    except concurrent.futures.TimeoutError:
        if future.done():
            raise
        future.cancel()
        raise TimeoutError(f"no answer within {seconds:g} s") from None
