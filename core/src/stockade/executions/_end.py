"""The end of an execution: a future, and a quick way to wait for it."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from threading import TIMEOUT_MAX

from stockade.errors import StockadeError
from stockade.results import SandboxResult

__all__ = ["End"]


class End(Future[SandboxResult]):
    """The result to come. The future's own ``result`` wakes a thread that then waits for a lock,
    which the setter still holds: one more turn of both, with each execution."""

    def __init__(self) -> None:
        super().__init__()
        self._asleep: list[threading.Lock] = []  # each thread that waits here holds one of them

    def reached(self, timeout: float | None) -> bool:
        """Whether it comes within so many seconds; None: wait as long as it takes."""
        if self.done():
            return True
        woken = threading.Lock()
        woken.acquire()
        self._asleep.append(woken)
        try:
            if not self.done():  # else it may have been too late to be woken
                woken.acquire(timeout=-1 if timeout is None else min(max(timeout, 0), TIMEOUT_MAX))
        finally:
            self._asleep.remove(woken)
        return self.done()

    def give(self, end: SandboxResult | StockadeError) -> None:
        """Set it, and wake each thread that waits."""
        try:
            if isinstance(end, StockadeError):
                self.set_exception(end)
            else:
                self.set_result(end)
        finally:
            for thread in tuple(self._asleep):
                thread.release()
