"""Tunnels that are opened at the gateway, for the hosts of secrets: what does it, as an interface.

``stockade-secrets`` does it, a distribution of its own, since it needs cryptography and a
parser of HTTP. It is imported where a session has secrets, and never otherwise.
"""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import attrs

from stockade.config import Secret
from stockade.errors import UnsupportedError
from stockade.system.installing import install
from stockade.toolkit.egress.limits import Limits
from stockade.wall import RequestWatch

__all__ = ["Opener", "Tunnel", "opener_of", "secrets_level"]

_MODULE = "stockade_secrets"
_INSTALL = install("stockade-secrets")
_PORT = 443


@attrs.frozen(kw_only=True)
class Tunnel:
    """One program's way to one host."""

    name: str  #: the host's
    port: int  #: of the host
    #: A new connection to it, to an address that was judged; the one before is closed. It is
    #: the gateway's to close. Raises OSError, RefusedError.
    connect: Callable[[], socket.socket]
    watch: RequestWatch  #: asked about each request in it, and notified of its end
    limits: Limits  #: of the sandbox


class Opener(Protocol):
    """Ends TLS for some hosts, puts values of secrets in and takes them out again (E11)."""

    @property
    def placeholders(self) -> Mapping[str, str]:
        """The variables inside, with what stands in the values' places."""

    @property
    def bundle(self) -> bytes:
        """The authorities that programs inside are to trust, in PEM."""

    @property
    def overlap(self) -> int:
        """Bytes of a piece that ``found`` must see again with the next one."""

    def opens(self, name: str, port: int) -> bool:
        """Whether tunnels to this host and port are opened."""

    def is_host(self, name: str) -> bool:
        """Whether a secret goes to this host, at whatever port."""

    def found(self, data: bytes) -> Sequence[str]:
        """The names of the secrets whose placeholders stand there."""

    def carry(self, program: socket.socket, rest: bytes, tunnel: Tunnel) -> None:
        """Serve a program that was promised the tunnel, until its connection ends; ``rest`` is
        what it has sent already. Blocks, and never raises."""


def secrets_level() -> tuple[str, str]:
    """What a wall whose sandboxes have the gateway says of the feature ``secrets``."""
    if importlib.util.find_spec(_MODULE) is None:
        return ("unsupported", f"its gateway is not installed: {_INSTALL}")
    return ("emulated", "TLS to the hosts of secrets ends at the gateway, in this process")


def with_port(host: str) -> str:
    """A host of a secret as ``network_allow`` has it: the port of HTTPS where none is named."""
    name, equals, place = host.partition("=")
    return f"{name if ':' in name else f'{name}:{_PORT}'}{equals}{place}"


def opener_of(
    secrets: Sequence[Secret], places: Mapping[tuple[str, int], Sequence[Secret]]
) -> Opener:
    """Raises UnsupportedError where the distribution is not installed, and SecretError for a
    value that cannot be read."""
    try:
        from stockade_secrets import Opener as Installed
    except ModuleNotFoundError as error:
        if error.name != _MODULE:
            raise
        raise UnsupportedError(
            f"the gateway for secrets is not installed; {_INSTALL}, or leave secrets out."
        ) from None
    opener: Opener = Installed(secrets, places)
    return opener
