"""Published ports: ports of this machine's loopback that lead to those of the sandbox (E3).

The sandbox keeps its network, which may be none: what connects here is carried over the
session's own link, and the supervisor connects to the port inside. So a connection is always
made from here; nothing inside can begin one.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import struct
import threading
from collections.abc import Callable, Sequence

from stockade.errors import CapacityError, SandboxLostError, SandboxStartError
from stockade.results import Stream
from stockade.system.forks import in_child
from stockade.system.threads import start_thread
from stockade.toolkit.supervised.ends import FailedToStart, LinkLost
from stockade.toolkit.supervised.execution import DirectSink, LinkExecution
from stockade.toolkit.supervised.link import Link

__all__ = ["Published"]

_HOST = "127.0.0.1"
#: At the same time, for one session; one more is closed at once.
_MOST_CONNECTIONS = 128
_PIECE = 64 * 1024
#: What this machine is short of for a while, and how long it is given.
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_SHORT_SECONDS = 0.2
_END_SECONDS = 2.0
#: So that ``close`` resets a connection: what was cut off must not look complete.
_RESET = struct.pack("ii", 1, 0)


class Published:
    """Listens on 127.0.0.1 alone, at a port of the kernel's choice for each of the sandbox's.

    Made for a session with ``ports``, or when a connection is first to be carried. One thread
    listens where there are ports, and two carry each connection.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._listeners: dict[int, socket.socket] = {}
        self._addresses: dict[int, tuple[str, int]] = {}
        self._held: set[_Passage] = set()
        self._thread: threading.Thread | None = None
        self._woken, self._wake = socket.socketpair()
        in_child(self._drop)

    def open(self, ports: Sequence[int]) -> None:
        """Begin to listen. Raises SandboxStartError, and then nothing is left."""
        try:
            for port in ports:
                listener = socket.create_server((_HOST, 0), backlog=_MOST_CONNECTIONS)
                listener.setblocking(False)
                self._listeners[port] = listener
                self._addresses[port] = (_HOST, listener.getsockname()[1])
            thread = threading.Thread(target=self._serve, daemon=True, name="stockade-ports")
            start_thread(thread)
            self._thread = thread
        except (OSError, CapacityError) as error:
            self.close()
            raise SandboxStartError(f"ports could not be published: {error}") from error

    def address_of(self, port: int) -> tuple[str, int]:
        """Where a port of the sandbox is reached. Raises SandboxLostError."""
        if self._closing.is_set():
            raise SandboxLostError("the session is closed, and its ports are")
        return self._addresses[port]

    def close(self) -> None:
        """Listen no more, and break off every connection; may be called again."""
        with self._lock:
            if self._closing.is_set():
                return
            self._closing.set()
            held = list(self._held)
        with contextlib.suppress(OSError):
            self._wake.send(b"!")
        for passage in held:
            passage.break_off()
        if self._thread is None:
            self._end()
        else:
            self._thread.join(_END_SECONDS)

    def _drop(self) -> None:
        """In a forked child: the parent's connections and ports are the parent's alone (C12)."""
        for passage in self._held:
            passage.connection.close()
        self._end()

    def _end(self) -> None:
        for owned in (*self._listeners.values(), self._woken, self._wake):
            owned.close()

    # -- what connects -----------------------------------------------------------

    def _serve(self) -> None:
        """In a thread of its own, until ``close``."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            for port, listener in self._listeners.items():
                selector.register(listener, selectors.EVENT_READ, port)
            while not self._closing.is_set():
                for key, _ in selector.select():
                    if key.data is not None:
                        self._accept(key.data)
        self._end()

    def _accept(self, port: int) -> None:
        try:
            connection, _ = self._listeners[port].accept()
        except OSError as error:  # it may have gone again
            if error.errno in _SHORT:
                self._closing.wait(_SHORT_SECONDS)
            return
        with contextlib.suppress(CapacityError, LinkLost, OSError, SandboxLostError):
            self.carry(connection, port)

    def carry(self, connection: socket.socket, port: int) -> None:
        """Carry a connection to a port of the sandbox; it is this object's from then on.

        Where it raises (CapacityError, LinkLost, OSError, SandboxLostError) the connection is
        reset.
        """
        passage = _Passage(self._link, connection, self._let_go)
        with self._lock:
            closing, crowded = self._closing.is_set(), len(self._held) >= _MOST_CONNECTIONS
            if not (closing or crowded):
                self._held.add(passage)
        if closing:
            passage.refuse()
            raise SandboxLostError("the session is closed, and its connections are")
        if crowded:
            passage.refuse()
            raise CapacityError(f"{_MOST_CONNECTIONS} connections lead into the session already")
        try:
            passage.begin(port)
        except (CapacityError, LinkLost, OSError):
            passage.refuse()
            self._let_go(passage)
            raise

    def _let_go(self, passage: _Passage) -> None:
        with self._lock:
            self._held.discard(passage)


class _Passage(DirectSink):
    """A connection from outside and the stream over the link that it is carried by; the sink
    of what the server inside answers."""

    def __init__(
        self, link: Link, connection: socket.socket, over: Callable[[_Passage], None]
    ) -> None:
        """``over`` is called once, when both directions have ended."""
        self.connection = connection
        self._link = link
        self._over = over
        self._lock = threading.Lock()
        self._directions = 2
        self._stream: LinkExecution | None = None
        self._broken = False

    def begin(self, port: int) -> None:
        """Raises LinkLost, OSError, CapacityError if there is no thread for it; ``refuse``
        it then."""
        self.connection.setblocking(True)
        if self.connection.family != socket.AF_UNIX:
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = self._link.open_port(port, self)
        with self._lock:
            self._stream, broken = stream, self._broken
        try:
            if broken:
                raise LinkLost("the session is closed")
            for direction in (self._outward, self._inward):
                thread = threading.Thread(
                    target=direction, args=(stream,), daemon=True, name="stockade-ports"
                )
                start_thread(thread)
        except (CapacityError, LinkLost):
            self.break_off()  # what began ends by that
            raise

    def refuse(self) -> None:
        """Reset it; nothing is carried."""
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.connection.close()

    def break_off(self) -> None:
        """End both directions at once, from any thread; this wakes a waiter."""
        with self._lock:
            stream, self._broken = self._stream, True
        if stream is not None:
            stream.kill()
            self._link.forget(stream)
            stream.lose(LinkLost("the connection was broken off"))
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    # -- two directions ------------------------------------------------------------

    def _outward(self, stream: LinkExecution) -> None:
        """What the server inside says, to the client."""
        try:
            outcome = stream.wait(lambda: None)
            if isinstance(outcome, FailedToStart):  # nobody listens there
                self.break_off()
            else:
                self.connection.shutdown(socket.SHUT_WR)
        except (LinkLost, OSError):
            self.break_off()
        finally:
            self._ended(stream)

    def _inward(self, stream: LinkExecution) -> None:
        """What the client says, to the server inside."""
        try:
            while data := self.connection.recv(_PIECE):
                stream.write(data)
            stream.feed(b"", end=True)
        except OSError:
            self.break_off()
        finally:
            self._ended(stream)

    def _ended(self, stream: LinkExecution) -> None:
        with self._lock:
            self._directions -= 1
            if self._directions:
                return
        self._link.forget(stream)
        self.connection.close()
        self._over(self)

    # -- as the stream's sink --------------------------------------------------------

    def write(self, stream: Stream, data: bytes) -> None:
        """In the thread of ``_outward``."""
        self.connection.sendall(data)
