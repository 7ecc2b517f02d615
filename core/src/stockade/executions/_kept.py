"""What of one output stream is kept for the result, and what live readers find of both.

Neither grows past its limit, whatever a program prints (D5, D18). Both are guarded by the
lock of the output whose parts they are.
"""

from __future__ import annotations

import attrs

from stockade.config import OutputKeep
from stockade.results import Chunk, Stream

__all__ = ["MOST_PIECES", "Kept", "Recent"]

#: Small pieces of one stream are joined up to this, and no more pieces are held than this many:
#: a program that prints byte by byte costs no more memory than another.
_JOINED_BYTES = 4096
MOST_PIECES = 8192


class Kept:
    """One stream's head, tail or both, and its count."""

    __slots__ = ("_head", "_head_room", "_tail", "_tail_room", "total")

    def __init__(self, limit: int, keep: OutputKeep) -> None:
        shares = {OutputKeep.HEAD: limit, OutputKeep.TAIL: 0, OutputKeep.BOTH: (limit + 1) // 2}
        self._head_room = shares[keep]
        self._tail_room = limit - self._head_room
        self._head = bytearray()
        self._tail = bytearray()
        self.total = 0

    def add(self, data: bytes) -> None:
        self.total += len(data)
        space = self._head_room - len(self._head)
        if space > 0:
            self._head += data if len(data) <= space else memoryview(data)[:space]
        if self._tail_room and len(data) > space:
            self._tail += memoryview(data)[max(space, 0) :][-self._tail_room :]
            del self._tail[: -self._tail_room]

    @property
    def room(self) -> int:
        """How many bytes more will be kept."""
        return self._tail_room or self._head_room - len(self._head)

    @property
    def data(self) -> bytes:
        return bytes(self._head + self._tail)

    @property
    def gap(self) -> int | None:
        """Where in ``data`` bytes are missing, or None if none are."""
        complete = self.total == len(self._head) + len(self._tail)
        return None if complete else len(self._head)


@attrs.define(eq=False)
class _Piece:
    stream: Stream
    start: int  #: where it begins, in the order in which the bytes of both streams came
    data: bytes | bytearray

    @property
    def end(self) -> int:
        return self.start + len(self.data)


class Recent:
    """The last bytes of both streams in the order in which they came, in numbered pieces."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: dict[int, _Piece] = {}
        self._first = 0
        self._next = 0
        self._size = 0
        self.end = 0  #: how many bytes came, held or not

    def add(self, stream: Stream, data: bytes) -> None:
        if not data:
            return
        last = self._pieces.get(self._next - 1)
        joins = (
            last is not None
            and last.stream is stream
            and last.end == self.end
            and len(last.data) + len(data) <= _JOINED_BYTES
        )
        if last is not None and joins:
            if isinstance(last.data, bytes):
                last.data = bytearray(last.data)
            last.data += data
        else:
            self._pieces[self._next] = _Piece(stream, self.end, data)
            self._next += 1
        self.end += len(data)
        self._size += len(data)
        self._trim()

    def skip(self, count: int) -> None:
        """Bytes that came and are nowhere."""
        self.end += count

    def _trim(self) -> None:
        """Keep what the limit allows; a piece that reaches over it stays whole."""
        while self._first < self._next - 1:
            size = len(self._pieces[self._first].data)
            if self._size - size < self._limit and self._next - self._first <= MOST_PIECES:
                return
            del self._pieces[self._first]
            self._first += 1
            self._size -= size

    def number_at(self, position: int) -> int:
        """The first piece that holds something from there on, or may come to."""
        low, high = self._first, self._next
        while low < high:
            middle = (low + high) // 2
            if self._pieces[middle].end > position:
                high = middle
            else:
                low = middle + 1
        # The last piece may still grow.
        return max(self._first, min(low, self._next - 1))

    def behind(self, position: int, number: int) -> int:
        """How far behind a reader there is, in shares of the limit that count as bytes: many
        tiny pieces count as much as few large ones."""
        pieces = (self._next - number) * self._limit // MOST_PIECES
        return max(self.end - position, pieces)

    def read(self, position: int, number: int) -> tuple[Chunk | None, int]:
        """The next piece for a reader who is there, and the number of the one after it."""
        number = max(number, self._first)
        while number < self._next - 1 and self._pieces[number].end <= position:
            number += 1
        piece = self._pieces.get(number)
        if piece is None or piece.end <= position:
            return None, number
        start = max(position, piece.start)
        data = bytes(piece.data[start - piece.start :])
        chunk = Chunk(piece.stream, data, offset=start, dropped=start - position)
        # The last piece may still grow, so a reader stays with it.
        return chunk, number if number == self._next - 1 else number + 1
