"""Egress to named hosts alone, for a sandbox that has no network at all (E10).

A forwarder inside (resident/forwarder.py) carries connections to one loopback port
over its standard streams to a gateway here, which speaks HTTP's proxy language:
it looks at the name that is asked for, resolves it itself, and connects. So there
is no route, no address and no DNS inside to play tricks with, IPv6 included.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import queue
import socket
import struct
import threading
from collections.abc import Callable, Iterable

import attrs

from stockade.proxyhead import Head, HeadError, read_head
from stockade.resident.channel import Channel
from stockade.results import Stream

__all__ = ["Gateway", "Names", "RefusedError", "server_name"]

_log = logging.getLogger(__name__)

_HEAD = struct.Struct(">IcI")
_WINDOW = 256 * 1024
_PIECE = 32 * 1024
_MAX_FRAME = 1 << 20
_MAX_CONNECTIONS = 128
_MAX_REQUEST_HEAD = 32 * 1024
_MAX_GREETING = 4096
_MAX_NAME = 253
_CONNECT_SECONDS = 15.0
_IDLE_SECONDS = 120.0
#: Ports of a name that is given without one: what the web speaks.
_PORTS = {"https": 443, "http": 80}


class RefusedError(Exception):
    """The connection is not allowed; the message is for the program inside."""


@attrs.frozen
class Names:
    """The hosts that may be reached: ``name`` (ports 443 and 80) or ``name:port``."""

    allowed: frozenset[tuple[str, int]] = attrs.field()

    @classmethod
    def of(cls, words: Iterable[str]) -> Names:
        """Raises ValueError, naming the word, for what is no host's name."""
        found: set[tuple[str, int]] = set()
        for word in words:
            name, colon, port = word.rpartition(":")
            if not colon:
                found |= {(_host(word), number) for number in _PORTS.values()}
            elif _number(port) and 0 < int(port) < 65536:
                found.add((_host(name), int(port)))
            else:
                raise ValueError(f"{word!r}: name or name:port is needed")
        return cls(frozenset(found))

    def check(self, host: str, port: int) -> str:
        """The name in its plain form, or RefusedError."""
        try:
            name = _host(host)
        except ValueError as error:
            raise RefusedError(str(error)) from None
        if (name, port) not in self.allowed:
            raise RefusedError(f"{name}:{port} is not among the hosts this sandbox may reach")
        return name


def _number(text: str) -> bool:
    """Whether it is a port's digits; ``isdigit`` alone takes ``²`` and thousands of them."""
    return text.isascii() and text.isdigit() and len(text) <= 5


def _host(text: str) -> str:
    if len(text) > _MAX_NAME:
        raise ValueError(f"{text!r:.80} is no host's name: it is too long")
    name = text.rstrip(".").lower()
    try:
        name = name.encode("idna").decode("ascii")
    except UnicodeError:
        raise ValueError(f"{text!r:.80} is no host's name") from None
    labels = name.split(".")
    plain = all(label and label.replace("-", "").replace("_", "").isalnum() for label in labels)
    # A last label of digits is an address in one of its many forms (1.2.3.4, 0x7f.1, 2130706433).
    if not plain or labels[-1].isdigit() or labels[-1].startswith("0x") or len(name) > 253:
        raise ValueError(f"{text!r:.80} is no host's name: raw addresses are not allowed")
    return name


def _place(text: str, default: int) -> tuple[str, int]:
    """``name`` or ``name:port`` of a request."""
    host, colon, port = text.rpartition(":")
    if not colon:
        return text, default
    if not _number(port):
        raise RefusedError(f"{text!r:.80} is no name with a port")
    return host, int(port)


def resolve(name: str, port: int) -> list[tuple[str, int]]:
    """Public addresses of a name: one that leads into a private network is refused."""
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise RefusedError(f"{name} cannot be resolved: {error.strerror or error}") from None
    addresses = [(str(item[4][0]), int(item[4][1])) for item in found]
    if not all(ipaddress.ip_address(address).is_global for address, _ in addresses):
        raise RefusedError(f"{name} leads to an address that is not public")
    return addresses


def server_name(data: bytes) -> str | None:
    """The name that a TLS ClientHello asks for, or None where there is none to read."""
    try:
        if data[0] != 22 or data[5] != 1:
            return None
        at = 5 + 4 + 2 + 32
        at += 1 + data[at]  # session id
        at += 2 + int.from_bytes(data[at : at + 2], "big")  # cipher suites
        at += 1 + data[at]  # compression
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        at += 2
        while at + 4 <= end:
            kind = int.from_bytes(data[at : at + 2], "big")
            length = int.from_bytes(data[at + 2 : at + 4], "big")
            if kind == 0:
                size = int.from_bytes(data[at + 7 : at + 9], "big")
                return data[at + 9 : at + 9 + size].decode("ascii")
            at += 4 + length
    except (IndexError, UnicodeDecodeError):
        pass
    return None


