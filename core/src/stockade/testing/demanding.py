"""A server over TLS that demands a secret, for the checks of E11.

Its certificate and its key are no secrets: both stand here, and only a process that runs the
checks trusts them, while they run. Core can make none, since it has no cryptography.
"""

from __future__ import annotations

import contextlib
import http.server
import os
import queue
import ssl
import tempfile
import threading
from collections.abc import Iterator

__all__ = ["VARIABLE", "Demanding", "demanding"]

#: Of this process, from which the checks' secret is read.
VARIABLE = "STOCKADE_CHECKED_SECRET"

#: For secret.invalid and other.invalid, valid until 2126.
_CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUTRvLbGd1bX7agolREELqqFJav0AwCgYIKoZIzj0EAwIw
HDEaMBgGA1UEAwwRc3RvY2thZGUncyBjaGVja3MwIBcNMjYwMTAxMDAwMDAwWhgP
MjEyNjAxMDEwMDAwMDBaMBwxGjAYBgNVBAMMEXN0b2NrYWRlJ3MgY2hlY2tzMFkw
EwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEU1JHMr50/luhk+HcFUcTAB91Zwq+Pcas
3ezMqHDJPNjEnOqXWfVszB6SV6+VWtb0YsIGVMo2pYkHMjMIZQwFAKNfMF0wEgYD
VR0TAQH/BAgwBgEB/wIBADAoBgNVHREEITAfgg5zZWNyZXQuaW52YWxpZIINb3Ro
ZXIuaW52YWxpZDAdBgNVHQ4EFgQUd5y8O5XWpp10VoYo7EOMNO8KJtcwCgYIKoZI
zj0EAwIDSAAwRQIgIBmnQXZ3E+QkkXT25kwcp9OjkuMfPUdaL6uhBQMKTeYCIQCQ
9hS8VlV451w7wlqpJQUZAjMoaoInqRoz0Rr33H79NQ==
-----END CERTIFICATE-----
"""
_KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgH+wBJzsl9w6lM0QQ
Nsw0DcCE0W0IGunSvSKKH6wDLhShRANCAARTUkcyvnT+W6GT4dwVRxMAH3VnCr49
xqzd7MyocMk82MSc6pdZ9WzMHpJXr5Va1vRiwgZUyjaliQcyMwhlDAUA
-----END PRIVATE KEY-----
"""


class _Page(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        given = self.headers.get("Authorization", "")
        self.server.seen.put((self.headers.get("Host", ""), given))
        body = f"you sent {given}\n".encode()
        self.send_response(200)
        self.send_header("X-Sent", given)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    seen: queue.SimpleQueue[tuple[str, str]]

    def handle_error(self, *_: object) -> None: ...


class Demanding:
    """By its port; it keeps what each request named and carried, and sends it back."""

    def __init__(self, port: int, seen: queue.SimpleQueue[tuple[str, str]]) -> None:
        self.port = port
        self._seen = seen

    def all_seen(self) -> list[tuple[str, str]]:
        """Hosts and authorizations, since the last call."""
        found = []
        while not self._seen.empty():
            found.append(self._seen.get())
        return found


@contextlib.contextmanager
def demanding(value: str, *, tls: bool = True) -> Iterator[Demanding]:
    """Serve on this machine's loopback, trusted by this process; ``value`` is the secret's."""
    with tempfile.TemporaryDirectory() as folder, _Server(("127.0.0.1", 0), _Page) as server:
        server.seen = queue.SimpleQueue()
        certificate, key = os.path.join(folder, "certificate"), os.path.join(folder, "key")
        for path, text in ((certificate, _CERTIFICATE), (key, _KEY)):
            with open(path, "w", encoding="ascii") as file:
                file.write(text)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            with _environment({"SSL_CERT_FILE": certificate, VARIABLE: value}):
                yield Demanding(server.server_port, server.seen)
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
