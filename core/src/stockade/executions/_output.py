"""Bounded collection of what a program prints, and its live form (D4, D5, D13).

Host memory stays bounded whatever is printed: each stream keeps its first
``limit`` bytes for the result, and a live reader finds at most ``limit`` bytes
waiting; past that the program is held back until the reader has caught up.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from stockade.executions._shown import Shown
from stockade.results import Chunk, Stream

__all__ = ["BoundedOutput"]


class _Kept:
    """One stream's first bytes and its count."""

    __slots__ = ("data", "total")

    def __init__(self) -> None:
        self.data = bytearray()
        self.total = 0


class BoundedOutput:
    """Core's :class:`stockade.wall.Output`; made anew for every execution."""

    def __init__(
        self, limit: int, *, live: bool = False, on_excess: Callable[[], None] | None = None
    ) -> None:
        """``on_excess`` is called once when a stream passes the limit (policy "end")."""
        self._limit = limit
        self._live = live
        self._read = live  # somebody reads it as it comes, or in the end where it is held
        self._on_excess = on_excess
        self._kept = {stream: _Kept() for stream in Stream}
        self.shown = Shown(limit)
        self._changed = threading.Condition(threading.Lock())
        self._chunks: deque[Chunk] = deque()
        self._waiting = 0  # bytes in _chunks
        self._ended = False  # nothing more comes
        self._released = False  # nobody reads: writers are not held back any more

    # -- the wall's side -----------------------------------------------------

    def write(self, stream: Stream, data: bytes) -> None:
        if not data:
            return
        with self._changed:
            if self._ended:
                return
            excess = self._keep(stream, data)
            if self._live and not self._released:
                self._offer(stream, bytes(data))
        if excess:
            self._report_excess()

    def room(self, stream: Stream) -> int:
        with self._changed:
            if self._ended:
                return 0
            if self._live and not self._released:
                return max(0, self._limit - self._waiting)
            return max(0, self._limit - len(self._kept[stream].data))

    def full(self, stream: Stream) -> bool:
        with self._changed:
            if self._live and not self._released and not self._ended:
                return False
            return self._ended or len(self._kept[stream].data) >= self._limit

    def drop(self, stream: Stream, count: int) -> None:
        with self._changed:
            if self._ended or count <= 0:
                return
            kept = self._kept[stream]
            kept.total += count
            excess = kept.total > self._limit
        if excess:
            self._report_excess()

    def show(self, data: bytes) -> None:
        before = self.shown.truncated
        self.shown.feed(data)
        if self.shown.truncated and not before:
            self._report_excess()

    def _keep(self, stream: Stream, data: bytes) -> bool:
        """Keep what fits; whether the stream is now past its limit."""
        kept = self._kept[stream]
        kept.total += len(data)
        space = self._limit - len(kept.data)
        if space > 0:
            kept.data += data if len(data) <= space else memoryview(data)[:space]
        return kept.total > self._limit

    def _report_excess(self) -> None:
        report, self._on_excess = self._on_excess, None
        if report is not None:
            report()

    def _offer(self, stream: Stream, data: bytes) -> None:
        """Queue pieces for the reader, in order, waiting while it is behind."""
        view = memoryview(data)
        while view:
            while self._waiting >= self._limit and not (self._ended or self._released):
                self._changed.wait()
            if self._ended or self._released:
                return
            piece = bytes(view[: self._limit - self._waiting])
            view = view[len(piece) :]
            self._chunks.append(Chunk(stream, piece))
            self._waiting += len(piece)
            self._changed.notify_all()

    # -- core's side ---------------------------------------------------------

    def release(self) -> None:
        """Hold no writer back any more: the execution is being ended, or nobody reads."""
        with self._changed:
            self._released = True
            self._changed.notify_all()

    def hold(self) -> None:
        """Give a live reader nothing until the end (``show``); no writer waits for it then."""
        with self._changed:
            self._live = False

    def end(self, show: Iterable[Chunk] = ()) -> None:
        """Take no more; a live reader gets what is there, and ``show``, then stops."""
        with self._changed:
            if self._read and not self._ended:
                self._chunks.extend(chunk for chunk in show if chunk.data)
            self._ended = True
            self._changed.notify_all()

    def take(self, timeout: float | None = None) -> Chunk | None:
        """The next live piece, or None at the end (or after ``timeout`` seconds)."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._chunks or self._ended, timeout):
                return None
            if not self._chunks:
                return None
            chunk = self._chunks.popleft()
            self._waiting -= len(chunk.data)  # below zero for what was shown: nobody writes then
            self._changed.notify_all()
            return chunk

    def __iter__(self) -> Iterator[Chunk]:
        while (chunk := self.take()) is not None:
            yield chunk

    def data(self, stream: Stream) -> bytes:
        with self._changed:
            return bytes(self._kept[stream].data)

    def total(self, stream: Stream) -> int:
        with self._changed:
            return self._kept[stream].total

    def truncated(self, stream: Stream) -> bool:
        with self._changed:
            kept = self._kept[stream]
            return kept.total > len(kept.data)
