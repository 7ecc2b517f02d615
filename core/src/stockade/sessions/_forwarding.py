"""A connection of this process carried to a port inside (E3)."""

from __future__ import annotations

import socket

from stockade.capabilities import Feature
from stockade.config import check_ports
from stockade.errors import SessionNotFoundError
from stockade.sessions._registry import SessionRecord
from stockade.wall import Sandbox, Wall

__all__ = ["forward"]


def forward(wall: Wall, record: SessionRecord, connection: socket.socket, port: int) -> None:
    """What ``Session.forward`` does; the connection is closed where it raises."""
    try:
        sandbox = _reached(wall, record, port)
    except BaseException:
        connection.close()
        raise
    sandbox.forward(connection, port)


def _reached(wall: Wall, record: SessionRecord, port: int) -> Sandbox:
    instead = "let the program speak on its standard streams."
    wall.capabilities.require(Feature.PORTS, record.provider, instead)
    check_ports("port", (port,))
    if record.sandbox is None:
        raise SessionNotFoundError(record.session_id)
    return record.sandbox
