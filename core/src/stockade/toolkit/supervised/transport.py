"""The way to one supervisor: a stream of bytes in each direction, whatever carries it."""

from __future__ import annotations

import abc
import contextlib
import os
import socket
import subprocess
import threading

__all__ = ["OneLine", "PipeTransport", "SocketTransport", "Transport"]

_READ_BYTES = 256 * 1024


class Transport(abc.ABC):
    """One supervisor's standard input and output. ``send`` and ``receive`` run in two threads."""

    #: Whether what carries the supervisor's output is slow with newlines, such as a log that
    #: takes lines apart. Then the supervisor writes none, and ``receive`` gives what
    #: :class:`OneLine` makes of it.
    one_line: bool = False

    @abc.abstractmethod
    def send(self, data: bytes) -> None:
        """Write everything; blocks. Raises OSError when the other end is gone.

        Called from any thread, by one at a time.
        """

    @abc.abstractmethod
    def receive(self) -> bytes:
        """The next bytes, waiting for them; empty when the other end is gone or ``close`` was
        called. Called from one thread. Raises OSError."""

    @abc.abstractmethod
    def close(self) -> None:
        """End both directions and wake the thread in ``receive``. May be called again."""

    def wind_down(self, seconds: float) -> None:
        """End the input alone and wait up to ``seconds`` until the other end is gone.

        Called before a sandbox is removed; never raises. Optional: do nothing where removing
        costs the same either way.
        """
        return


class OneLine:
    """What a supervisor wrote without a newline, as it was: fed piece by piece."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """The bytes that are complete."""
        data = self._rest + data
        self._rest = b""
        if data.endswith(b"\x0b"):  # its second byte comes with the next piece
            data, self._rest = data[:-1], b"\x0b"
        return data.replace(b"\x0b\x01", b"\n").replace(b"\x0b\x02", b"\x0b")


class SocketTransport(Transport):
    """Over a connected stream socket, such as one end of a socketpair; takes it over."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._ended = threading.Event()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self) -> bytes:
        data = self._socket.recv(_READ_BYTES)
        if not data:
            self._ended.set()
        return data

    def wind_down(self, seconds: float) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            self._ended.wait(seconds)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class PipeTransport(Transport):
    """Over the pipes of a process that was started with PIPE for input and output.

    The process stays its starter's to reap; ``close`` closes its input, at which a
    supervisor ends, and so does ``receive``.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None, "start it with stdin=PIPE"
        assert process.stdout is not None, "start it with stdout=PIPE"
        self._in, self._out = process.stdin, process.stdout
        self._ended = threading.Event()

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._in.fileno(), view) :]
        except ValueError as error:
            raise BrokenPipeError("the transport is closed") from error

    def receive(self) -> bytes:
        data = os.read(self._out.fileno(), _READ_BYTES)
        if not data:
            self._ended.set()
            self._out.close()
        return data

    def wind_down(self, seconds: float) -> None:
        self.close()
        self._ended.wait(seconds)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._in.close()
