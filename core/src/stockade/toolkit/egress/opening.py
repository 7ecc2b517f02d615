"""Tunnels that are opened at the gateway, for the hosts of secrets: what does it, as an interface.

``stockade-secrets`` does it, a distribution of its own, since it needs cryptography and a
parser of HTTP. It is imported where a session has secrets, and never otherwise.
"""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import attrs

from stockade.config import Secret
from stockade.errors import UnsupportedError
from stockade.system.installing import install
from stockade.toolkit.egress.limits import Limits
from stockade.wall import RequestWatch

__all__ = ["Desk", "Greeting", "Opener", "Tunnel", "opener_of", "secrets_level"]

_MODULE = "stockade_secrets"
_INSTALL = install("stockade-secrets")
_PORT, _SSH_PORT = 443, 22


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


class Greeting(Protocol):
    """Watches what a server of SSH sends, until all is encrypted."""

    @property
    def named(self) -> bool:
        """Whether the server has said what it speaks."""

    @property
    def over(self) -> bool:
        """Whether the rest is encrypted."""

    def __call__(self, data: bytes) -> None:
        """The next bytes. Raises RefusedError where the server is not the one that is known."""


class Desk(Protocol):
    """Keys that sign for connections of SSH to named hosts (E11). Safe from any thread."""

    @property
    def places(self) -> Sequence[tuple[str, int]]:
        """By name and port, the hosts that programs reach by SSH."""

    def tunnel(self, name: str, port: int) -> AbstractContextManager[Greeting]:
        """What watches a server in a tunnel, which signatures are given for meanwhile."""

    def files(
        self, folder: str, agent: str, addresses: Mapping[tuple[str, int], tuple[str, int]]
    ) -> tuple[str, Mapping[str, bytes]]:
        """The path of ssh's configuration inside, and what is to be written there, by path, each
        beginning with ``folder``. ``addresses``: where inside each of ``places`` is reached;
        ``agent``: the path of the agent's socket."""

    def serve(self, program: socket.socket, watch: RequestWatch, limits: Limits) -> None:
        """Be the agent of one program's connection. Blocks, and never raises."""


class Opener(Protocol):
    """Ends TLS for some hosts, puts values of secrets in and takes them out again (E11)."""

    @property
    def placeholders(self) -> Mapping[str, str]:
        """The variables inside, with what stands in the values' places."""

    @property
    def desk(self) -> Desk | None:
        """What signs for connections of SSH; None: no secret is a key."""

    @property
    def bundle(self) -> bytes:
        """The authorities that programs inside are to trust, in PEM; empty: no tunnel is opened."""

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
    """A host of a secret as ``network_allow`` has it, without a user: the port of HTTPS where none
    is named, and with a user that of SSH."""
    user, _, plain = host.rpartition("@")
    name, equals, place = plain.partition("=")
    port = _SSH_PORT if user else _PORT
    return f"{name if ':' in name else f'{name}:{port}'}{equals}{place}"


def opener_of(
    places: Mapping[tuple[str, int], Sequence[Secret]],
    logins: Mapping[tuple[str, int], Sequence[tuple[Secret, str]]],
) -> Opener:
    """``places``: the secrets of a host, by its name and port; ``logins``: the keys that sign
    there, each with a user. Raises UnsupportedError if the distribution is not installed,
    and SecretError for a value that cannot be read."""
    try:
        from stockade_secrets import Opener as Installed
    except ModuleNotFoundError as error:
        if error.name != _MODULE:
            raise
        raise UnsupportedError(
            f"the gateway for secrets is not installed; {_INSTALL}, or leave secrets out."
        ) from None
    opener: Opener = Installed(places, logins)
    return opener
