"""Bytes both ways between a program and a server, in one thread, with bounded memory."""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections.abc import Callable

__all__ = ["Looker", "relay"]

_PIECE = 64 * 1024
#: So much may wait for a slow reader; then the other side is read no more.
_WAITING = 256 * 1024


class Looker:
    """Looks at a stream piece by piece, the end of each once more with the next one."""

    def __init__(self, look: Callable[[bytes], None], overlap: int) -> None:
        """``look`` raises for what must not pass; ``overlap``: bytes that are looked at again."""
        self._look = look
        self._overlap = overlap
        self._seen = b""

    def __call__(self, data: bytes) -> None:
        whole = self._seen + data
        self._look(whole)
        self._seen = whole[-self._overlap :] if self._overlap else b""


class _Way:
    """One direction: what was read from ``source`` and is not yet written to ``sink``."""

    def __init__(
        self,
        source: socket.socket,
        sink: socket.socket,
        limit: int | None = None,
        looks: Callable[[bytes], None] | None = None,
    ) -> None:
        """``limit``: bytes that are carried; what comes after is read and dropped."""
        self._looks = looks
        self.source = source
        self.sink = sink
        self.waiting = bytearray()
        self.open = True
        self.unbounded = limit is None
        self.carried = 0
        self._limit = limit

    def reads(self) -> bool:
        return self.open and len(self.waiting) < _WAITING

    def done(self) -> bool:
        return not self.open and not self.waiting

    def read(self) -> None:
        try:
            data = self.source.recv(_PIECE)
        except BlockingIOError:
            return
        self.open = bool(data)
        if self._limit is not None:
            data = data[: self._limit]
            self._limit -= len(data)
        if self._looks is not None:
            self._looks(data)
        self.waiting += data

    def missing(self) -> bool:
        """Whether the source ended before all that was announced."""
        return not self.open and bool(self._limit)

    def write(self) -> None:
        try:
            sent = self.sink.send(self.waiting)
        except BlockingIOError:
            return
        del self.waiting[:sent]
        self.carried += sent


def relay(
    program: socket.socket,
    server: socket.socket,
    *,
    upload: int | None,
    idle: float,
    looks: Callable[[bytes], None] | None = None,
    hears: Callable[[bytes], None] | None = None,
) -> int:
    """Carry bytes until the server ends, a side breaks, or nothing moved for ``idle`` seconds.

    ``upload`` is how many bytes the program may send; None: any number, and its end of
    input is passed on. ``looks`` is given what goes to the server, ``hears`` what comes from it,
    and what they raise ends all.
    Returns how many bytes reached the program.
    """
    up, down = _Way(program, server, upload, looks), _Way(server, program, looks=hears)
    for sock in (program, server):
        sock.setblocking(False)
    with selectors.DefaultSelector() as selector, contextlib.suppress(OSError):
        _carry(up, down, selector, idle)
    return down.carried


def _carry(up: _Way, down: _Way, selector: selectors.BaseSelector, idle: float) -> None:
    watched: dict[socket.socket, int] = {}
    passes_end = up.unbounded
    while not down.done() and not up.missing():
        _watch(selector, watched, _wanted(up, down))
        ready = selector.select(idle)
        if not ready:
            return
        for key, events in ready:
            _move(up, down, key.fileobj, events)
        if passes_end and up.done():
            passes_end = False
            up.sink.shutdown(socket.SHUT_WR)


def _wanted(up: _Way, down: _Way) -> dict[socket.socket, int]:
    wanted = {up.source: 0, up.sink: 0}
    for way in (up, down):
        wanted[way.source] |= selectors.EVENT_READ if way.reads() else 0
        wanted[way.sink] |= selectors.EVENT_WRITE if way.waiting else 0
    return wanted


def _watch(
    selector: selectors.BaseSelector,
    watched: dict[socket.socket, int],
    wanted: dict[socket.socket, int],
) -> None:
    for sock, events in wanted.items():
        before = watched.get(sock, 0)
        if events == before:
            continue
        if not before:
            selector.register(sock, events)
        elif not events:
            selector.unregister(sock)
        else:
            selector.modify(sock, events)
        watched[sock] = events


def _move(up: _Way, down: _Way, sock: object, events: int) -> None:
    for way in (up, down):
        if sock is way.sink and events & selectors.EVENT_WRITE:
            way.write()
        if sock is way.source and events & selectors.EVENT_READ and way.open:
            way.read()
