"""One program's connection after the other: a request is read, judged, and carried (E10)."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable

import attrs

from stockade.errors import StockadeError
from stockade.toolkit.egress import addresses
from stockade.toolkit.egress.answers import answer, leave, receive, send
from stockade.toolkit.egress.head import Head, read_head
from stockade.toolkit.egress.hello import (
    ALERT,
    CHANGE_CIPHER_SPEC,
    Handshake,
    asks_again,
    read_hello,
)
from stockade.toolkit.egress.limits import Limits
from stockade.toolkit.egress.names import Names, place
from stockade.toolkit.egress.opening import Desk, Tunnel
from stockade.toolkit.egress.refused import RefusedError
from stockade.toolkit.egress.relay import Looker, relay
from stockade.toolkit.egress.shell import Shell, carry_ssh, farewell
from stockade.toolkit.egress.way_out import WayOut
from stockade.wall import OutgoingRequest, RequestEnd, RequestOutcome

__all__ = ["Gateway"]

_log = logging.getLogger(__name__)

_SHOWN = 253  # of a name that a program asks for
_MAX_REQUEST_HEAD = 32 * 1024
_Excuse = Callable[[str, str], None]  # says why nothing is served: a status of HTTP, and words
_TURN_AWAY_SECONDS = 0.1  # these count for no limit, so they are short
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
#: A TLS alert (fatal, access denied), so that a program's own TLS says what happened.
_DENIED = b"\x15\x03\x03\0\x02\x02\x31"


class Gateway:
    """Carries the connections of one sandbox's programs to the hosts that are allowed.

    A wall makes one for a session with ``network_allow``, and hands it every connection
    that a program opens to the loopback port inside. Safe from any thread.
    """

    def __init__(
        self,
        way_out: Names | WayOut,
        *,
        resolver: addresses.Resolver | None = None,
        limits: Limits | None = None,
    ) -> None:
        """``way_out``: the hosts that may be reached, and the secrets that go to some.
        ``resolver`` says where a name leads that may lead to public addresses; default
        :func:`addresses.resolve`."""
        if isinstance(way_out, Names):
            way_out = WayOut(names=way_out)
        self.names = way_out.names
        self.opener = way_out.opener
        self.watch = way_out.watch
        self.limits = limits or Limits()
        self._resolver = resolver
        self._lock = threading.Lock()
        self._held: set[socket.socket] = set()
        self._serving = 0
        self._closed = False

    def serve(self, connection: socket.socket) -> None:
        """Serve one program's connection until it ends, and close it. Never raises.

        Blocks: call it in a thread of its own. ``connection`` is a connected stream socket,
        whose other end reaches the program; it is the gateway's from here on.
        """
        self._converse(connection)

    def serve_ssh(self, connection: socket.socket, name: str, port: int) -> None:
        """The same for a program that wants to reach this host by SSH, and says so by the port
        that it connected to."""
        self._converse(connection, (name, port))

    def serve_agent(self, connection: socket.socket) -> None:
        """The same for a program that wants signatures; for a session whose ``opener`` has a
        desk."""
        assert self.opener is not None and self.opener.desk is not None
        desk = self.opener.desk
        self._served(connection, lambda: self._sign(desk, connection))

    def _converse(self, connection: socket.socket, host: tuple[str, int] | None = None) -> None:
        asking = _Conversation(self, connection, host)
        self._served(connection, asking.run, asking.excuse)

    def _sign(self, desk: Desk, connection: socket.socket) -> None:
        try:
            self.hold(connection)
            desk.serve(connection, self.watch, self.limits)
        except OSError:
            return
        finally:
            self.let_go(connection)

    def _served(
        self, connection: socket.socket, serve: Callable[[], None], excuse: _Excuse | None = None
    ) -> None:
        """``excuse``: None where a program's protocol has no words for it."""
        with connection:
            with self._lock:
                closed, crowded = self._closed, self._serving >= self.limits.connections
                self._serving += not crowded
            try:
                if not closed and not crowded:
                    serve()
                elif crowded and excuse is not None:
                    self._turn_away(connection, excuse)
            except Exception:
                _log.exception("serving a program's connection failed")
            finally:
                with self._lock:
                    self._serving -= not crowded

    def _turn_away(self, connection: socket.socket, excuse: _Excuse) -> None:
        most = self.limits.connections
        words = f"{most} connections are open, the most that a sandbox may have: close one first"
        excuse("503 Service Unavailable", words)
        leave(connection, _TURN_AWAY_SECONDS)

    def close(self) -> None:
        """End all connections, and refuse new ones. May be called again."""
        with self._lock:
            self._closed = True
            for sock in self._held:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def addresses(self, name: str, port: int) -> list[tuple[str, int]]:
        """Where an allowed name leads. Raises RefusedError."""
        private = self.names.private(name, port)
        if private is not None:
            return private.addresses(name, port)
        return list((self._resolver or addresses.resolve)(name, port))

    def hold(self, sock: socket.socket) -> None:
        """Have it ended by :meth:`close`. Raises OSError if that has happened."""
        with self._lock:
            if self._closed:
                raise OSError("the gateway is closed")
            self._held.add(sock)

    def let_go(self, sock: socket.socket) -> None:
        """Forget a connection that has ended; called by the thread that served it."""
        with self._lock:
            self._held.discard(sock)


