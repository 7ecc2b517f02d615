"""Values taken out of what comes back: also cut in pieces, in base64, in hex, escaped."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable, Iterable
from urllib.parse import quote

__all__ = ["Forms", "Masker", "forms"]

_STAR = b"*"


def forms(value: bytes) -> frozenset[bytes]:
    """How a value may be written in a request or an answer; each holds all of it."""
    text = value.decode("ascii")
    found = {
        value,
        quote(text, safe="").encode(),
        quote(text, safe="/").encode(),
        quote(text, safe="").replace("%20", "+").encode(),
        json.dumps(text)[1:-1].encode(),
        json.dumps(text)[1:-1].replace("/", "\\/").encode(),
        html.escape(text).encode(),
        value.hex().encode(),
        value.hex().upper().encode(),
    }
    found |= {_lowered(form) for form in found if b"%" in form}
    for offset in range(3):
        found |= _in_base64(value, offset)
    return frozenset(found)


def _lowered(form: bytes) -> bytes:
    """With escapes in small letters (``%2f``)."""
    first, *rest = form.split(b"%")
    return b"%".join([first, *(part[:2].lower() + part[2:] for part in rest)])


def _in_base64(value: bytes, offset: int) -> set[bytes]:
    """What base64 makes of it behind ``offset`` bytes (of three) that are not known.

    The characters at both ends hold bits of the neighbours too, and are left out.
    """
    encoded = base64.b64encode(bytes(offset) + value).rstrip(b"=")
    first = -(-offset * 8 // 6)
    last = (offset + len(value)) * 8 // 6
    inner = encoded[first:last]
    return {inner, inner.translate(bytes.maketrans(b"+/", b"-_"))}


class Forms:
    """All forms of a session's values, made when a value is new and not for each answer. Safe
    from any thread."""

    def __init__(self, values: Callable[[], Iterable[str]]) -> None:
        """``values`` is asked again at each look: a source may give a new one meanwhile."""
        self._values = values
        self._made: tuple[tuple[str, ...], list[bytes]] = (), []

    def now(self) -> list[bytes]:
        """The longest first."""
        values = tuple(self._values())
        known, found = self._made
        if values != known:
            every = {form for value in values for form in forms(value.encode("ascii"))}
            found = sorted(every, key=len, reverse=True)
            self._made = values, found
        return found


class Masker:
    """Replaces the values in a stream, by as many asterisks; its length stays the same.

    What is held back until more comes depends on where lines end, and never on what stands
    there: otherwise a program that has its guesses sent back would see by the delay how much of
    one is right. No value holds a line break, so whatever ends a line is passed on at once.
    """

    def __init__(self, forms: Forms) -> None:
        self._forms = forms
        self._held = b""

    def all_of(self, data: bytes) -> bytes:
        """A whole text, such as a header's value."""
        return self._masked(data, self._forms.now())

    def feed(self, data: bytes) -> bytes:
        """A piece of the stream; what is sure of it so far."""
        found = self._forms.now()
        data = self._masked(self._held + data, found)
        longest = len(found[0]) if found else 1
        sure = max(len(data) - longest + 1, data.rfind(b"\n") + 1, 0)
        self._held = data[sure:]
        return data[:sure]

    def flush(self) -> bytes:
        """What was held back: the stream, or a message in it, is over."""
        held, self._held = self._held, b""
        return held

    def _masked(self, data: bytes, found: list[bytes]) -> bytes:
        for form in found:
            if form in data:
                data = data.replace(form, _STAR * len(form))
        return data
