"""Ways to a sandbox's ports: those that its template names, and others where they are open."""

from __future__ import annotations

import socket
from typing import Any

import attrs

from stockade.capabilities import Feature
from stockade_server.errors import Refused, not_served
from stockade_server.sandbox import Sandbox

__all__ = ["Way", "check_port", "way_to"]


@attrs.frozen
class Way:
    """How a port is connected to: a place of this machine, or a socket that is connected."""

    host: str | None = None
    port: int | None = None
    sock: socket.socket | None = None

    def given(self) -> dict[str, Any]:
        """As arguments of what connects."""
        return {"host": self.host, "port": self.port} if self.sock is None else {"sock": self.sock}

    def close(self) -> None:
        """Let go of it before anybody reads from it."""
        if self.sock is not None:
            self.sock.close()


def check_port(sandbox: Sandbox, port: int) -> None:
    """Raises Refused for a port that nobody outside reaches, whatever listens there.

    A port without a name is connected to inside, on the sandbox's loopback. Where that is this
    machine's own, the way would lead to this machine's services.
    """
    if not 0 < port < 65536:
        raise Refused(400, "E2b-Sandbox-Port is a number from 1 to 65535")
    provider = sandbox.session.provider
    if port in provider.config.ports:
        return
    what = f"port {port} of the sandbox"
    if not sandbox.template.open_ports:
        raise not_served(what, f"the operator names it in the template: ports={port}")
    if not provider.wall.capabilities[Feature.PORTS]:
        raise not_served(what, "its wall reaches no ports; run a client as a command inside")
    if not provider.wall.has_own_loopback(provider.config):
        raise not_served(
            what, "its network is the server's own machine's; a template without one has ports"
        )


async def way_to(sandbox: Sandbox, port: int) -> Way:
    """The way to a port that ``check_port`` lets through. Raises what ``Session.port`` and
    ``Session.forward`` raise."""
    session = sandbox.session
    if port in session.provider.config.ports:
        return Way(*await session.port(port))
    ours, theirs = socket.socketpair()
    try:
        await session.forward(theirs, port)
    except BaseException:
        ours.close()
        raise
    ours.setblocking(False)
    return Way(sock=ours)
