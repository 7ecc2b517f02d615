"""Text to values: how options of a provider string become fields, and back (A1, A2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any
from urllib.parse import quote, unquote

from stockade.values.mount import Mount

__all__ = [
    "as_bool",
    "as_float",
    "as_int",
    "as_map",
    "as_mounts",
    "as_ports",
    "as_text",
    "as_words",
]

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` or nothing."""
    import difflib  # only where something is wrong

    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _none(text: str) -> bool:
    return text.lower() == "none"


def as_text(text: str) -> str | None:
    """The text itself; ``none`` is None."""
    return None if _none(text) else text


def as_int(text: str) -> int | None:
    """A whole number in ASCII digits, or ``none`` for None. Raises ValueError."""
    if _none(text):
        return None
    # int() also takes "1_0", " 10 " and other scripts' digits: none is meant here.
    if not text.removeprefix("-").isascii() or not text.removeprefix("-").isdigit():
        raise ValueError("a whole number is needed")
    return int(text)


def as_float(text: str) -> float | None:
    """A number, or ``none`` for None. Raises ValueError."""
    if _none(text):
        return None
    if text != text.strip() or "_" in text or not text.isascii():
        raise ValueError("a number is needed")
    return float(text)


def as_bool(text: str) -> bool:
    """``true``, ``yes``, ``on``, ``1`` and their opposites, in any case. Raises ValueError."""
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError("true or false is needed")


def _items(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def as_words(text: str) -> tuple[str, ...]:
    """``a,b`` to ``("a", "b")``; a comma inside an item is written ``%2C`` once more."""
    return tuple(unquote(part) for part in _items(text))


def as_ports(text: str) -> tuple[int, ...]:
    """``8080,9090`` to ``(8080, 9090)``."""
    return tuple(as_int(part) or 0 for part in _items(text))


def as_map(text: str) -> dict[str, str]:
    """``a=1,b=2`` to a mapping; a name given twice is refused."""
    found: dict[str, str] = {}
    for part in _items(text):
        name, equals, value = part.partition("=")
        if not equals:
            # The part itself may be a secret that lost its name: it is not shown (B4).
            raise ValueError("pairs are needed, such as name=value,name=value")
        if unquote(name) in found:
            raise ValueError(f"{unquote(name)!r} is given twice")
        found[unquote(name)] = unquote(value)
    return found


def as_mounts(text: str) -> tuple[Mount, ...]:
    """``/host:/inside,/other:/there:rw`` to mounts; ``ro`` is the default."""
    mounts = []
    for part in _items(text):
        source, *rest = (unquote(piece) for piece in part.split(":"))
        if not 1 <= len(rest) <= 2 or rest[1:] not in ([], ["ro"], ["rw"]):
            raise ValueError("mounts are written /host:/inside or /host:/inside:rw")
        mounts.append(Mount(source, rest[0], rest[1:] != ["rw"]))
    return tuple(mounts)


def render(value: Any) -> str:
    """The text that converts back to ``value``, not yet percent-encoded for the string."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, Mapping):
        return ",".join(f"{_item(name)}={_item(text)}" for name, text in value.items())
    if isinstance(value, tuple):
        return ",".join(
            render(item) if isinstance(item, Mount) else _item(str(item)) for item in value
        )
    if isinstance(value, Mount):
        mode = [] if value.read_only else ["rw"]
        return ":".join([_item(value.source), _item(value.target), *mode])
    return str(value)


def _item(text: str) -> str:
    return quote(text, safe="/")
