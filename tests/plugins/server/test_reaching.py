"""How a sandbox is reached from outside: signed links, ports, and what a caller's rules close."""

from __future__ import annotations

import base64
import hashlib
import http.client
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest

from plugins.server.serving import Caller, Made, serving

pytest.importorskip("starlette", reason="stockade-server is not installed (tox -e server)")
pytest.importorskip("uvicorn", reason="stockade-server is not installed (tox -e server)")

pytestmark = pytest.mark.usefixtures("local")

_ECHO = r"""
import http.server, json
class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        said = json.dumps({"method": self.command, "path": self.path, "body": body.decode(),
                           "headers": {k.lower(): v for k, v in self.headers.items()}}).encode()
        self.send_response(418)
        self.send_header("content-length", str(len(said)))
        self.send_header("x-twice", "1")
        self.send_header("x-twice", "2")
        self.end_headers()
        self.wfile.write(said if self.command != "HEAD" else b"")
    do_GET = do_POST = do_HEAD = do_OPTIONS = do_PROPFIND = answer
    def log_message(self, *words): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Echo).serve_forever()
"""

#: Answers with what stands in the path, and closes.
_HOSTILE = r"""
import socket, urllib.parse
listening = socket.create_server(("127.0.0.1", 8000))
while True:
    connection, _ = listening.accept()
    asked = connection.recv(65536).split()
    answer = urllib.parse.unquote(asked[1].decode()).partition("?")[2]
    try:
        connection.sendall(answer.encode("latin-1") * (10**6 if asked[0] == b"PUT" else 1))
    except OSError:
        pass
    connection.close()
"""


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    with serving("--template", "base=local?ports=8000,8001&lifetime_seconds=600") as served:
        yield Caller(served.url, served.key)


def create(caller: Caller, **body: Any) -> tuple[Made, dict[str, Any]]:
    status, found = caller.ask("POST", "/v2/sandboxes", {"templateID": "base", **body})
    assert status == 201, found
    return Made(caller, found["sandboxID"], found["envdAccessToken"]), found


def ask(made: Made, method: str, path: str, body: bytes | None = None, **headers: str) -> Any:
    """Without any key or token."""
    return Caller(made.caller.url, "").ask(method, path, body, **headers)


def at_port(made: Made, port: int = 8000, method: str = "GET", **more: Any) -> Any:
    """What the sandbox's port answers."""
    sent: dict[str, Any] = {"e2b_sandbox_id": made.sandbox_id, "e2b_sandbox_port": str(port)}
    return ask(made, method, "/v2/sandboxes?a=%20b", b"sent", **{**sent, **more})


def start_server(made: Made, program: str = _ECHO) -> None:
    """A server at port 8000, which says what it was asked."""
    made.begin("python3", "-c", program)
    until = time.monotonic() + 30
    ready = "/?" + quote("HTTP/1.1 204 Ready\r\n\r\n")
    to = {"e2b_sandbox_id": made.sandbox_id, "e2b_sandbox_port": "8000"}
    while made.caller.ask("GET", ready, None, **to)[0] == 502:
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.fixture(scope="module")
def made(caller: Caller) -> Made:
    found, _ = create(caller)
    start_server(found)
    return found


# -- signed links --------------------------------------------------------------------


def link(token: str, path: str, operation: str, expiry: int | None = None, user: str = "") -> str:
    words = [path, operation, user, token, *([] if expiry is None else [str(expiry)])]
    digest = base64.b64encode(hashlib.sha256(":".join(words).encode()).digest()).decode()
    query = {"path": path, "signature": "v1_" + digest.rstrip("=")}
    if user:
        query["username"] = user
    if expiry is not None:
        query["signature_expiration"] = str(expiry)
    return f"/files?{urlencode(query)}"


def test_a_signed_link_opens_one_path_for_one_operation(caller: Caller, made: Made) -> None:
    octets = {"content_type": "application/octet-stream"}
    assert ask(made, "POST", link(made.token, "a b.txt", "write"), b"kept", **octets)[0] == 200
    assert ask(made, "GET", link(made.token, "a b.txt", "read")) == (200, b"kept")
    assert ask(made, "GET", link(made.token, "a b.txt", "read", user="user")) == (200, b"kept")
    soon = int(time.time()) + 60
    assert ask(made, "GET", link(made.token, "a b.txt", "read", soon)) == (200, b"kept")
    reading = link(made.token, "a b.txt", "read", soon)
    for wrong in (
        reading.replace("a+b.txt", "other"),
        reading.replace(str(soon), str(soon + 1)),
        reading.partition("&signature_exp")[0],
        link("0" * 64, "a b.txt", "read"),
        link(made.token, "a b.txt", "write"),
        "/files?path=a+b.txt&signature=",
        "/files?path=a+b.txt",
    ):
        assert ask(made, "GET", wrong)[0] in (400, 401), wrong
    assert ask(made, "POST", reading, b"lost", **octets)[0] == 401
    assert ask(made, "GET", reading) == (200, b"kept")


