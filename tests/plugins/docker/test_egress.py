"""Egress to named hosts: exactly these, by name, and nothing by any other way (E10)."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import docker
import pytest

import stockade
from conftest import need
from core.toolkit.egress.hellos import ANSWERS, forged, hello
from core.toolkit.egress.network import Server
from plugins.docker.conftest import BUSYBOX, PYTHON
from stockade.errors import ConfigError
from stockade.session import Session
from stockade.toolkit.egress import addresses

pytestmark = pytest.mark.engine


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = f"{self.path} for {self.headers['Host']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"%d bytes" % len(body) + bytes(3_000_000))

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def page() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def secure() -> Iterator[Server]:
    """Answers a greeting of TLS as its servers do."""
    server = Server(lambda _: ANSWERS)
    yield server
    server.close()


@pytest.fixture(params=["docker", "gvisor"])
def session(
    request: pytest.FixtureRequest,
    page: int,
    secure: Server,
    monkeypatch: pytest.MonkeyPatch,
    engine: docker.APIClient,
) -> Iterator[Session]:
    """May reach allowed.example, which leads to the page, and other.example, to TLS."""
    need(request.param)

    def resolve(name: str, port: int) -> list[tuple[str, int]]:
        return [{"allowed.example": ("127.0.0.1", page), "other.example": secure.address}[name]]

    monkeypatch.setattr(addresses, "resolve", resolve)
    string = f"{request.param}:{PYTHON}?network_allow=allowed.example,other.example%3A8443"
    with stockade.open(string) as opened:
        yield opened


TALK = """
import os, socket, sys
host, port = os.environ["http_proxy"][7:].split(":")
s = socket.create_connection((host, int(port)), 10)
s.sendall(sys.stdin.buffer.read())
s.shutdown(socket.SHUT_WR) if {half} else None
data = b""
while True:
    piece = s.recv(65536)
    if not piece: break
    data += piece
sys.stdout.buffer.write(data)
"""


def talk(session: Session, data: bytes, *, half: bool = False) -> bytes:
    """What the proxy answers to these bytes."""
    result = session.code(
        TALK.format(half=half), stdin=data, timeout=30, output_limit_bytes=1 << 23
    )
    assert result.success, result.stderr
    return result.stdout_bytes


def test_a_named_host_is_reached(session: Session) -> None:
    answer = talk(session, b"GET http://allowed.example/a?b HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    assert answer.endswith(b"/a?b for allowed.example")
    body = b"x" * 700_000
    head = b"POST http://allowed.example/ HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    answer = talk(session, head + body)
    assert b"700000 bytes" in answer and len(answer) > 3_000_000


@pytest.mark.parametrize(
    "target",
    [
        "evil.example",
        "allowed.example.evil.example",
        "allowed.example:22",
        "other.example",
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "[::1]",
        "1.1.1.1",
        "allowed.example@evil.example",
        "localhost",
        "",
    ],
)
def test_nothing_else_is(session: Session, target: str) -> None:
    answer = talk(session, f"GET http://{target}/ HTTP/1.1\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 403")
    port = "" if ":" in target and "[" not in target else ":443"
    answer = talk(session, f"CONNECT {target}{port} HTTP/1.1\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 403")


def test_a_second_request_cannot_name_another_host(session: Session) -> None:
    two = (
        b"GET http://allowed.example/1 HTTP/1.1\r\n\r\n"
        b"GET /2 HTTP/1.1\r\nHost: evil.example\r\n\r\n"
    )
    answer = talk(session, two)
    assert b"/1 for allowed.example" in answer and b"/2" not in answer


def test_a_tunnel_speaks_tls_to_the_name_it_was_opened_for(
    session: Session, secure: Server
) -> None:
    open_it = b"CONNECT other.example:8443 HTTP/1.1\r\n\r\n"
    established = b"HTTP/1.1 200 Connection established\r\n\r\n"
    right = hello("other.example")
    answer = talk(session, open_it + right + b"finished", half=True)
    assert answer.startswith(established + ANSWERS)
    assert secure.all_seen() == right + b"finished"
    for wrong in (
        hello("evil.example"),
        forged("evil.example", "other.example"),
        b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    ):
        assert ANSWERS not in talk(session, open_it + wrong, half=True)
        assert secure.all_seen() == b""


def test_no_other_way_out(session: Session, page: int) -> None:
    code = f"""
import socket
ways = ((socket.AF_INET, ("1.1.1.1", 53)), (socket.AF_INET6, ("2606:4700::1111", 53)))
for family, address in ways:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        try:
            s = socket.socket(family, kind)
            s.settimeout(2); s.connect(address); s.send(b"x"); print("out", address)
        except OSError: pass
try: print("dns", socket.getaddrinfo("allowed.example", 80))
except OSError: pass
try: socket.create_connection(("127.0.0.1", {page}), 2); print("host")
except OSError: pass
"""
    assert not session.code(code).stdout


def test_what_cannot_be_held_is_refused(engine: docker.APIClient) -> None:
    with pytest.raises(ConfigError, match="raw addresses"):
        stockade.open(f"docker:{PYTHON}?network_allow=10.0.0.1")


def test_an_image_without_python_has_the_way_out_too() -> None:
    with stockade.open(f"docker:{BUSYBOX}?network_allow=allowed.example") as session:
        line = "wget -q -O - http://elsewhere.example/ 2>&1; echo ${http_proxy%%:[0-9]*}"
        result = session.shell(line)
        assert "403" in result.stdout and "http://127.0.0.1" in result.stdout


def test_a_program_on_a_terminal_has_the_way_out_too(engine: docker.APIClient) -> None:
    with (
        stockade.open(f"docker:{BUSYBOX}?network_allow=allowed.example") as session,
        session.terminal(["sh", "-c", "echo proxy=$http_proxy"], timeout=30) as terminal,
    ):
        shown = b""
        while piece := terminal.read():
            shown += piece
    assert b"proxy=http://127.0.0.1:" in shown