class Gateway:
    """The host's end; runs until its channel ends."""

    def __init__(
        self, channel: Channel, names: Names,
        *, addresses: Callable[[str, int], list[tuple[str, int]]] | None = None,
    ) -> None:  # fmt: skip
        self._channel = channel
        self.names = names
        self._addresses = addresses
        self._sending = threading.Lock()
        self._connections: dict[int, _Connection] = {}
        self._buffer = b""

    def start(self, seconds: float) -> int:
        """Wait for the forwarder; the loopback port inside. Raises OSError, TimeoutError."""
        while b"\n" not in self._buffer and len(self._buffer) <= _MAX_GREETING:
            self._fill(seconds)
        line, _, self._buffer = self._buffer.partition(b"\n")
        if not line.isdigit() or len(line) > 5:
            raise OSError(f"the forwarder said {line!r:.80}")
        threading.Thread(target=self._serve, daemon=True, name="stockade-egress").start()
        return int(line)

    def addresses(self, name: str, port: int) -> list[tuple[str, int]]:
        """Where a name leads. Raises RefusedError."""
        return (self._addresses or resolve)(name, port)

    def close(self) -> None:
        self._channel.close()

    def send(self, number: int, kind: bytes, data: bytes = b"") -> None:
        """One frame to the forwarder. Raises OSError."""
        with self._sending:
            self._channel.send(_HEAD.pack(number, kind, len(data)) + data)

    def forget(self, number: int) -> None:
        self._connections.pop(number, None)

    def _fill(self, seconds: float | None = None) -> None:
        pieces = self._channel.receive(seconds)
        if not pieces:
            raise OSError("the forwarder has ended")
        self._buffer += b"".join(data for stream, data in pieces if stream is Stream.STDOUT)

    def _serve(self) -> None:
        try:
            while True:
                self._take()
                self._fill()
        except OSError:
            pass
        finally:
            self._channel.close()
            for connection in list(self._connections.values()):
                connection.end()

    def _take(self) -> None:
        at, end = 0, len(self._buffer)
        while end - at >= _HEAD.size:
            number, kind, length = _HEAD.unpack_from(self._buffer, at)
            if length > _MAX_FRAME:
                raise OSError("the forwarder makes no sense")  # whoever it is by now
            if end - at < _HEAD.size + length:
                break
            at += _HEAD.size + length
            self._handle(number, kind, self._buffer[at - length : at])
        self._buffer = self._buffer[at:]  # once: many small frames would cost a copy each

    def _handle(self, number: int, kind: bytes, data: bytes) -> None:
        connection = self._connections.get(number)
        if kind == b"o" and connection is None:
            if len(self._connections) >= _MAX_CONNECTIONS:
                self.send(number, b"c")
                return
            self._connections[number] = _Connection(self, number)
        elif connection is None:
            return
        elif kind == b"d":
            connection.give(data)
        elif kind == b"w" and len(data) == 4:
            connection.took(int.from_bytes(data, "big"))
        elif kind == b"c":
            connection.give(b"")


