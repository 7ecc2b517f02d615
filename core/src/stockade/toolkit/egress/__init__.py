"""The gateway: egress to named hosts alone, for a sandbox without any network (E10).

A program inside connects to a loopback port, and somebody's link carries its bytes to
this process. Here they end at the gateway, which speaks HTTP's proxy language: it reads
the name that is asked for, resolves it, and connects. So there is no route, no address
and no DNS inside to play tricks with, IPv6 included.

``names`` says what is allowed, ``private`` what an entry may open beside the internet,
``shell`` carries SSH, ``head`` and ``hello`` read what a program asks for,
``addresses`` says where a name may lead, ``relay`` carries bytes, ``gateway`` joins them.
``way_out`` makes all that of a session's configuration. Tunnels to the hosts of secrets are opened
here (``opening`` is the interface), all others stay sealed.
"""

from stockade.toolkit.egress.addresses import Resolver, is_public, resolve
from stockade.toolkit.egress.gateway import Gateway
from stockade.toolkit.egress.limits import Limits
from stockade.toolkit.egress.names import Names
from stockade.toolkit.egress.opening import Desk, Greeting, Opener, Tunnel, secrets_level
from stockade.toolkit.egress.private import Private
from stockade.toolkit.egress.refused import RefusedError
from stockade.toolkit.egress.relay import Looker
from stockade.toolkit.egress.way_out import WayOut

__all__ = [
    "Desk",
    "Gateway",
    "Greeting",
    "Limits",
    "Looker",
    "Names",
    "Opener",
    "Private",
    "RefusedError",
    "Resolver",
    "Tunnel",
    "WayOut",
    "is_public",
    "resolve",
    "secrets_level",
]
