"""Which hosts a sandbox may reach, and what counts as a host's name (E10)."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from stockade.errors import StockadeError

__all__ = ["Names", "RefusedError", "place"]

_MAX_NAME = 253
#: Ports of a name that is given without one: what the web speaks.
_PORTS = (443, 80)


class RefusedError(StockadeError):
    """The gateway does not carry this; the message is for the program inside."""


@attrs.frozen
class Names:
    """The hosts that may be reached: ``name`` (ports 443 and 80) or ``name:port``."""

    allowed: frozenset[tuple[str, int]] = attrs.field()

    @classmethod
    def of(cls, words: Iterable[str]) -> Names:
        """From a configuration's ``network_allow``.

        Raises ValueError, naming the word, for what is no host's name.
        """
        found: set[tuple[str, int]] = set()
        for word in words:
            name, colon, port = word.rpartition(":")
            if not colon:
                found |= {(_host(word), number) for number in _PORTS}
            elif _number(port) and 0 < int(port) < 65536:
                found.add((_host(name), int(port)))
            else:
                raise ValueError(f"{word!r:.80}: expected name or name:port, port 1 to 65535")
        return cls(frozenset(found))

    def check(self, host: str, port: int) -> str:
        """The plain form of a name that a program asked for. Raises RefusedError."""
        try:
            name = _host(host)
        except ValueError as error:
            raise RefusedError(str(error)) from None
        if (name, port) not in self.allowed:
            raise RefusedError(f"{name}:{port} is not among the hosts this sandbox may reach")
        return name


def place(text: str, default: int) -> tuple[str, int]:
    """The two parts of ``name`` or ``name:port``, as requests have it. Raises RefusedError."""
    host, colon, port = text.rpartition(":")
    if not colon:
        return text, default
    if not _number(port):
        raise RefusedError(f"{text!r:.80}: expected a name, or a name, a colon and a port")
    return host, int(port)


def _number(text: str) -> bool:
    """Whether it is a port's digits; ``isdigit`` alone takes ``²`` and thousands of them."""
    return text.isascii() and text.isdigit() and len(text) <= 5


def _host(text: str) -> str:
    if len(text) > _MAX_NAME:
        raise ValueError(f"{text!r:.80} is no host's name: it is too long")
    name = text.removesuffix(".").lower()
    try:
        name = name.encode("idna").decode("ascii")
    except UnicodeError:
        raise ValueError(f"{text!r:.80} is no host's name") from None
    labels = name.split(".")
    plain = all(label and label.replace("-", "").replace("_", "").isalnum() for label in labels)
    # A last label of digits is an address in one of its many forms (1.2.3.4, 0x7f.1, 2130706433).
    address = labels[-1].isdigit() or labels[-1].startswith("0x")
    if not plain or address or len(name) > _MAX_NAME:
        raise ValueError(f"{text!r:.80} is no host's name: raw addresses are not allowed")
    return name
