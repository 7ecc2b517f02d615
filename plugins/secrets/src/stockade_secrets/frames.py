"""A websocket's frames on the way in: their payload masked, and each passed on when it is whole."""

from __future__ import annotations

from stockade.toolkit.egress import RefusedError
from stockade_secrets.masking import Masker

__all__ = ["Frames"]

_SHORT, _LONG = 126, 127
_MASKED = 0x80


class Frames:
    """What a server sends once it has switched protocols. Masking changes no length, so the
    frames' heads stay as they are."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._head = b""
        self._left = 0  # bytes of the frame that is being read

    def feed(self, data: bytes) -> bytes:
        """What the program may have by now. Raises RefusedError for what is no server's frame."""
        out = bytearray()
        while data:
            if not self._left:
                data = self._begin(data, out)
                continue
            payload, data = data[: self._left], data[self._left :]
            self._left -= len(payload)
            out += self._masker.feed(payload)
            if not self._left:  # nothing is kept of a frame that is whole
                out += self._masker.flush()
        return bytes(out)

    def _begin(self, data: bytes, out: bytearray) -> bytes:
        """Take a frame's head, as far as it is there; the rest of the data."""
        self._head += data[:1]
        data = data[1:]
        size = _head_size(self._head)
        if len(self._head) < size:
            return data
        self._left = _length(self._head)
        out += self._head
        self._head = b""
        return data


def _head_size(head: bytes) -> int:
    if len(head) < 2:
        return 2
    if head[1] & _MASKED:
        raise RefusedError("the server masks its frames, which none does")
    return {_SHORT: 4, _LONG: 10}.get(head[1], 2)


def _length(head: bytes) -> int:
    return int.from_bytes(head[2:], "big") if len(head) > 2 else head[1]
