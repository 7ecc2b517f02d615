"""Places that are no part of the public internet, and that an entry may name (E10).

``pypi.internal:443=10.0.0.0/8`` is a name that leads into that network alone,
``models:11434=loopback`` one of a port of this machine's own. Without such a word a name leads
to public addresses, so the owner of a name opens no network of yours.
"""

from __future__ import annotations

import ipaddress
import socket

import attrs

from stockade.toolkit.egress.refused import RefusedError

__all__ = ["Private"]

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: What a word may open: networks that are one's own. Link-local addresses are not among them,
#: since clouds keep their machines' credentials there.
_OWN: tuple[_Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::1/128",
        "fc00::/7",
    )
)
_LOOPBACK = "loopback"
_LOOPBACK_ADDRESSES = ("127.0.0.1", "::1")


@attrs.frozen
class Private:
    """Where a name leads that leads to no public address."""

    word: str  #: as it was written: ``loopback``, a network, or an address
    network: _Network | None  #: None for loopback

    @classmethod
    def of(cls, word: str) -> Private:
        """The place that a word of ``network_allow`` names: ``loopback``, a network, an address.

        Raises ValueError with what is allowed.
        """
        if word == _LOOPBACK:
            return cls(word, None)
        try:
            network = ipaddress.ip_network(word)
        except ValueError:
            raise ValueError(
                "expected loopback, a private network such as 10.0.0.0/8, or a private address "
                f"behind '=', and it is {word!r:.80}"
            ) from None
        if not any(_within(network, own) for own in _OWN):
            raise ValueError(
                f"{word!r:.80} is no private network: a name without a word leads to "
                "public addresses, and link-local ones stay closed"
            )
        return cls(word, network)

    def addresses(self, name: str, port: int) -> list[tuple[str, int]]:
        """Where the name leads: an address and loopback are not looked up. Raises
        RefusedError if it leads elsewhere, or nowhere."""
        if self.network is None:
            return [(address, port) for address in _LOOPBACK_ADDRESSES]
        if "/" not in self.word:
            return [(self.word, port)]
        try:
            found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise RefusedError(f"{name} cannot be resolved: {error.strerror or error}") from None
        addresses = [(str(item[4][0]), int(item[4][1])) for item in found]
        if not addresses or not all(self._holds(address) for address, _ in addresses):
            raise RefusedError(f"{name} leads to an address outside of {self.word}")
        return addresses

    def _holds(self, address: str) -> bool:
        try:
            return ipaddress.ip_address(address) in (self.network or ())
        except ValueError:  # scoped (``%eth0``), say
            return False


def _within(network: _Network, other: _Network) -> bool:
    if isinstance(network, ipaddress.IPv4Network):
        return isinstance(other, ipaddress.IPv4Network) and network.subnet_of(other)
    return isinstance(other, ipaddress.IPv6Network) and network.subnet_of(other)
