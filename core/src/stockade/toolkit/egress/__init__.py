"""The gateway: egress to named hosts alone, for a sandbox without any network (E10).

A program inside connects to a loopback port, and somebody's link carries its bytes to
this process. Here they end at the gateway, which speaks HTTP's proxy language: it reads
the name that is asked for, resolves it, and connects. So there is no route, no address
and no DNS inside to play tricks with, IPv6 included.

``names`` says what is allowed, ``private`` what an entry may open beside the internet,
``head`` and ``hello`` read what a program asks for,
``addresses`` says where a name may lead, ``relay`` carries bytes, ``gateway`` joins them.
"""

from stockade.toolkit.egress.addresses import Resolver, is_public, resolve
from stockade.toolkit.egress.gateway import Gateway, Limits
from stockade.toolkit.egress.names import Names
from stockade.toolkit.egress.private import Private
from stockade.toolkit.egress.refused import RefusedError

__all__ = [
    "Gateway",
    "Limits",
    "Names",
    "Private",
    "RefusedError",
    "Resolver",
    "is_public",
    "resolve",
]
