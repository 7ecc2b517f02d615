"""Which hosts a sandbox may reach, and what counts as a host's name (E10)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import attrs

from stockade.toolkit.egress.private import Private
from stockade.toolkit.egress.refused import RefusedError

__all__ = ["Names", "place"]

_MAX_NAME = 253
#: Ports of a name that is given without one: what the web speaks.
_PORTS = (443, 80)


@attrs.frozen
class Names:
    """The hosts that may be reached: ``name`` (ports 443 and 80) or ``name:port``, each with
    ``=PLACE`` behind it where it leads to a private one (``Private``)."""

    #: By name and port the private place, or None if the name leads to public addresses.
    allowed: Mapping[tuple[str, int], Private | None] = attrs.field()

    @classmethod
    def of(cls, words: Iterable[str]) -> Names:
        """From a configuration's ``network_allow``.

        Raises ValueError, naming the word, and saying what to write, for what is no host's name.
        """
        found: dict[tuple[str, int], Private | None] = {}
        for word in words:
            try:
                for key, where in _entry(word):
                    if found.setdefault(key, where) != where:
                        raise ValueError("the same name and port lead to two places")
            except ValueError as error:
                raise ValueError(f"{word!r:.80}: {error}") from None
        return cls(found)

    def check(self, host: str, port: int) -> str:
        """The plain form of a name that a program asked for. Raises RefusedError."""
        try:
            name = _host(host)
        except ValueError as error:
            raise RefusedError(f"{host!r:.80} {error}") from None
        if (name, port) not in self.allowed:
            raise RefusedError(f"{name}:{port} is not among the hosts this sandbox may reach")
        return name

    def private(self, name: str, port: int) -> Private | None:
        """Where an allowed name leads, or None if it leads to public addresses."""
        return self.allowed[name, port]


def _entry(word: str) -> Iterator[tuple[tuple[str, int], Private | None]]:
    """The names and ports of one word. Raises ValueError."""
    host, equals, where = word.partition("=")
    private = Private.of(where) if equals else None
    if "://" in host or "/" in host:
        plain = host.rpartition("://")[2].partition("/")[0]
        raise ValueError(f"expected a host without scheme and path; write {plain!r}")
    name, colon, port = host.rpartition(":")
    if not colon:
        yield from (((_host(host), number), private) for number in _PORTS)
    elif _number(port) and 0 < int(port) < 65536:
        yield (_host(name), int(port)), private
    else:
        raise ValueError("expected name or name:port, port 1 to 65535")


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
    """The plain form of a host's name. Raises ValueError with what is wrong with it."""
    if len(text) > _MAX_NAME:
        raise ValueError("is no host's name: it is too long")
    if "*" in text:
        raise ValueError("is no host's name: patterns are not allowed; name each host")
    name = text.removesuffix(".").lower()
    try:
        name = name.encode("idna").decode("ascii")
    except UnicodeError:
        raise ValueError("is no host's name") from None
    labels = name.split(".")
    plain = all(label and label.replace("-", "").replace("_", "").isalnum() for label in labels)
    # A last label of digits is an address in one of its many forms (1.2.3.4, 0x7f.1, 2130706433).
    address = labels[-1].isdigit() or labels[-1].startswith("0x")
    if not plain or address or len(name) > _MAX_NAME:
        raise ValueError(
            "is no host's name: raw addresses are not allowed; of a private network write "
            "name:port=ADDRESS, and ask for the name"
        )
    return name