def test_a_link_that_has_expired_opens_nothing(caller: Caller, made: Made) -> None:
    for expiry in (int(time.time()) - 1, 0, -5):
        status, said = ask(made, "GET", link(made.token, "x", "read", expiry))
        assert (status, said) == (401, {"code": 401, "message": "signature is already expired"})


def test_a_link_of_a_sandbox_does_not_open_another(caller: Caller, made: Made) -> None:
    other, _ = create(caller)
    path = link(made.token, "a b.txt", "read")
    assert ask(made, "GET", path, e2b_sandbox_id=other.sandbox_id)[0] == 401
    assert ask(made, "GET", link(made.token, "/etc/hostname", "read", user="root"))[0] == 501
    assert caller.ask("DELETE", f"/sandboxes/{other.sandbox_id}")[0] == 204
    assert ask(made, "GET", link(other.token, "a b.txt", "read"))[0] == 401


# -- ports ---------------------------------------------------------------------------


def test_a_port_is_reached_by_its_headers_and_by_its_host(made: Made) -> None:
    for method in ("GET", "POST", "OPTIONS", "PROPFIND"):
        status, said = at_port(made, method=method)
        assert status == 418 and said["method"] == method and said["body"] == "sent"
        assert said["path"] == "/v2/sandboxes?a=%20b"
    host = f"8000-{made.sandbox_id}.{urlsplit(made.caller.url).netloc}"
    host = host.replace("127.0.0.1", "localhost")
    status, said = ask(made, "GET", "/here", host=host)
    assert status == 418 and said["path"] == "/here" and said["headers"]["host"] == host
    assert ask(made, "HEAD", "/here", host=host) == (418, b"")


def test_what_is_between_a_caller_and_the_server_does_not_reach_the_sandbox(made: Made) -> None:
    ours: dict[str, Any] = {"x_access_token": made.token, "e2b_traffic_access_token": "x"}
    ours["x_api_key"] = made.caller.key
    cookies = "a=b; stockade=of-the-page; __Host-stockade=of-the-page; c=stockade=d"
    headers = at_port(made, authorization="Bearer own", cookie=cookies, **ours)[1]["headers"]
    assert headers["authorization"] == "Bearer own"
    assert headers["cookie"] == "a=b; c=stockade=d"
    assert "cookie" not in at_port(made, cookie="stockade=of-the-page")[1]["headers"]
    assert not {"x-api-key", "x-access-token", "e2b-traffic-access-token", "e2b-sandbox-id"} & {
        *headers
    }
    other = at_port(made, x_api_key="the program's own")[1]["headers"]
    assert other["x-api-key"] == "the program's own"


def test_an_answer_comes_as_it_is(made: Made) -> None:
    connection = http.client.HTTPConnection(urlsplit(made.caller.url).netloc, timeout=30)
    headers = {"E2b-Sandbox-Id": made.sandbox_id, "E2b-Sandbox-Port": "8000"}
    connection.request("POST", "/", iter([b"x" * 70_000, b"y"]), headers, encode_chunked=True)
    answer = connection.getresponse()
    assert answer.getheader("x-twice") == "1, 2"
    answer.read()
    connection.close()


def test_a_body_that_states_two_lengths_has_one(made: Made) -> None:
    """As a proxy on the way reads it: otherwise the rest would be another's request."""
    head = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 90\r\ntransfer-encoding: chunked\r\n"
    with socket.create_connection(place(made), timeout=30) as connection:
        to = f"e2b-sandbox-id: {made.sandbox_id}\r\ne2b-sandbox-port: 8000\r\n\r\n"
        connection.sendall((head + to + "3\r\nabc\r\n0\r\n\r\n").encode())
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 418"), answer


def test_no_tunnel_is_made(made: Made) -> None:
    with socket.create_connection(place(made), timeout=30) as connection:
        to = f"e2b-sandbox-id: {made.sandbox_id}\r\ne2b-sandbox-port: 8000\r\n\r\n"
        connection.sendall(f"CONNECT example.org:443 HTTP/1.1\r\nhost: x\r\n{to}".encode())
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 501"), answer


