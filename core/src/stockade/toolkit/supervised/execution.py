"""One execution as this end of the link sees it: input, output and end."""

from __future__ import annotations

import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from stockade.results import Stream
from stockade.toolkit.supervised.ends import End, FailedToStart, LinkLost
from stockade.toolkit.supervised.frames import BODY_BYTES, Frame, Kind

__all__ = [
    "INPUT_WINDOW",
    "OUTPUT_WINDOW",
    "DirectSink",
    "LinkExecution",
]

#: What a stream may send before the other side has granted more, either way.
OUTPUT_WINDOW = 1024 * 1024
INPUT_WINDOW = 256 * 1024
#: How long a signal waits for a program that is being started.
_START_SECONDS = 5.0
_STREAMS = (Stream.STDOUT, Stream.STDERR)
#: The number of the stream beside these.
SHOWN = 2
_END = struct.Struct("<IIQQQQ")
_NUMBER = struct.Struct("<I")
_PAIR = struct.Struct("<II")


class Sender(Protocol):
    """What sends frames; the link does."""

    def send(
        self, kind: Kind, id: int = 0, body: bytes | memoryview = b"", arg: int = 0
    ) -> None: ...


class Sink(Protocol):
    """Where output goes: core's Output, or whatever has these four methods."""

    def write(self, stream: Stream, data: bytes) -> None: ...

    def room(self, stream: Stream) -> int: ...

    def full(self, stream: Stream) -> bool: ...

    def drop(self, stream: Stream, count: int) -> None: ...


class DirectSink:
    """A sink that keeps nothing: its ``write`` may wait for the reader, in the thread that
    waits for the stream, and so holds up no other thread."""

    def room(self, stream: Stream) -> int:
        return 0

    def full(self, stream: Stream) -> bool:
        return False

    def drop(self, stream: Stream, count: int) -> None:
        return


#: The end of what is no program: a connection to a port.
_NOTHING_MORE = End(status=0, out_of_memory=False, cpu_seconds=0.0, peak_bytes=0)