class _Conversation:
    """What one connection asks for, from its first byte to its end."""

    def __init__(
        self, gateway: Gateway, program: socket.socket, host: tuple[str, int] | None = None
    ) -> None:
        """``host``: what is reached by SSH; None: the program asks as it asks a proxy."""
        self._host = host
        self._gateway = gateway
        self._limits = gateway.limits
        self._program = program
        self._server: socket.socket | None = None
        self._tunnel = False  # what the program hears is TLS, no more HTTP
        self._shell = None if host is None else Shell()  # what it hears is SSH
        self._asked: OutgoingRequest | None = None  # what is to be reported when it is over
        self._began = time.monotonic()

    def run(self) -> None:
        try:
            self._gateway.hold(self._program)
            if self._host is None:
                self._carry()
            else:
                self._reached(*self._host)
            self._report(RequestOutcome.CARRIED)
        except StockadeError as error:  # the gateway refuses, or a policy does
            _log.info("egress refused: %s", error)
            self._report(RequestOutcome.REFUSED, str(error))
            self.excuse("403 Forbidden", str(error), in_tls=_DENIED)
        except OSError as error:
            _log.info("egress failed: %s", error)
            self._report(RequestOutcome.FAILED, str(error))
            self.excuse("502 Bad Gateway", str(error))
        finally:
            if self._server is not None:
                self._gateway.let_go(self._server)
                self._server.close()
            leave(self._program)
            self._gateway.let_go(self._program)

    def excuse(self, status: str, words: str, in_tls: bytes = b"") -> None:
        """Say it in the protocol that the program hears; of TLS, ``in_tls`` is all of it."""
        if self._shell is not None:
            send(self._program, farewell(words, greeted=self._shell.greeted))
        elif self._tunnel:
            send(self._program, in_tls)
        else:
            answer(self._program, status, words)

    def _report(self, outcome: RequestOutcome, reason: str | None = None) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            seconds = time.monotonic() - self._began
            end = RequestEnd(outcome=outcome, seconds=seconds, reason=reason)
            self._gateway.watch.ended(asked, end)

    def _judged(self, host: str, port: int, method: str, path: str = "") -> str:
        """The plain form of an allowed name, which policies let pass, too."""
        self._asked = OutgoingRequest(host=host[:_SHOWN], port=port, method=method, path=path)
        name = self._gateway.names.check(host, port)
        self._asked = attrs.evolve(self._asked, host=name)
        return name

    def _carry(self) -> None:
        until = time.monotonic() + self._limits.head_seconds
        data = bytearray()
        while b"\r\n\r\n" not in data:
            piece = receive(self._program, until)
            if not piece or len(data) > _MAX_REQUEST_HEAD:
                raise RefusedError(
                    f"expected a request whose head is at most {_MAX_REQUEST_HEAD} bytes"
                )
            data += piece
        lines, _, rest = bytes(data).partition(b"\r\n\r\n")
        head = read_head(lines)
        if head.method == "CONNECT":
            self._connected(head, rest)
        else:
            self._plain(head, bytes(data), rest)

    def _look(self, data: bytes) -> None:
        """Whether a placeholder goes by plain HTTP, where no secret is put in."""
        opener = self._gateway.opener
        for name in opener.found(data) if opener is not None else ():
            raise RefusedError(
                f"the placeholder of the secret {name!r} goes by plain HTTP, where it is replaced "
                "by nothing: use https:// and one of its hosts"
            )

    # -- plain HTTP -----------------------------------------------------------------

    def _plain(self, head: Head, data: bytes, rest: bytes) -> None:
        """One request in the form that proxies take, and its answer."""
        if not head.target.lower().startswith("http://"):
            raise RefusedError("this is a proxy: ask for http://NAME/… or CONNECT NAME:443")
        authority, _, path = head.target[7:].partition("/")
        host, port = place(authority, 80)
        name = self._judged(host, port, head.method, "/" + path.partition("?")[0])
        opener = self._gateway.opener
        if opener is not None and opener.is_host(name):
            raise RefusedError(f"{name} is a secret's host, and is reached by https:// alone")
        looks = Looker(self._look, 0 if opener is None else opener.overlap)
        looks(data)
        self._ask_policies()
        # One request a connection: what follows could name another host.
        lines = (
            f"{head.method} /{path} {head.version}",
            f"Host: {name}" if port == 80 else f"Host: {name}:{port}",
            *head.headers,
            "Connection: close\r\n\r\n",
        )
        body = rest[: head.length]
        server = self._connect(name, port)
        server.sendall("\r\n".join(lines).encode("latin-1") + body)
        left = head.length - len(body)
        idle = self._limits.idle_seconds
        if not relay(self._program, server, upload=left, idle=idle, looks=looks):
            raise OSError(f"{name}:{port} gave no answer")

    # -- a tunnel -------------------------------------------------------------------

    def _connected(self, head: Head, rest: bytes) -> None:
        if head.length:
            raise RefusedError("expected CONNECT without a Content-Length")
        host, port = place(head.target, 443)
        name = self._judged(host, port, head.method)
        opener = self._gateway.opener
        if opener is not None and opener.opens(name, port):
            self._opened(name, port, rest)
            return
        self._ask_policies()
        if opener is not None and opener.desk is not None and (name, port) in opener.desk.places:
            self._program.sendall(_ESTABLISHED)
            self._by_ssh(opener.desk, name, port, rest)
            return
        server = self._connect(name, port)
        self._program.sendall(_ESTABLISHED)
        self._tunnel = True
        rest = self._greet(server, name, Handshake(), rest)
        again, said = self._answered(server)
        self._program.sendall(said)
        if again:
            rest = self._greet(server, name, Handshake(CHANGE_CIPHER_SPEC), rest)
        server.settimeout(self._limits.idle_seconds)
        server.sendall(rest)
        relay(self._program, server, upload=None, idle=self._limits.idle_seconds)

    def _reached(self, host: str, port: int) -> None:
        """What a program means that connected to a port which is for this host alone."""
        opener = self._gateway.opener
        assert opener is not None and opener.desk is not None
        name = self._judged(host, port, "CONNECT")
        self._ask_policies()
        self._by_ssh(opener.desk, name, port, b"")

    def _by_ssh(self, desk: Desk, name: str, port: int, begun: bytes) -> None:
        with desk.tunnel(name, port) as greeting:
            self._shell = Shell(greeting)
            server = self._connect(name, port)
            carry_ssh(self._program, server, greeting, begun, self._limits)

    def _greet(self, server: socket.socket, name: str, handshake: Handshake, begun: bytes) -> bytes:
        """Pass on a ClientHello that asks for that name; what came after it, unjudged."""
        until = time.monotonic() + self._limits.head_seconds
        handshake.feed(begun)
        while (body := handshake.client_hello()) is None:
            piece = receive(self._program, until)
            if not piece:
                raise RefusedError("expected a TLS ClientHello, and the connection ended")
            handshake.feed(piece)
        asked = read_hello(body)
        if asked != name:
            raise RefusedError(f"the tunnel is to {name}, and the TLS in it asks for {asked!r:.80}")
        server.sendall(handshake.taken())
        return handshake.rest

    def _answered(self, server: socket.socket) -> tuple[bool, bytes]:
        """Whether the server wants a second ClientHello, and all that it has said.

        Until then nothing more is passed on to it: a second one could name another host.
        """
        until = time.monotonic() + self._limits.head_seconds
        handshake = Handshake(ALERT)
        while (answer := handshake.answer()) is None:
            piece = receive(server, until)
            if not piece:  # it has refused the first one, and said why
                return False, bytes(handshake.raw)
            handshake.feed(piece)
        return asks_again(answer), bytes(handshake.raw)

    def _opened(self, name: str, port: int, rest: bytes) -> None:
        """The requests in it are judged and reported one by one, and not the tunnel."""
        opener = self._gateway.opener
        assert opener is not None
        self._asked = None
        self._program.sendall(_ESTABLISHED)
        self._tunnel = True
        tunnel = Tunnel(
            name=name,
            port=port,
            connect=lambda: self._connect(name, port),
            watch=self._gateway.watch,
            limits=self._limits,
        )
        opener.carry(self._program, rest, tunnel)

    def _ask_policies(self) -> None:
        assert self._asked is not None
        self._gateway.watch.judge(self._asked)

    # -- the server -----------------------------------------------------------------

    def _connect(self, name: str, port: int) -> socket.socket:
        """To one of the name's addresses: those that were judged, and no other look-up."""
        until = time.monotonic() + self._limits.connect_seconds
        if self._server is not None:  # one tunnel has one after the other
            self._gateway.let_go(self._server)
            self._server.close()
            self._server = None
        failure = OSError(f"{name}:{port} has no address")
        for address in self._gateway.addresses(name, port):
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            self._server = server = socket.socket(family, socket.SOCK_STREAM)
            try:
                self._gateway.hold(server)
                server.settimeout(max(0.01, until - time.monotonic()))
                server.connect(address)
                # What a program sends in small pieces goes on as it comes.
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                server.settimeout(self._limits.idle_seconds)
                return server
            except OSError as error:
                reason = error.strerror or error
                failure = OSError(f"{name}:{port} could not be reached: {reason}")
                self._gateway.let_go(server)
                server.close()
                self._server = None
        raise failure
