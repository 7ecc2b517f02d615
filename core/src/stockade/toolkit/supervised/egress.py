"""The way out to named hosts: a port of the sandbox's loopback, carried over its link (E10)."""

from __future__ import annotations

import contextlib
import functools
import logging
import secrets
import socket
import threading
from collections.abc import Callable

from stockade.errors import CapacityError
from stockade.file_backend import FileBackend, FileCall
from stockade.results import Stream
from stockade.system.threads import start_thread
from stockade.toolkit.egress import Gateway, Names, WayOut
from stockade.toolkit.supervised.ends import LinkLost
from stockade.toolkit.supervised.execution import DirectSink, LinkExecution
from stockade.toolkit.supervised.link import Link

__all__ = ["Egress", "carry", "refuse"]

_log = logging.getLogger(__name__)

_PIECE = 64 * 1024
#: How long a program may take to close what was closed to it.
_LINGER_SECONDS = 10.0
#: Beside what the gateway serves: such as are being answered that it serves no more. Each takes
#: descriptors and threads of this process, so one beyond these is ended without an answer.
_TURNED_AWAY = 16
_PROXY = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
_DIRECT = ("no_proxy", "NO_PROXY")
#: Where programs look for the authorities that they trust (OpenSSL and Python, requests, node,
#: curl, git, pip, cargo).
_TRUST = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    # Where the machine's settings name another file, npm heeds node's variable no more.
    "NPM_CONFIG_CAFILE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
)
#: Programs of the session may write there, and spoil nothing but their own way out.
_TRUST_FOLDER = "/tmp"
#: ``ssh`` takes its settings from where a user's home leads, and these change with each session.
_SSH_SETTINGS = f"{_TRUST_FOLDER}/stockade-ssh.config"
_FIRST_FREE = 1024
#: Names of the sandbox's own loopback.
_OWN = ("localhost", "127.0.0.1", "::1")


class Egress:
    """A gateway on this side for the connections that programs open to a port inside."""

    def __init__(self, link: Link, way_out: Names | WayOut) -> None:
        self._link = link
        self._gateway = Gateway(way_out)
        self._home = None if isinstance(way_out, Names) else way_out.home
        self._lock = threading.Lock()
        self._carried = 0
        self._most = self._gateway.limits.connections + _TURNED_AWAY
        self._said = False
        #: Inside, where programs find the gateway; None until ``open``.
        self.port: int | None = None
        #: Who serves what programs connect to, as it is listened on.
        self._doors: list[Callable[[socket.socket], None]] = []

    def open(self, seconds: float, files: FileBackend | None = None) -> dict[str, str]:
        """Start to serve; the environment that leads programs there, except to servers inside.

        ``files`` are the sandbox's: where the session has secrets, what its programs are to trust
        is written there. Raises LinkLost, and what files raise.
        """
        self._doors = [self._gateway.serve]
        self._link.on_opened = self._opened
        port = self.port = self._link.listen(seconds)
        allowed = {name for name, _ in self._gateway.names.allowed}
        own = ",".join(name for name in _OWN if name not in allowed)
        return {
            **dict.fromkeys(_PROXY, f"http://127.0.0.1:{port}"),
            **dict.fromkeys(_DIRECT, own),
            **self._trust(files, seconds),
            **self._sign(files, seconds),
        }

    def _trust(self, files: FileBackend | None, seconds: float) -> dict[str, str]:
        """The placeholders of secrets, and where programs find the session's authority (E11)."""
        opener = self._gateway.opener
        if opener is None or not opener.bundle:
            return {}
        path = f"{_TRUST_FOLDER}/stockade-{secrets.token_hex(8)}.pem"
        _write(files, path, opener.bundle, seconds)
        return {**dict.fromkeys(_TRUST, path), **opener.placeholders}

    def _sign(self, files: FileBackend | None, seconds: float) -> dict[str, str]:
        """The socket of an agent, and how ``ssh`` reaches the hosts of keys (E11): a port of
        loopback for each, so that no program inside has to speak to a proxy."""
        desk = None if self._gateway.opener is None else self._gateway.opener.desk
        if desk is None:
            return {}
        folder = f"{_TRUST_FOLDER}/stockade-{secrets.token_hex(8)}"
        agent = f"{folder}.agent"
        self._doors.append(self._gateway.serve_agent)
        self._link.listen_at(agent, seconds)
        addresses = {}
        names = list(dict.fromkeys(name for name, _ in desk.places))
        for name, port in desk.places:
            self._doors.append(functools.partial(self._gateway.serve_ssh, name=name, port=port))
            address = f"127.0.0.{names.index(name) + 2}"
            addresses[name, port] = address, self._link.listen(seconds, address, _free(port))
        config, texts = desk.files(folder, agent, addresses)
        for path, data in texts.items():
            _write(files, path, data, seconds)
        if self._home is not None:
            _lead(files, self._home, config, seconds)
        return {"SSH_AUTH_SOCK": agent, "GIT_SSH_COMMAND": f"ssh -F {config}"}

    def _opened(self, number: int, door: int) -> None:
        """In the link's own thread: what fails here ends this connection alone."""
        with self._lock:
            crowded = self._carried >= self._most
            self._carried += not crowded
        if crowded:
            refuse(self._link, number)
            return
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            refuse(self._link, number)
            self._ended()
            self._say(error)
            return
        try:
            carry(self._link, number, ours, self._ended)
            _in_thread(self._doors[door], theirs)
        except CapacityError as error:
            theirs.close()  # and so ends what carries the other end, if anything does
            self._say(error)

    def _ended(self) -> None:
        with self._lock:
            self._carried -= 1

    def _say(self, error: Exception) -> None:
        """Once: how often it happens is the program's choice."""
        if not self._said:
            self._said = True
            _log.warning("connections from inside are refused: %s", error)

    def close(self) -> None:
        """End every connection; may be called again."""
        self._link.on_opened = None
        self._gateway.close()


