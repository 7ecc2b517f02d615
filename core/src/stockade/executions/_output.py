"""Bounded collection of what a program prints, and its live form (D4, D5, D13, D18).

Host memory stays bounded whatever is printed: of each stream at most ``limit`` bytes are kept
for the result, and of both together the last ``limit`` bytes for readers that come or fall
behind. The reader of a stream (``live``) misses nothing: the program is held back until it has
caught up. Readers that joined hold nobody back, and learn what they missed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator

from stockade.config import OutputKeep
from stockade.executions._kept import Kept, Recent
from stockade.executions._shown import Shown
from stockade.results import Chunk, Stream

__all__ = ["BoundedOutput", "OutputReader"]


class BoundedOutput:
    """Core's :class:`stockade.wall.Output`; made anew for every execution."""

    def __init__(
        self,
        limit: int,
        *,
        keep: OutputKeep = OutputKeep.HEAD,
        live: bool = False,
        joinable: bool = False,
        on_excess: Callable[[], None] | None = None,
    ) -> None:
        """``live``: its own reader holds the program back. ``joinable``: readers may come
        later, so nothing is drained where it is made. ``on_excess`` is called once when a
        stream passes the limit (policy "end"); nobody is shown more then."""
        self._limit = limit
        self._drains = keep is OutputKeep.HEAD and not joinable
        self._on_excess = on_excess
        self._cuts = on_excess is not None
        self._kept = {stream: Kept(limit, keep) for stream in Stream}
        self.shown = Shown(limit)
        self._changed = threading.Condition(threading.Lock())
        self._recent = Recent(limit)
        self._readers: set[OutputReader] = set()
        self._held = False  # nobody is shown anything before the end
        self._ended = False  # nothing more comes
        self._released = False  # nobody reads: writers are not held back any more
        self._own = OutputReader(self, self._changed, 0)
        self._paced = live  # by its own reader

    # -- the wall's side -----------------------------------------------------

    def write(self, stream: Stream, data: bytes) -> None:
        if not data:
            return
        with self._changed:
            if self._ended:
                return
            kept = self._kept[stream]
            before = kept.total
            kept.add(data)
            excess = kept.total > self._limit
            if not self._held:
                shown = data[: max(0, self._limit - before)] if self._cuts else data
                self._show(stream, bytes(shown))
        if excess:
            self._report_excess()

    def room(self, stream: Stream) -> int:
        with self._changed:
            if self._ended:
                return 0
            if self._holds_back():
                return max(0, self._limit - self._behind())
            return self._limit if self._is_watched() else self._kept[stream].room

    def full(self, stream: Stream) -> bool:
        with self._changed:
            if self._ended:
                return True
            return not self._holds_back() and not self._is_watched() and not self._kept[stream].room

    def drop(self, stream: Stream, count: int) -> None:
        with self._changed:
            if self._ended or count <= 0:
                return
            kept = self._kept[stream]
            kept.total += count
            excess = kept.total > self._limit
            if not self._held:
                self._recent.skip(count)
        if excess:
            self._report_excess()

    def show(self, data: bytes) -> None:
        before = self.shown.truncated
        self.shown.feed(data)
        if self.shown.truncated and not before:
            self._report_excess()

    def _holds_back(self) -> bool:
        return self._paced and not (self._held or self._released or self._ended)

    def _is_watched(self) -> bool:
        """Whether all of it is wanted, kept or not."""
        return not self._held and (not self._drains or bool(self._readers))

    def _behind(self) -> int:
        return self._recent.behind(self._own.position, self._own.number)

    def _report_excess(self) -> None:
        report, self._on_excess = self._on_excess, None
        if report is not None:
            report()

    def _show(self, stream: Stream, data: bytes) -> None:
        """Have readers find it, in order, waiting while the one that must miss nothing is
        behind."""
        if not self._paced:
            self._recent.add(stream, data)
            self._notify()
            return
        view = memoryview(data)
        while view:
            while self._holds_back() and self._behind() >= self._limit:
                self._changed.wait()
            if self._ended:
                return
            most = self._limit - self._behind() if self._holds_back() else len(view)
            self._recent.add(stream, bytes(view[:most]))
            view = view[most:]
            self._notify()

    def _notify(self) -> None:
        self._changed.notify_all()
        for reader in self._readers:
            reader.wake()
        self._own.wake()

    # -- core's side ---------------------------------------------------------

    def pace(self) -> None:
        """From now on its own reader misses nothing that comes."""
        with self._changed:
            self._paced = True

    def release(self) -> None:
        """Hold no writer back any more: the execution is being ended, or nobody reads."""
        with self._changed:
            self._released = True
            self._notify()

    def hold(self) -> None:
        """Give readers nothing until the end (``show``); no writer waits for them then."""
        with self._changed:
            self._held = True

    def end(self, show: Iterable[Chunk] = ()) -> None:
        """Take no more; readers get what is there, and ``show``, then stop."""
        with self._changed:
            if not self._ended:
                for chunk in show:
                    self._recent.add(chunk.stream, chunk.data)
            self._ended = True
            self._notify()

    @property
    def reader(self) -> OutputReader:
        """Its own reader."""
        return self._own

    def join(self, offset: int | None) -> OutputReader:
        """One more reader, from that offset on, or None for what comes from now on (D18)."""
        with self._changed:
            position = self._recent.end if offset is None else offset
            reader = OutputReader(self, self._changed, position)
            if not self._ended:
                self._readers.add(reader)
            return reader

    def read(self, reader: OutputReader) -> Chunk | None:
        """The next piece for a reader, or None. Called under the lock."""
        chunk, reader.number = self._recent.read(reader.position, reader.number)
        missing = self._recent.end - reader.position
        if chunk is None and self._ended and missing > 0:  # what came last was drained inside
            chunk = Chunk(Stream.STDOUT, b"", offset=self._recent.end, dropped=missing)
        if chunk is not None:
            reader.position = chunk.end
            self._changed.notify_all()
        return chunk

    def has_more(self, reader: OutputReader) -> bool:
        """Whether there is a piece for a reader. Called under the lock."""
        return self._recent.read(reader.position, reader.number)[0] is not None

    def number_at(self, position: int) -> int:
        """The number of the piece that holds it. Called under the lock."""
        return self._recent.number_at(position)

    def is_over(self) -> bool:
        """Whether nothing more comes. Called under the lock."""
        return self._ended

    def leave(self, reader: OutputReader) -> None:
        """It reads no more. Called under the lock."""
        self._readers.discard(reader)

    def take(self, timeout: float | None = None) -> Chunk | None:
        """The next piece for its own reader; see :meth:`OutputReader.take`."""
        return self._own.take(timeout)

    def __iter__(self) -> Iterator[Chunk]:
        return iter(self._own)

    def data(self, stream: Stream) -> bytes:
        with self._changed:
            return self._kept[stream].data

    def gap(self, stream: Stream) -> int | None:
        """Where in ``data`` bytes are missing, or None."""
        with self._changed:
            return self._kept[stream].gap

    def total(self, stream: Stream) -> int:
        with self._changed:
            return self._kept[stream].total

    def truncated(self, stream: Stream) -> bool:
        return self.gap(stream) is not None


