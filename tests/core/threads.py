"""A system that has few threads to give, as at a limit of processes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest

__all__ = ["few_threads"]


@contextlib.contextmanager
def few_threads(count: int = 0, name: str = "") -> Iterator[None]:
    """So many more threads can be started, of those of one name or of all."""
    start, left = threading.Thread.start, count

    def refuse(thread: threading.Thread) -> None:
        nonlocal left
        if thread.name == name or not name:
            left -= 1
            if left < 0:
                raise RuntimeError("can't start new thread")
        start(thread)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        yield
