"""The frames between this process and a supervisor (see supervisor/PROTOCOL.md)."""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator

import attrs

__all__ = ["BODY_BYTES", "VERSION", "Decoder", "Encoder", "Frame", "FrameError", "Kind"]

VERSION = 1
#: No frame's body is longer, in either direction.
BODY_BYTES = 64 * 1024
#: length, kind, argument, nothing, execution, sequence, secret
_HEAD = struct.Struct("<IBBHIIQ")


class FrameError(Exception):
    """The other side broke the protocol; the message says how."""


class Kind(enum.IntEnum):
    """What a frame says; those from 32 on come from the supervisor."""

    HELLO = 1
    START = 2
    BLOB = 3
    INPUT = 4
    INPUT_END = 5
    CREDIT = 6
    DISCARD = 7
    KILL = 8
    SIGNAL = 9
    RESIZE = 10
    DEADLINE = 11
    COUNTS = 12
    SOURCE = 13
    LISTEN = 14
    CONNECT = 15
    QUIT = 16
    HELLO_BACK = 32
    STARTED = 33
    OUTPUT = 34
    OUTPUT_END = 35
    INPUT_CREDIT = 36
    ENDED = 37
    GONE = 38
    FAILED = 39
    ANSWER = 40
    OPENED = 41
    LOST = 42


@attrs.frozen
class Frame:
    """One frame: its kind, a small argument, the execution it is about, its body."""

    kind: int
    arg: int
    id: int
    body: bytes = attrs.field(repr=lambda body: f"<{len(body)} bytes>")


class Encoder:
    """Numbers frames in order, so that one that somebody inside took away is missed."""

    def __init__(self) -> None:
        self._sequence = 0

    def frame(self, kind: Kind, id: int = 0, body: bytes | memoryview = b"", arg: int = 0) -> bytes:
        """One frame's bytes; ``body`` holds at most BODY_BYTES."""
        head = _HEAD.pack(len(body), kind, arg, 0, id, self._sequence, 0)
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        return head + body

    def pieces(self, kind: Kind, id: int, body: bytes, *, more: bool = False) -> Iterator[bytes]:
        """As many frames as ``body`` needs; with ``more`` all but the last say so."""
        view = memoryview(body)
        for at in range(0, max(len(view), 1), BODY_BYTES):
            rest = at + BODY_BYTES < len(view)
            yield self.frame(kind, id, view[at : at + BODY_BYTES], int(more and rest))


class Decoder:
    """Takes a supervisor's bytes apart. Memory is bounded by one frame.

    ``secret`` stands in each frame and its number beside it: what a program inside wrote
    into the supervisor's output, or took out of it, is noticed with the next head.
    """

    def __init__(self, secret: int) -> None:
        self._secret = secret
        self._sequence = 0
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole now. Raises FrameError."""
        self._buffer += data
        at = 0
        try:
            while len(self._buffer) - at >= _HEAD.size:
                length, kind, arg, _, id, sequence, secret = _HEAD.unpack_from(self._buffer, at)
                self._check(length, sequence, secret)
                end = at + _HEAD.size + length
                if end > len(self._buffer):
                    break
                self._sequence = (self._sequence + 1) & 0xFFFFFFFF
                body = bytes(memoryview(self._buffer)[at + _HEAD.size : end])
                at = end
                yield Frame(kind, arg, id, body)
        finally:
            del self._buffer[:at]

    def _check(self, length: int, sequence: int, secret: int) -> None:
        if secret != self._secret or sequence != self._sequence:
            raise FrameError("something that is not the supervisor's came from the sandbox")
        if length > BODY_BYTES:
            raise FrameError(f"a frame of {length} bytes came, where {BODY_BYTES} are the most")