class LinkExecution:
    """Made by :meth:`Link.start`. ``wait`` is called in one thread, the rest from any."""

    def __init__(
        self,
        link: Sender,
        number: int,
        output: Sink,
        show: Callable[[bytes], None] | None = None,
    ) -> None:
        """``show`` is given what code in a named interpreter shows, in the link's thread."""
        self.id = number
        self.pid = 0  #: the program's, as the sandbox numbers it; 0 until it has started
        self._link = link
        self._output = output
        self._show = show
        self._shown_owed = 0
        self._changed = threading.Condition()
        #: How many wait for its start. If none does, it wakes no thread: the thread that waits for
        #: the end would wake at each execution for nothing.
        self._awaiting_start = 0
        self._pending: deque[tuple[Stream, bytes]] = deque()
        self._writing = False  # one piece is being handed to a slow reader
        self._owed = {Stream.STDOUT: 0, Stream.STDERR: 0}
        self._discarding: set[Stream] = set()
        self._outcome: End | FailedToStart | None = None
        self._lost: LinkLost | None = None
        self._output_over = False  # of a connection: the program sends nothing more
        self._input: deque[memoryview] = deque()
        self._input_credit = INPUT_WINDOW
        self._input_ended = False
        self._sending = threading.Lock()
        self.killed_at: float | None = None  #: monotonic
        self.given_up = False  #: it did not end in time, though it was asked to

    # -- input -----------------------------------------------------------------

    def feed(self, data: bytes, *, end: bool) -> None:
        """Queue bytes for the program's standard input; ``end``: they are the last.

        Sends what the program has room for; the rest follows as it reads (D8).
        """
        with self._changed:
            if data:
                self._input.append(memoryview(data))
            self._input_ended = self._input_ended or end
        self._send_input()

    def write(self, data: bytes) -> None:
        """Like ``feed``, and wait until no more than a window's worth is queued (D17)."""
        self.feed(data, end=False)
        with self._changed:
            self._changed.wait_for(lambda: not self._input or self._over())

    def offer(self, data: bytes, seconds: float) -> int:
        """Queue some of the bytes; how many. Waits up to ``seconds`` for the program to have
        started and for room, so that no more than a window's worth waits here (D17).

        Raises ProcessLookupError if it has ended.
        """
        with self._changed:
            self._wait_for_start(lambda: self._over() or self._room() > 0, seconds)
            if self._over():
                raise ProcessLookupError("the program has ended")
            most = self._room()
        if most > 0:
            self.feed(data[:most], end=False)
        return max(0, min(most, len(data)))

    def _room(self) -> int:
        """An order that was refused is given once more, so nothing is queued before the start."""
        waiting = sum(map(len, self._input))
        return 0 if not self.pid else INPUT_WINDOW - waiting

    def _over(self) -> bool:
        return self._outcome is not None or self._lost is not None

    def _next_input(self) -> tuple[memoryview | None, bool]:
        with self._changed:
            if self._over():
                self._input.clear()
                return None, False
            if not self._input:
                ended, self._input_ended = self._input_ended, False
                self._changed.notify_all()
                return None, ended
            most = min(self._input_credit, BODY_BYTES)
            if not most:
                return None, False
            view = self._input[0]
            piece, rest = view[:most], view[most:]
            if rest:
                self._input[0] = rest
            else:
                self._input.popleft()
            self._input_credit -= len(piece)
            self._changed.notify_all()
            return piece, False

    def _send_input(self) -> None:
        with self._sending:  # pieces stay in order
            while True:
                piece, ended = self._next_input()
                if piece is not None:
                    self._link.send(Kind.INPUT, self.id, piece)
                elif ended:
                    self._link.send(Kind.INPUT_END, self.id)
                    return
                else:
                    return

    # -- what the owner may ask ------------------------------------------------

    def kill(self) -> None:
        """End its whole tree, at once; ``wait`` returns when nothing of it is left (D6)."""
        with self._changed:
            if self._over() or self.killed_at is not None:
                return
            self.killed_at = time.monotonic()
            self._changed.notify_all()
        self._link.send(Kind.KILL, self.id)

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send the program a signal, or all of its process group (D18)."""
        self._link.send(Kind.SIGNAL, self.id, _NUMBER.pack(number), int(group))

    def reach(self, number: int, *, group: bool) -> None:
        """As ``signal``, once there is a program to hear it, so that none of several is lost.
        Raises ProcessLookupError if it has ended."""
        self.started(_START_SECONDS)
        if self.over:
            raise ProcessLookupError("the program has ended")
        self.signal(number, group=group)

    def resize(self, rows: int, columns: int) -> None:
        """Report the size of a terminal's window (D19)."""
        self._link.send(Kind.RESIZE, self.id, _PAIR.pack(rows, columns))

    @property
    def over(self) -> bool:
        """Whether it has ended, or its link is lost."""
        with self._changed:
            return self._over()

    def started(self, seconds: float) -> bool:
        """Wait up to so long for it to have started, or ended; whether it has."""
        with self._changed:
            return self._wait_for_start(lambda: bool(self.pid) or self._over(), seconds)

    def _wait_for_start(self, there: Callable[[], bool], seconds: float) -> bool:
        """Wait for what may come of its start as well. Called under the lock."""
        self._awaiting_start += 1
        try:
            return self._changed.wait_for(there, seconds)
        finally:
            self._awaiting_start -= 1

    def settled(self, seconds: float) -> bool:
        """Wait up to so long for its end; whether it has come."""
        with self._changed:
            return self._changed.wait_for(self._over, seconds)

    def wait(self, overdue: Callable[[], float | None]) -> End | FailedToStart:
        """Hand over the output until the end, and return that. Raises LinkLost.

        ``overdue`` says how many seconds are left for the program to end after ``kill``, None
        if nobody has killed it. Once they are over it is called again, and must see to the
        sandbox's end.
        """
        while True:
            self._wait_for_more(overdue)
            with self._changed:
                if self._pending:
                    self._writing = True
                    stream, data = self._pending.popleft()
                elif self._outcome is not None:
                    return self._outcome
                elif self._output_over:
                    return _NOTHING_MORE
                else:
                    assert self._lost is not None
                    raise self._lost
            self._output.write(stream, data)
            with self._changed:
                self._writing = False
            self._taken(stream, len(data))

    def _wait_for_more(self, overdue: Callable[[], float | None]) -> None:
        while True:
            with self._changed:
                if not self._is_quiet():
                    return
                killed_at = self.killed_at
            left = overdue()  # may end all executions, which need each other's locks for that
            with self._changed:
                if self._is_quiet() and self.killed_at == killed_at:
                    self._changed.wait(left)

    def _is_quiet(self) -> bool:
        return not self._pending and not self._over() and not self._output_over

    # -- what the link's reader reports -----------------------------------------

    def take(self, frame: Frame) -> None:
        """A frame about this execution. Never blocks on a slow reader of its output."""
        if frame.kind == Kind.OUTPUT and frame.arg == SHOWN:
            self._take_shown(frame.body)
        elif frame.kind == Kind.OUTPUT:
            self._take_output(_STREAMS[frame.arg & 1], frame.body)
        elif frame.kind == Kind.STARTED:
            with self._changed:
                self.pid = _NUMBER.unpack(frame.body)[0]
                if self._awaiting_start:
                    self._changed.notify_all()
        elif frame.kind == Kind.INPUT_CREDIT:
            with self._changed:
                self._input_credit += _NUMBER.unpack(frame.body)[0]
            self._send_input()
        elif frame.kind == Kind.FAILED:
            self._settle(FailedToStart(*_PAIR.unpack(frame.body)))
        elif frame.kind == Kind.ENDED:
            self._take_end(frame.body)
        elif frame.kind == Kind.OUTPUT_END:
            with self._changed:
                self._output_over = True
                self._changed.notify_all()
        elif frame.kind == Kind.GONE and not self.over:
            self._settle(_NOTHING_MORE)

    def _take_shown(self, data: bytes) -> None:
        if self._show is not None:
            self._show(data)
        self._shown_owed += len(data)
        if self._shown_owed >= OUTPUT_WINDOW // 4 and not self.over:
            owed, self._shown_owed = self._shown_owed, 0
            self._link.send(Kind.CREDIT, self.id, _NUMBER.pack(owed), SHOWN)

    def _take_output(self, stream: Stream, data: bytes) -> None:
        with self._changed:
            room = self._output.room(stream)
            later = (
                self._pending
                or self._writing
                or (room < len(data) and not self._output.full(stream))
            )
            if later:
                self._pending.append((stream, data))
                self._changed.notify_all()
                return
        self._output.write(stream, data)
        self._taken(stream, len(data))

    def _taken(self, stream: Stream, count: int) -> None:
        """Grant the program this count again, or have the rest only counted (D5)."""
        if stream in self._discarding or self.over:
            return
        arg = _STREAMS.index(stream)
        if self._output.full(stream):
            self._discarding.add(stream)
            self._link.send(Kind.DISCARD, self.id, arg=arg)
            return
        self._owed[stream] += count
        if self._owed[stream] >= OUTPUT_WINDOW // 4:
            owed, self._owed[stream] = self._owed[stream], 0
            self._link.send(Kind.CREDIT, self.id, _NUMBER.pack(owed), arg)

    def _take_end(self, body: bytes) -> None:
        status, flags, out, err, cpu, peak = _END.unpack(body)
        for stream, count in zip(_STREAMS, (out, err), strict=True):
            if count:
                self._output.drop(stream, count)
        self._settle(
            End(
                status=status,
                out_of_memory=bool(flags & 1),
                cpu_seconds=cpu / 1e6,
                peak_bytes=peak * 1024,
            )
        )

    def _settle(self, outcome: End | FailedToStart) -> None:
        with self._changed:
            self._outcome = outcome
            self._changed.notify_all()

    def lose(self, error: LinkLost) -> None:
        """The link is gone."""
        with self._changed:
            if self._outcome is None:
                self._lost = error
            self._changed.notify_all()
