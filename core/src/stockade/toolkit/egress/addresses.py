"""Where a name may lead: to the public internet, never into a network of the host's (E10).

The table is our own. What ``ipaddress`` calls global differs between versions of Python,
and counts NAT64, 6to4, multicast and site-local addresses as global.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence

from stockade.toolkit.egress.refused import RefusedError

__all__ = ["Resolver", "is_public", "resolve"]

#: Addresses, with ports, that a name leads to; raises RefusedError if it leads nowhere.
Resolver = Callable[[str, int], Sequence[tuple[str, int]]]

#: IANA's special-purpose registry for IPv4, and the one public address that is private:
#: 168.63.129.16 is where Azure's machines find their own host.
_CLOSED_4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",  # private, as are 172.16.0.0/12 and 192.168.0.0/16
        "100.64.0.0/10",  # shared by a provider's customers; clouds have services there
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",
        "169.254.0.0/16",  # link-local, and the clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocols
        "192.0.2.0/24",  # documentation, as are 198.51.100.0/24 and 203.0.113.0/24
        "192.88.99.0/24",  # 6to4's relays
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
#: IPv6 is given out from here alone: unspecified, loopback, ::a.b.c.d, ::ffff:a.b.c.d, local,
#: link-local, site-local, multicast and discarded addresses are all outside.
_OPEN_6 = ipaddress.IPv6Network("2000::/3")
#: Not given out to anybody: protocols (with Teredo), documentation twice, 6to4, the old 6bone.
_CLOSED_6 = tuple(
    ipaddress.IPv6Network(text)
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3ffe::/16", "3fff::/20")
)
#: An IPv4 address as a network without IPv4 writes it. The prefix for local use
#: (64:ff9b:1::/48) puts it wherever its network likes, so that one stays closed.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether an address, in text, is one of the public internet's.

    False for whatever is special, is scoped (``%eth0``), or is no address.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv4Address):
        return not any(parsed in network for network in _CLOSED_4)
    if parsed.scope_id is not None:
        return False
    if parsed in _NAT64:
        return is_public(str(ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)))
    return parsed in _OPEN_6 and not any(parsed in network for network in _CLOSED_6)


def resolve(name: str, port: int) -> list[tuple[str, int]]:
    """The public addresses of a name; the gateway's default.

    Raises RefusedError if one of them is not public, or there is none.
    """
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise RefusedError(f"{name} cannot be resolved: {error.strerror or error}") from None
    addresses = [(str(item[4][0]), int(item[4][1])) for item in found]
    if not addresses or not all(is_public(address) for address, _ in addresses):
        raise RefusedError(f"{name} leads to an address that is not public")
    return addresses
