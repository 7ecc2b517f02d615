"""Checks of E3: a port that is published leads in, from this machine's loopback alone."""

from __future__ import annotations

import contextlib
import ipaddress
import socket

import pytest

from stockade.capabilities import Feature
from stockade.errors import ConfigError
from stockade.session import Session
from stockade.testing.base import ConformanceBase, expect
from stockade.testing.checks.reaching import own_address

__all__ = ["Ports"]

_PORT, _ANOTHER = 18473, 18474
#: More than what waits on any part of the way, in each direction.
_MANY_BYTES = 3 << 20

#: A server: what a client sends comes back once its input has ended, behind a word. First it
#: tries to reach this machine.
_SERVE = """
import socket
for host in {hosts!r}:
    try: socket.create_connection((host, {port}), 2); print("out", host)
    except OSError: pass
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("", {inside}))
server.listen(8)
print("listening", flush=True)
while True:
    client = server.accept()[0]
    said = b""
    while True:
        piece = client.recv(65536)
        if not piece: break
        said += piece
    client.sendall(b"inside " + said)
    client.close()
"""


class Ports(ConformanceBase):
    """What is published of a sandbox."""

    def test_E3_a_published_port_leads_in_and_not_out(self) -> None:
        self.need(Feature.PORTS, Feature.NETWORK_OFF)
        with self.shared() as session:
            self.need_python(session)
        with (
            socket.create_server(("0.0.0.0", 0)) as ours,
            self.session(ports=(_PORT,)) as session,
        ):
            hosts, outside = ("127.0.0.1", own_address()), ours.getsockname()[1]
            serve = _SERVE.format(hosts=hosts, port=outside, inside=_PORT)
            server = session.stream(code=serve, timeout=self.scaled(60))
            begun = server.take()
            said = b"nothing" if begun is None else begun.data
            expect(said == b"listening\n", "E3", "a server inside, and no way out", said)
            address = self._address(session)
            sent = bytes(range(256)) * (_MANY_BYTES // 256)
            answer = self._exchange(address, sent)
            same = answer == b"inside " + sent
            expect(same, "E3", "all that was sent, from the server inside", answer[:40])
            self._is_loopback_alone(address)
            with pytest.raises(ConfigError):
                session.port(_ANOTHER)
            server.cancel()
            server.result(self.scaled(20))
        with contextlib.suppress(OSError):
            socket.create_connection(address, self.scaled(2)).close()
            expect(False, "E3", "no port when the session has ended", f"one at {address}")

    def _address(self, session: Session) -> tuple[str, int]:
        try:
            host, port = session.port(_PORT)
            inner = ipaddress.ip_address(host).is_loopback
        except Exception as error:  # whatever a wall raises
            expect(False, "E3", "an address that leads to the server inside", error)
            raise
        expect(inner, "E3", "a port of this machine's loopback", host)
        return host, port

    def _exchange(self, address: tuple[str, int], sent: bytes) -> bytes:
        answer = bytearray()
        with (
            contextlib.suppress(OSError),
            socket.create_connection(address, self.scaled(10)) as client,
        ):
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            while piece := client.recv(65536):
                answer += piece
        return bytes(answer)

    def _is_loopback_alone(self, address: tuple[str, int]) -> None:
        own = own_address()
        if own == "127.0.0.1":
            return
        with contextlib.suppress(OSError):
            socket.create_connection((own, address[1]), self.scaled(2)).close()
            expect(False, "E3", "a port of loopback alone", f"one at {own}, too")
