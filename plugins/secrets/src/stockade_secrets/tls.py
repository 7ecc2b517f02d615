"""One TLS connection whose bytes are moved by hand: nothing of it ever blocks."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time

__all__ = ["Tls", "wait"]

_PIECE = 64 * 1024
#: What is moved of one side before the other one's turn.
_TURN = 256 * 1024
#: What may wait for a slow reader; then the other side is read no more.
_WAITING = 256 * 1024


class Tls:
    """TLS over a connected socket, which stays its owner's to close.

    Raises ssl.SSLError and OSError where either breaks.
    """

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        *,
        name: str | None = None,
        fed: bytes = b"",
    ) -> None:
        """``name``: the server's, to be checked; None: it is the server itself. ``fed``: what
        was read of the socket already."""
        self.sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._in, self._out, server_side=name is None, server_hostname=name
        )
        self._in.write(fed)
        self._waiting = bytearray()
        self.ended = False  #: the other side sends no more
        self.ended_well = False  #: it said so itself, and nobody cut it off
        self.has_more = False  #: ``read`` gives more although the socket may have nothing
        sock.setblocking(False)

    def handshake(self, until: float) -> None:
        """Raises TimeoutError past ``until``, a moment of the monotonic clock."""
        while not self._shaken():
            self._wait_until(until, select.POLLIN)
            self._receive()
        while self.flush():
            self._wait_until(until, select.POLLOUT)

    def _shaken(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            raise OSError("the connection ended within its handshake") from None
        finally:
            self._collect()  # an alert says what was wrong
            self.flush()
        self.has_more = True  # what came with the handshake's last message
        return True

    def _wait_until(self, until: float, event: int) -> None:
        poll = select.poll()
        poll.register(self.sock, event | (select.POLLOUT if self._waiting else 0))
        if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
            raise TimeoutError("the other side takes too long over its handshake")
        self.flush()

    def read(self) -> bytes:
        """What has come; empty where there is nothing yet, or ``ended``."""
        self._receive()
        pieces, size = [], 0
        try:
            while size < _TURN:
                piece = self._tls.read(_PIECE)
                if not piece:  # the other side said that it sends no more
                    self.ended = self.ended_well = True
                    break
                pieces.append(piece)
                size += len(piece)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = self.ended_well = True
        except ssl.SSLEOFError:
            self.ended = True
        self.has_more = size >= _TURN
        self._collect()  # an answer to a new key, say
        return b"".join(pieces)

    def send(self, data: bytes) -> None:
        """Have it sent as soon as the other side takes it."""
        if data:
            self._tls.write(data)
            self._collect()
            self.flush()

    @property
    def protocol(self) -> str | None:
        """What both sides have agreed on (ALPN), if they have."""
        return self._tls.selected_alpn_protocol()

    @property
    def crowded(self) -> bool:
        return len(self._waiting) >= _WAITING

    @property
    def waits(self) -> bool:
        return bool(self._waiting)

    def flush(self) -> bool:
        """Send what the socket takes; whether something is left."""
        while self._waiting:
            try:
                sent = self.sock.send(self._waiting)
            except BlockingIOError:
                return True
            del self._waiting[:sent]
        return False

    def say_goodbye(self) -> None:
        """End what is sent, so that the other side knows that nothing is missing."""
        with contextlib.suppress(ssl.SSLError, OSError):
            self._tls.unwrap()
        self._collect()

    def _receive(self) -> None:
        received = 0
        while received < _TURN:
            try:
                data = self.sock.recv(_PIECE)
            except BlockingIOError:
                return
            if not data:
                self._in.write_eof()
                return
            self._in.write(data)
            received += len(data)
            if len(data) < _PIECE:
                return

    def _collect(self) -> None:
        if self._out.pending:
            self._waiting += self._out.read()


def wait(reads: list[Tls], writes: list[Tls], seconds: float) -> bool:
    """Until one of them can go on; whether one can."""
    if any(side.has_more for side in reads):
        return True
    poll = select.poll()
    events: dict[int, int] = {}
    for side in reads:
        events[side.sock.fileno()] = select.POLLIN
    for side in writes:
        number = side.sock.fileno()
        events[number] = events.get(number, 0) | select.POLLOUT
    for number, event in events.items():
        poll.register(number, event)
    return bool(poll.poll(seconds * 1000))
