"""What code shows beside its output, taken from records that were written behind a wall (D20).

The records' form is described where they are made, in the toolkit's ``inside/shown.py``. Nothing
in them is believed: bytes of any other form end the reading, and only what is allowed is kept.
"""

from __future__ import annotations

import re
import struct
import threading
from typing import Any

from stockade.values.display import CodeError, Display, is_text

__all__ = ["MOST_DISPLAYS", "Shown"]

#: Of one execution.
MOST_DISPLAYS = 1000
#: Of one thing.
_MOST_FORMS = 32
#: An error is kept whatever was displayed before it.
_ERROR_BYTES = 1 << 20
_HEAD = struct.Struct("<Ic")
_FORM = struct.Struct("<HI")
_LENGTH = struct.Struct("<I")
_MIME = re.compile(rb"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,127}")
_KINDS = (b"V", b"D", b"E")


class Shown:
    """One execution's; memory is bounded by ``limit`` bytes and an error's."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._held = bytearray()
        self._skipping = 0  # bytes of a record that is not kept
        self._broken = False
        self._used = 0
        self._value: Display | None = None
        self._displays: list[Display] = []
        self._error: CodeError | None = None
        self.truncated = False

    def feed(self, data: bytes) -> None:
        """The next bytes, cut anywhere."""
        with self._lock:
            if self._broken:
                return
            skipped = min(self._skipping, len(data))
            self._skipping -= skipped
            self._held += memoryview(data)[skipped:]
            at = 0
            while len(self._held) - at >= _HEAD.size and not self._skipping:
                end = self._next(at)
                if end is None:
                    break
                at = end
            del self._held[:at]
            self._end_if_broken()

    def _end_if_broken(self) -> None:
        """After bytes of another form read nothing more."""
        if self._broken:
            self._held.clear()
            self.truncated = True

    def _next(self, at: int) -> int | None:
        """Take the record that begins there; where the next one does, or None if there is
        none or it is not whole yet."""
        length: int
        length, kind = _HEAD.unpack_from(self._held, at)
        begin = at + _HEAD.size
        if kind not in _KINDS:
            self._broken = True
            return None
        if not self._may_be(kind, length):
            self.truncated = True
            self._skipping = max(0, begin + length - len(self._held))
            return min(begin + length, len(self._held))
        if begin + length > len(self._held):
            return None
        self._take(kind, bytes(memoryview(self._held)[begin : begin + length]))
        return None if self._broken else begin + length

    def _may_be(self, kind: bytes, length: int) -> bool:
        if kind == b"E":
            return length <= _ERROR_BYTES
        return length <= self._limit - self._used and len(self._displays) < MOST_DISPLAYS

    def _take(self, kind: bytes, content: bytes) -> None:
        if kind == b"E":
            self._error = _error(content)
            self._broken = self._error is None
            return
        made = _display(content)
        if made is None:
            self._broken = True
            return
        self._used += len(content)
        if kind == b"V":
            self._value = made
        else:
            self._displays.append(made)

    def fields(self) -> dict[str, Any]:
        """What of it belongs in a result."""
        with self._lock:
            return {
                "value": self._value,
                "displays": tuple(self._displays),
                "displays_truncated": self.truncated or bool(self._held or self._skipping),
                "error": self._error,
            }


def _display(content: bytes) -> Display | None:
    forms: dict[str, str | bytes] = {}
    at = 0
    while at < len(content):
        if len(content) - at < _FORM.size or len(forms) >= _MOST_FORMS:
            return None
        name_length, length = _FORM.unpack_from(content, at)
        at += _FORM.size
        name, data = content[at : at + name_length], content[at + name_length :][:length]
        at += name_length + length
        if at > len(content) or not _MIME.fullmatch(name):
            return None
        mime = name.decode("ascii")
        forms[mime] = data.decode("utf-8", "replace") if is_text(mime) else data
    return Display(forms) if forms else None


def _error(content: bytes) -> CodeError | None:
    texts = []
    for _ in range(3):
        if len(content) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(content)
        if length > len(content) - _LENGTH.size:
            return None
        texts.append(content[_LENGTH.size :][:length].decode("utf-8", "replace"))
        content = content[_LENGTH.size + length :]
    return None if content else CodeError(*texts)
