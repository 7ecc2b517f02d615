"""Fields as SSH writes them: a length, and so many bytes."""

from __future__ import annotations

import struct

__all__ = ["Fields", "MalformedError", "number", "text"]


class MalformedError(ValueError):
    """A message is not what it says that it is."""


class Fields:
    """Takes a message apart, field by field. Each call raises MalformedError past its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise MalformedError("a message ends too early")
        self._at += count
        return self._data[self._at - count : self._at]

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        """Of 4 bytes."""
        return int(struct.unpack(">I", self.take(4))[0])

    def text(self) -> bytes:
        return self.take(self.number())

    def integer(self) -> int:
        """Of any length, and not negative."""
        data = self.text()
        if data[:1] >= b"\x80":
            raise MalformedError("a number is negative")
        return int.from_bytes(data, "big")

    def flag(self) -> bool:
        """Raises MalformedError for what two readers could take for two things."""
        value = self.byte()
        if value > 1:
            raise MalformedError("a flag is neither yes nor no")
        return bool(value)

    def end(self) -> None:
        if self._at != len(self._data):
            raise MalformedError("a message has more than belongs to it")


def text(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def number(value: int) -> bytes:
    """An integer of any length."""
    return text(value.to_bytes(value.bit_length() // 8 + 1, "big") if value else b"")