def place(made: Made) -> tuple[str, int]:
    found = urlsplit(made.caller.url)
    return found.hostname or "", found.port or 0


def test_ports_that_lead_nowhere(made: Made) -> None:
    status, said = at_port(made, 8001)
    assert status == 502 and "nothing answers HTTP at port 8001" in said["message"]
    assert ask(made, "GET", "/", e2b_sandbox_id=made.sandbox_id, e2b_sandbox_port="x")[0] == 400
    assert at_port(made, upgrade="websocket")[0] == 501
    assert at_port(made, e2b_sandbox_id="ses-nowhere")[0] == 502


def test_what_a_hostile_program_answers_harms_nobody(caller: Caller) -> None:
    hostile, _ = create(caller)
    start_server(hostile, _HOSTILE)
    to = {"e2b_sandbox_id": hostile.sandbox_id, "e2b_sandbox_port": "8000"}
    for answer in (
        "",
        "no HTTP at all\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\r\ncontent-length: -1\r\n\r\n",
        "HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    ):
        assert ask(hostile, "GET", f"/?{quote(answer)}", None, **to)[0] == 502, answer
    assert ask(hostile, "PUT", f"/?{quote('x')}", None, **to)[0] == 502  # a head without an end
    for cut in ("content-length: 10\r\n\r\nhalf", "transfer-encoding: chunked\r\n\r\n5\r\nha"):
        with pytest.raises(http.client.IncompleteRead):
            ask(
                hostile,
                "GET",
                f"/?{quote('HTTP/1.1 200 OK' + chr(13) + chr(10) + cut)}",
                None,
                **to,
            )
    two = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 500 No\r\n\r\n"
    assert ask(hostile, "GET", f"/?{quote(two)}", None, **to) == (200, b"ok")
    assert caller.ask("DELETE", f"/sandboxes/{hostile.sandbox_id}")[0] == 204


def test_a_private_sandboxs_ports_want_its_token_and_a_mask_is_the_host(caller: Caller) -> None:
    network = {"allowPublicTraffic": False, "maskRequestHost": "masked.example:${PORT}"}
    private, found = create(caller, network=network)
    assert at_port(private)[0] == 403
    assert at_port(private, e2b_traffic_access_token="x")[0] == 403
    token = found["trafficAccessToken"]
    assert at_port(private, e2b_traffic_access_token=token)[0] == 502  # nothing listens
    private.begin("python3", "-c", _ECHO)
    until = time.monotonic() + 30
    while (answer := at_port(private, e2b_traffic_access_token=token))[0] == 502:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert answer[1]["headers"]["host"] == "masked.example:8000"
    assert caller.ask("DELETE", f"/sandboxes/{private.sandbox_id}")[0] == 204


# -- a caller's rules for the network --------------------------------------------------


def test_rules_take_the_network_away_and_never_give_it() -> None:
    options = ("--template", "base=local", "--template", "some=local?network_allow=example.org")
    with serving(*options) as served:
        caller = Caller(served.url, served.key)
        everything = ["0.0.0.0/0"]
        for template, network, status in (
            ("base", {"denyOut": everything}, 201),
            ("base", {"denyOut": everything, "allowOut": ["example.org"]}, 403),
            ("some", {"denyOut": everything, "allowOut": ["example.org"]}, 201),
            ("some", {"denyOut": everything, "allowOut": ["example.com"]}, 403),
            ("some", {"denyOut": everything, "allowOut": ["example.org:22=10.0.0.1"]}, 501),
            ("some", {"denyOut": everything, "allowOut": ["10.0.0.1"]}, 501),
            ("some", {"denyOut": ["10.0.0.1"]}, 501),
            ("some", {"denyOut": everything}, 201),
            ("some", {"egressProxy": {"address": "x:1"}}, 501),
            ("some", {"denyOut": "0.0.0.0/0"}, 400),
            ("some", {"maskRequestHost": "a\r\nb: c"}, 400),
        ):
            body = {"templateID": template, "network": network, "timeout": 60}
            found, said = caller.ask("POST", "/v2/sandboxes", body)
            assert found == status, (template, network, said)
            if found != 201:
                continue
            path = f"/sandboxes/{said['sandboxID']}"
            reaches = template == "some" and "allowOut" in network
            assert caller.ask("GET", path)[1]["allowInternetAccess"] is reaches
            denied = caller.ask("PUT", f"{path}/network", {"denyOut": everything})[0]
            assert denied == (501 if reaches else 204)
            assert caller.ask("PUT", f"{path}/network", {})[0] == 501
            assert caller.ask("DELETE", path)[0] == 204