class _Connection:
    """One connection of a program's: a request is read, judged, and then carried."""

    def __init__(self, gateway: Gateway, number: int) -> None:
        self._gateway = gateway
        self._number = number
        self._given: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._waiting = 0  # bytes given and not yet taken
        self._credit = _WINDOW
        self._changed = threading.Condition()
        self._ended = False
        self._upstream: socket.socket | None = None
        threading.Thread(target=self._run, daemon=True, name="stockade-egress").start()

    # -- called by the gateway's thread ------------------------------------------

    def give(self, data: bytes) -> None:
        with self._changed:
            self._waiting += len(data)
        if self._waiting > 2 * _WINDOW:  # no forwarder of ours sends that much unasked
            self.end()
            return
        self._given.put(data)

    def took(self, count: int) -> None:
        with self._changed:
            self._credit = min(_WINDOW, self._credit + count)
            self._changed.notify()

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._given.put(b"")
        if self._upstream is not None:
            with contextlib.suppress(OSError):
                self._upstream.shutdown(socket.SHUT_RDWR)

    # -- its own threads -----------------------------------------------------------

    def _next(self) -> bytes:
        try:
            data = self._given.get(timeout=_IDLE_SECONDS)
        except queue.Empty:
            return b""
        if data:
            with self._changed:
                self._waiting -= len(data)
            self._gateway.send(self._number, b"w", struct.pack(">I", len(data)))
        return data

    def _run(self) -> None:
        try:
            self._carry()
        except RefusedError as error:
            _log.info("egress refused: %s", error)
            words = str(error).encode("ascii", "backslashreplace").decode()
            self._answer(f"HTTP/1.1 403 Forbidden\r\nContent-Length: {len(words) + 1}\r\n"
                         f"Connection: close\r\n\r\n{words}\n")  # fmt: skip
        except OSError as error:
            _log.info("egress failed: %s", error)
            self._answer("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n"
                         "Connection: close\r\n\r\n")  # fmt: skip
        finally:
            self.end()
            self._gateway.forget(self._number)
            if self._upstream is not None:
                self._upstream.close()
            with contextlib.suppress(OSError):
                self._gateway.send(self._number, b"c")

    def _answer(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._gateway.send(self._number, b"d", text.encode("utf-8", "replace"))

    def _carry(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            data = self._next()
            if not data or len(head) > _MAX_REQUEST_HEAD:
                raise RefusedError("no request was made within the limits")
            head += data
        lines, _, rest = head.partition(b"\r\n\r\n")
        try:
            read = read_head(lines)
        except HeadError as error:
            raise RefusedError(str(error)) from None
        if read.method != "CONNECT":
            self._plain(read, rest)
            return
        host, port = _place(read.target, 443)
        name = self._gateway.names.check(host, port)
        self._connect(name, port)
        self._answer("HTTP/1.1 200 Connection established\r\n\r\n")
        # The name in the clear must be the one that was allowed: else the connection
        # to one host of a provider would open all its others.
        hello = rest
        while len(hello) < 5 or len(hello) < 5 + int.from_bytes(hello[3:5], "big"):
            data = self._next()
            if not data or len(hello) > _MAX_REQUEST_HEAD:
                raise OSError("no TLS began")
            hello += data
        if server_name(hello) != name:
            raise OSError(f"the TLS connection to {name} asks for {server_name(hello)!r:.80}")
        self._pass_on(hello, None)

    def _plain(self, head: Head, rest: bytes) -> None:
        """One request of plain HTTP in the form that proxies take, and its answer."""
        if not head.target.lower().startswith("http://"):
            raise RefusedError("this is a proxy: ask for http://NAME/… or CONNECT NAME:443")
        place, _, path = head.target[7:].partition("/")
        host, port = _place(place, 80)
        name = self._gateway.names.check(host, port)
        self._connect(name, port)
        # One request a connection: what follows could name another host.
        lines = (
            f"{head.method} /{path} HTTP/1.1",
            f"Host: {name}" if port == 80 else f"Host: {name}:{port}",
            *head.headers,
            "Connection: close\r\n\r\n",
        )
        body = rest[: head.length]
        self._pass_on("\r\n".join(lines).encode("latin-1") + body, head.length - len(body))

    def _connect(self, name: str, port: int) -> None:
        failure: OSError = OSError(f"{name} has no address")
        for address in self._gateway.addresses(name, port):
            try:
                self._upstream = socket.create_connection(address, _CONNECT_SECONDS)
                self._upstream.settimeout(_IDLE_SECONDS)
                return
            except OSError as error:
                failure = error
        raise failure

    def _pass_on(self, first: bytes, left: int | None) -> None:
        """Both ways; ``left`` bytes more from the program at most."""
        upstream = self._upstream
        assert upstream is not None
        back = threading.Thread(target=self._back, args=(upstream,), daemon=True)
        back.start()
        upstream.sendall(first)
        while left is None or left > 0:
            data = self._next()
            if not data or self._ended:
                break
            upstream.sendall(data if left is None else data[:left])
            left = None if left is None else left - len(data)
        if left is None:
            with contextlib.suppress(OSError):
                upstream.shutdown(socket.SHUT_WR)
        back.join()

    def _back(self, upstream: socket.socket) -> None:
        try:
            while data := upstream.recv(_PIECE):
                with self._changed:
                    self._changed.wait_for(lambda: self._credit > 0 or self._ended, _IDLE_SECONDS)
                    if self._ended or self._credit <= 0:
                        return
                    self._credit -= len(data)
                self._gateway.send(self._number, b"d", data)
        except OSError:
            pass
        finally:
            self._given.put(b"")  # wakes the other way