class OutputReader:
    """One reader of an execution's output (D18); made by ``Execution.follow``.

    Iterating hands out :class:`Chunk` pieces until the program's end. A reader that falls behind
    holds nobody back: what it missed is the next piece's ``dropped``. Safe from any thread.
    """

    def __init__(self, output: BoundedOutput, changed: threading.Condition, position: int) -> None:
        """Made under the lock that ``changed`` has."""
        self._output = output
        self._changed = changed
        self._closed = False
        self._listeners: list[Callable[[], None]] = []
        #: Where it is, in the order in which the bytes of both streams came.
        self.position = position
        #: The piece that it reads next; the output's own.
        self.number = output.number_at(position) if position else 0

    def take(self, timeout: float | None = None) -> Chunk | None:
        """The next piece, waiting for it; None at the end, after ``close``, or when ``timeout``
        seconds have passed first."""
        until = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._closed:
                chunk = self._output.read(self)
                left = None if until is None else until - time.monotonic()
                if chunk is not None or self._output.is_over() or (left is not None and left <= 0):
                    return chunk
                self._changed.wait(left)
            return None

    def poll(self) -> tuple[Chunk | None, bool]:
        """The next piece where there is one, without waiting, and whether no more comes."""
        with self._changed:
            chunk = None if self._closed else self._output.read(self)
            return chunk, chunk is None and (self._closed or self._output.is_over())

    @property
    def over(self) -> bool:
        """Whether nothing more comes to it."""
        with self._changed:
            return self._closed or (self._output.is_over() and not self.has_more(over=False))

    def has_more(self, *, over: bool = True) -> bool:
        """Whether there is a piece for it, or no more to come (``over``), so that ``take`` would
        not wait. Called under the lock."""
        return self._output.has_more(self) or (over and (self._closed or self._output.is_over()))

    def listen(self, listener: Callable[[], None]) -> None:
        """Have a function called, under a lock, whenever there may be more: it must only wake
        somebody."""
        with self._changed:
            self._listeners.append(listener)

    def forget(self, listener: Callable[[], None]) -> None:
        """Call it no more."""
        with self._changed:
            self._listeners.remove(listener)

    def refresh(self) -> None:
        """Call them, since something was read."""
        with self._changed:
            self.wake()

    def wake(self) -> None:
        """The output's call, under the lock: there may be more."""
        for listener in self._listeners:
            listener()

    def close(self) -> None:
        """Read no more; may be called again. A waiting reader gets None."""
        with self._changed:
            self._closed = True
            self._output.leave(self)
            self._changed.notify_all()
            self.wake()

    def __iter__(self) -> Iterator[Chunk]:
        while (chunk := self.take()) is not None:
            yield chunk

    def __enter__(self) -> OutputReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