def _write(
    files: FileBackend | None, path: str, data: bytes, seconds: float, mode: int = 0o444
) -> None:
    if files is None:
        raise ValueError("a session with secrets needs its sandbox's files")
    files.write(path, [data], FileCall(seconds), mode=mode, append=False, offset=None)


def _lead(files: FileBackend | None, home: str, config: str, seconds: float) -> None:
    """Have ``ssh`` read these settings. What is kept of the folder and comes back in another
    session leads to that one's own. Programs may have put something else there: then they are led
    by the variables alone."""
    assert files is not None
    path = f"{home}/.ssh/config"
    with contextlib.suppress(OSError):
        _write(files, _SSH_SETTINGS, f"Include {config}\n".encode(), seconds, 0o644)
        try:
            files.stat(path, FileCall(seconds), follow_links=False)
        except FileNotFoundError:
            _write(files, path, f"Include {_SSH_SETTINGS}\n".encode(), seconds, 0o644)


def _free(port: int) -> int:
    """Ports that only root may have are not tried: the kernel chooses another one."""
    return port if port >= _FIRST_FREE else 0


class _Relay(DirectSink):
    """Writes to a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def write(self, stream: Stream, data: bytes) -> None:
        with contextlib.suppress(OSError):  # the gateway has closed it: the rest is for nobody
            self._connection.sendall(data)


class _Nobody(DirectSink):
    def write(self, stream: Stream, data: bytes) -> None:
        return


def carry(
    link: Link, number: int, connection: socket.socket, over: Callable[[], None] = lambda: None
) -> LinkExecution:
    """Join a stream that a program has opened to a socket of this side, which is closed when
    both directions have ended, and call ``over`` then. Raises CapacityError if there is no
    thread for that; then the stream is ended, the socket closed, and ``over`` was called."""
    stream = link.adopt(number, _Relay(connection))
    try:
        _in_thread(_outward, stream, connection)
        _in_thread(_inward, link, stream, connection, over)
    except CapacityError:
        stream.kill()
        stream.lose(LinkLost("there is no thread for the connection"))
        link.forget(stream)
        connection.close()
        over()
        raise
    return stream


def refuse(link: Link, number: int) -> None:
    """End a connection that a program has opened; it takes no descriptor and no thread."""
    stream = link.adopt(number, _Nobody())
    stream.kill()
    link.forget(stream)


def _outward(stream: LinkExecution, connection: socket.socket) -> None:
    """What the program sends, to the gateway."""
    with contextlib.suppress(LinkLost, OSError):
        stream.wait(lambda: None)
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)


def _inward(
    link: Link, stream: LinkExecution, connection: socket.socket, over: Callable[[], None]
) -> None:
    """What the gateway answers, to the program; then nothing of it is left."""
    try:
        while data := connection.recv(_PIECE):
            stream.write(data)
    except OSError:
        pass
    stream.feed(b"", end=True)
    if not stream.settled(_LINGER_SECONDS):
        # The program holds an end open that nobody answers. What is killed says no more itself.
        stream.kill()
        stream.lose(LinkLost("the connection was ended"))
    link.forget(stream)
    connection.close()
    over()


def _in_thread(work: Callable[..., object], *args: object) -> None:
    start_thread(threading.Thread(target=work, args=args, daemon=True, name="stockade-egress"))
