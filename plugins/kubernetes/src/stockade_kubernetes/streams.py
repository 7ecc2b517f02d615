"""A supervisor's streams over an attached websocket: one byte for the stream, then its bytes.

The protocols v4 and v5 of the API server's channels. In v5 one direction can be closed alone.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import websocket
from kubernetes.stream import ws_client
from websocket import ABNF

from stockade.toolkit.supervised import OneLine, Transport
from stockade_kubernetes.cluster import NOT_REACHED, Cluster, ClusterError, refused

__all__ = ["PodTransport", "attached"]

_PROTOCOLS = "v5.channel.k8s.io,v4.channel.k8s.io"
_V5 = "v5.channel.k8s.io"
_STDIN, _STDOUT, _STDERR, _STATUS, _CLOSE = 0, 1, 2, 3, 255
_PIECE = 256 * 1024
_KEPT_STDERR = 4096
_AGAIN_SECONDS = 0.1


def attached(
    cluster: Cluster,
    pod: str,
    container: str,
    *,
    command: list[str] | None = None,
    until: float,
    look: Callable[[], None],
) -> PodTransport:
    """Attach to a container, or start a command in it; waits for it until then (monotonic).

    ``look`` is called where it cannot be yet, and raises where it never will. Raises
    ClusterError.
    """
    kind = "attach" if command is None else "exec"
    words: list[tuple[str, str]] = [("container", container)]
    words += [(name, "true") for name in ("stdin", "stdout", "stderr")]
    words += [("command", word) for word in command or ()]
    path = f"{cluster.pods}/{pod}/{kind}?{urlencode(words)}"
    renewed = False
    while True:
        left = max(0.5, until - time.monotonic())
        try:
            return PodTransport(_connected(cluster, path, left))
        except ClusterError as error:
            if error.status == 401 and not renewed:
                renewed = True
                cluster.renew()
                continue
            # A kubelet says so of a container that is about to run.
            early = error.status in (400, 500) or error.soon
            pause = max(_AGAIN_SECONDS, error.retry_after or 0.0)
            if not early or time.monotonic() + pause > until:
                raise
        look()
        time.sleep(pause)


def _connected(cluster: Cluster, path: str, seconds: float) -> websocket.WebSocket:
    configuration = cluster.configuration
    url = f"ws{cluster.server[4:]}{path}"
    headers = {"sec-websocket-protocol": _PROTOCOLS, **cluster.headers()}
    options: dict[str, Any] = {
        "header": [f"{name}: {value}" for name, value in headers.items()],
        "timeout": seconds,
        "suppress_origin": True,
    }
    if configuration.proxy or configuration.proxy_headers:
        options = ws_client.websocket_proxycare(options, configuration, url, headers)
    found = websocket.WebSocket(sslopt=_tls(configuration), skip_utf8_validation=True)
    try:
        found.connect(url, **options)
    except websocket.WebSocketBadStatusException as error:
        body = error.resp_body or b""
        said = body if isinstance(body, bytes) else str(body).encode()
        raise refused(int(error.status_code), said, error.resp_headers or {}) from error
    except (websocket.WebSocketException, OSError, ValueError) as error:
        raise ClusterError(f"no stream from {cluster.server}: {error}", NOT_REACHED) from error
    return found


def _tls(configuration: Any) -> dict[str, Any]:
    if not configuration.verify_ssl:
        found: dict[str, Any] = {"cert_reqs": ssl.CERT_NONE, "check_hostname": False}
    else:
        found = {"cert_reqs": ssl.CERT_REQUIRED}
        if configuration.ssl_ca_cert:
            found["ca_certs"] = configuration.ssl_ca_cert
        if configuration.assert_hostname is not None:
            found["check_hostname"] = bool(configuration.assert_hostname)
    if configuration.cert_file:
        found["certfile"], found["keyfile"] = configuration.cert_file, configuration.key_file
    if getattr(configuration, "tls_server_name", None):
        found["server_hostname"] = configuration.tls_server_name
    return found


class PodTransport(Transport):
    """Made by :func:`attached`. ``receive`` is for one thread, ``send`` for another."""

    def __init__(self, connection: websocket.WebSocket) -> None:
        # Of its own types some are narrower than what it gives.
        found: Any = connection
        self._connection, self._socket = found, found.sock
        self._v5 = connection.subprotocol == _V5 or _V5 in str(
            (connection.getheaders() or {}).get("sec-websocket-protocol", "")
        )
        self._socket.settimeout(0)
        # A TLS connection must not be read and written at the same time.
        self._turn = threading.Lock()
        self._sending = threading.Lock()
        self._closing = threading.Lock()
        self._over = threading.Event()
        self._reading = False
        self._ended = threading.Event()
        self._channel = _STDOUT
        self._lines = OneLine()
        #: What came on the standard error, such as a shell's last words; for messages.
        self.stderr = b""
        #: What the API server said of the end, once it did.
        self.status = ""
        #: When something was heard of the other end last, as time.monotonic says it.
        self.heard = time.monotonic()

    # -- input -------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        for at in range(0, len(view), _PIECE):
            self._put(ABNF.OPCODE_BINARY, b"\0" + view[at : at + _PIECE])

    def ping(self) -> None:
        """Ask for a sign of life; proxies end a connection that is silent. Never waits: where
        something is being sent, or cannot be, that stands for the question. Raises OSError."""
        if not self._sending.acquire(blocking=False):
            return
        try:
            if self._wait(write=True, seconds=0.0):
                self._write(ABNF.OPCODE_PING, b"")
        finally:
            self._sending.release()

    def _put(self, code: int, data: bytes) -> None:
        with self._sending:
            self._write(code, data)

    def _write(self, code: int, data: bytes) -> None:
        left = memoryview(ABNF.create_frame(data, code).format())
        while left:
            if self._over.is_set():
                raise BrokenPipeError("the connection is closed")
            try:
                with self._turn:
                    left = left[self._socket.send(left) :]
            except (ssl.SSLWantWriteError, BlockingIOError):
                self._wait(write=True, seconds=1.0)
            except ssl.SSLWantReadError:  # new keys are agreed on; the reader takes part
                self._wait(write=False, seconds=0.05)

    # -- output ------------------------------------------------------------------------

    def receive(self) -> bytes:
        while data := self._received():
            if not self.one_line:
                return data
            if data := self._lines.feed(data):
                return data
        return b""

    def _received(self) -> bytes:
        with self._closing:
            if self._over.is_set():
                return b""
            self._reading = True
        try:
            while not self._over.is_set():
                found = self._taken(self._frame())
                if found is not None:
                    return found
            return b""
        except websocket.WebSocketConnectionClosedException:
            self._ended.set()
            return b""
        except websocket.WebSocketException as error:
            raise OSError(f"the API server's stream broke: {error}") from error
        finally:
            with self._closing:
                self._reading = False
                if self._over.is_set():
                    self._hang_up()

    def _frame(self) -> Any:
        while True:
            try:
                with self._turn:
                    return self._connection.recv_frame()
            except (ssl.SSLWantReadError, BlockingIOError):
                self._wait(write=False, seconds=None)
            except ssl.SSLWantWriteError:
                self._wait(write=True, seconds=1.0)

    def _taken(self, frame: Any) -> bytes | None:
        """A frame's bytes for the link; None where it has none; empty at the end."""
        self.heard = time.monotonic()
        if frame.opcode == ABNF.OPCODE_PING:
            self._put(ABNF.OPCODE_PONG, frame.data)
            return None
        if frame.opcode == ABNF.OPCODE_CLOSE:
            self._ended.set()
            return b""
        data = bytes(frame.data)
        if not data or frame.opcode == ABNF.OPCODE_PONG:
            return None
        if frame.opcode != ABNF.OPCODE_CONT:
            self._channel, data = data[0], data[1:]
        if self._channel == _STDOUT:
            return data or None
        if self._channel == _STDERR:
            self.stderr = (self.stderr + data)[-_KEPT_STDERR:]
        elif self._channel == _STATUS:
            self.status = _words(data)
        return None

    def _wait(self, *, write: bool, seconds: float | None) -> bool:
        """Until the socket is ready, or ``seconds`` pass; whether it is."""
        descriptor = self._socket.fileno()
        if descriptor < 0:
            raise OSError("the connection is closed")
        waiting = select.poll()
        waiting.register(descriptor, select.POLLOUT if write else select.POLLIN)
        return bool(waiting.poll(None if seconds is None else int(seconds * 1000)))

    # -- the end -----------------------------------------------------------------------

    def wind_down(self, seconds: float) -> None:
        if not self._v5:
            return  # v4 cannot close one direction alone
        with contextlib.suppress(OSError):
            self._put(ABNF.OPCODE_BINARY, bytes((_CLOSE, _STDIN)))
            self._ended.wait(seconds)

    def close(self) -> None:
        with self._closing:
            if self._over.is_set():
                return
            self._over.set()
            with contextlib.suppress(OSError):
                # Wakes whoever reads. Of a TLS connection the plain part: its own farewell
                # would wait for the other side.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            if not self._reading:  # else the reader does: its descriptor must stay its own
                self._hang_up()

    def _hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()


def _words(data: bytes) -> str:
    """The API's word for how a stream ended."""
    try:
        said = json.loads(data)
        return str(said.get("message") or said.get("status") or "")
    except (ValueError, AttributeError):
        return data.decode("utf-8", "replace").strip()
