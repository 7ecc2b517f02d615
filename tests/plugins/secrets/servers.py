"""A server over TLS that demands a key, and a program's way to it by a gateway."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import gzip
import http.client
import http.server
import io
import ipaddress
import json
import queue
import socket
import ssl
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stockade.config import SandboxConfig, Secret
from stockade.toolkit.egress import Gateway, Limits, WayOut
from stockade.wall import OpenRequest, OutgoingRequest, RequestEnd, RequestOutcome, RequestWatch

__all__ = [
    "KEY",
    "Certified",
    "KeyServer",
    "Page",
    "Script",
    "Watch",
    "answered",
    "certified",
    "gateway",
    "near",
    "opened",
]

KEY = "sk-live-0123456789/abcDEF+xyz"


#: Method, path, headers and body.
_Asked = tuple[str, str, dict[str, str], bytes]


@attrs.frozen
class Certified:
    """Files of an authority of the tests' own, and of a server that it vouches for."""

    authority: Path
    server: Path

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server)
        context.set_alpn_protocols(["http/1.1"])
        return context


def certified(folder: Path, *names: str) -> Certified:
    """For servers of these names."""
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.timezone.utc)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName(
                [*map(x509.DNSName, names), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    found = Certified(folder / "authority.pem", folder / "server.pem")
    found.authority.write_bytes(pem)
    found.server.write_bytes(
        pem
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return found


class Page(http.server.BaseHTTPRequestHandler):
    """Asks for the key, by the first part of the path in one way or another."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size + 2)[:-2]
            self.rfile.readline()
        self.server.seen.put((self.command, self.path, dict(self.headers.items()), body))
        route = self.path.partition("?")[0].strip("/").partition("/")[0]
        getattr(self, f"_{route or 'key'}", self._key)(body)

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def say(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _told(self) -> str:
        """All that a request said, and so the value, too."""
        return self.path + "\n" + "\n".join(f"{k}: {v}" for k, v in self.headers.items())

    def _key(self, body: bytes) -> None:
        given = self.headers.get("Authorization", "")
        scheme, _, rest = given.partition(" ")
        known = [f"{scheme} {KEY}"]
        if scheme == "Basic":
            known = ["user:" + KEY, KEY + ":x-oauth-basic"]
            given = base64.b64decode(rest).decode()
        ok = given in known or self.headers.get("X-Api-Key") == KEY
        self.say(200 if ok else 401, b"welcome" if ok else b"no key")

    def _echo(self, body: bytes) -> None:
        told = self._told().encode() + b"\n" + body
        self.say(200, told, ("X-Echo", self.headers.get("Authorization", "")))

    def _gzip(self, body: bytes) -> None:
        self.say(200, gzip.compress(self._told().encode() * 50), ("Content-Encoding", "gzip"))

    def _deflate(self, body: bytes) -> None:
        packer = zlib.compressobj(wbits=-15)
        data = packer.compress(self._told().encode()) + packer.flush()
        self.say(200, data, ("Content-Encoding", "deflate"))

    def _br(self, body: bytes) -> None:
        self.say(200, b"as if it were brotli", ("Content-Encoding", "br"))

    def _base64(self, body: bytes) -> None:
        shown = {
            "a": base64.b64encode(KEY.encode()).decode(),
            "b": base64.b64encode(b"x" + KEY.encode()).decode(),
            "c": base64.urlsafe_b64encode(b"xy" + KEY.encode()).decode(),
            "d": KEY.encode().hex(),
        }
        self.say(200, json.dumps(shown).encode())

    def _pieces(self, body: bytes) -> None:
        """The value in pieces, each a chunk of its own."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in ("begin ", KEY[:5], KEY[5:9], KEY[9:], " end"):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece.encode()))
            self.wfile.flush()
            time.sleep(0.02)
        self.wfile.write(b"0\r\nX-Trailer: %s\r\n\r\n" % KEY.encode())

    def _elsewhere(self, body: bytes) -> None:
        self.say(302, b"", ("Location", f"https://other.example/?token={KEY}"))

    def _simple(self, body: bytes) -> None:
        """An index of packages that asks for the key, and one package."""
        given = self.headers.get("Authorization", "").partition(" ")[2]
        if base64.b64decode(given) != f"user:{KEY}".encode():
            self.say(401, b"", ("WWW-Authenticate", 'Basic realm="index"'))
        elif self.path.endswith(".whl"):
            self.say(200, _wheel())
        else:
            page = '<a href="/simple/private_thing-1.0-py3-none-any.whl">it</a>'
            self.say(200, page.encode(), ("Content-Type", "text/html"))

    def log_message(self, *_: object) -> None: ...


def _wheel() -> bytes:
    """``private-thing`` 1.0."""
    about = "private_thing-1.0.dist-info"
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as wheel:
        wheel.writestr("private_thing.py", "found = True\n")
        text = "Metadata-Version: 2.1\nName: private-thing\nVersion: 1.0\n"
        wheel.writestr(f"{about}/METADATA", text)
        text = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{about}/WHEEL", text)
        wheel.writestr(f"{about}/RECORD", "")
    return made.getvalue()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    seen: queue.SimpleQueue[_Asked]

    def handle_error(self, *_: object) -> None: ...


class KeyServer:
    """Answers 200 to whoever has the key, and has ways to show it."""

    def __init__(self, files: Certified, page: type[Page] | None = None) -> None:
        self._server = _Server(("127.0.0.1", 0), page or Page)
        self.seen: queue.SimpleQueue[_Asked] = queue.SimpleQueue()
        self._server.seen = self.seen
        context = files.context()
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def last(self) -> _Asked:
        return self.seen.get(timeout=10)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Script:
    """A server over TLS that reads once and then says what it was given, and ends."""

    def __init__(self, files: Certified, says: Callable[[bytes], Iterator[bytes]]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._context, self._says = files.context(), says
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
        with contextlib.suppress(OSError):
            with self._context.wrap_socket(connection, server_side=True) as tls:
                data = tls.recv(65536)
                self.seen.put(data)
                for piece in self._says(data):
                    tls.sendall(piece)
                tls.unwrap()

    def close(self) -> None:
        self._listener.close()


_Seen = tuple[OutgoingRequest, RequestOutcome, int | None, str | None]


class Watch(RequestWatch):
    """Keeps what it is notified of; ``refuses`` raises."""

    def __init__(self) -> None:
        self._seen: queue.SimpleQueue[_Seen] = queue.SimpleQueue()
        self.judged: list[OutgoingRequest] = []
        self.refuses: Exception | None = None

    def judge(self, request: OutgoingRequest) -> None:
        self.judged.append(request)
        if self.refuses is not None:
            raise self.refuses

    def ended(self, request: OutgoingRequest, end: RequestEnd) -> None:
        self._seen.put((request, end.outcome, end.status, end.reason))

    def next(self) -> _Seen:
        """What became of the next request."""
        return self._seen.get(timeout=20)


def gateway(
    *secrets: Secret, watch: Watch | None = None, limits: Limits | None = None, **config: object
) -> Gateway:
    """That of a session with these."""
    fields = SandboxConfig().with_(secrets=secrets, **config)  # type: ignore[arg-type]
    request = OpenRequest(
        session_id="s", agent_hash="a", target=None, config=fields, watch=watch or Watch()
    )
    way_out = WayOut.of(request)
    assert way_out is not None
    return Gateway(way_out, limits=limits)


def near(served: Gateway) -> socket.socket:
    near, far = socket.socketpair()
    threading.Thread(target=served.serve, args=(far,), daemon=True).start()
    near.settimeout(20)
    return near


def answered(sock: socket.socket, request: bytes) -> bytes:
    """What comes to a request until an empty line."""
    sock.sendall(request)
    data = b""
    while b"\r\n\r\n" not in data and (piece := sock.recv(1)):
        data += piece
    return data


@contextlib.contextmanager
def opened(
    served: Gateway, place: str, *, name: str | None = None, trust: str | None = None
) -> Iterator[ssl.SSLSocket]:
    """A program's TLS in a tunnel to ``name:port``; ``name``: another one for its greeting."""
    assert served.opener is not None
    context = ssl.create_default_context(cadata=trust or served.opener.bundle.decode())
    context.set_alpn_protocols(["h2", "http/1.1"])
    with near(served) as sock:
        said = answered(sock, f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
        assert said.startswith(b"HTTP/1.1 200"), said
        asked = name or place.partition(":")[0]
        with context.wrap_socket(sock, server_hostname=asked) as tls:
            yield tls


class Client(http.client.HTTPConnection):
    """http.client in such a tunnel."""

    def __init__(self, tls: ssl.SSLSocket, place: str) -> None:
        host, _, port = place.partition(":")
        super().__init__(host, int(port))
        self.default_port = 443
        self.sock = tls

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes]:
        plain = {name.replace("_", "-"): value for name, value in headers.items()}
        self.request(method, path, body, plain)
        answer = self.getresponse()
        self.answer = answer
        return answer.status, answer.read()
