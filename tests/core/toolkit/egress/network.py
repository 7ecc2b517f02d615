"""Both ends of the gateway: a program's connection, and the one server that may be reached."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Callable, Iterator

from stockade.toolkit.egress import Gateway, Limits, Names

__all__ = ["QUIET_SECONDS", "Server", "ask", "gateway_to", "served", "the_rest"]

QUIET_SECONDS = 0.3


class Server:
    """Keeps what each connection sent it, until it was quiet for a moment or ended."""

    def __init__(self, says: Callable[[bytes], bytes] = lambda _: b"") -> None:
        """``says``: what is answered to each piece that comes."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._says = says
        self.address: tuple[str, int] = self._listener.getsockname()
        self.seen: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        data = b""
        with connection, contextlib.suppress(OSError):
            connection.settimeout(QUIET_SECONDS)
            while piece := connection.recv(65536):
                data += piece
                connection.sendall(self._says(piece))
        self.seen.put(data)

    def all_seen(self) -> bytes:
        """What one connection sent, once it is over."""
        return self.seen.get(timeout=20)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def gateway_to(server: Server, limits: Limits | None = None) -> Gateway:
    """Allows good.example alone, which leads to that server."""
    names = Names.of(["good.example"])
    return Gateway(names, resolver=lambda *_: [server.address], limits=limits)


@contextlib.contextmanager
def served(gateway: Gateway) -> Iterator[socket.socket]:
    """A program's end of a connection that the gateway serves."""
    near, far = socket.socketpair()
    thread = threading.Thread(target=gateway.serve, args=(far,), daemon=True)
    thread.start()
    with near:
        near.settimeout(20)
        yield near
    thread.join(20)
    assert not thread.is_alive()


def the_rest(sock: socket.socket) -> bytes:
    """All that comes until the connection ends."""
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return data


def ask(gateway: Gateway, *pieces: bytes) -> bytes:
    """What the gateway answers to a program that says this, and then nothing more."""
    with served(gateway) as program:
        for piece in pieces:
            program.sendall(piece)
        program.shutdown(socket.SHUT_WR)
        return the_rest(program)
