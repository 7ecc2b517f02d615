"""What flows through a sandbox's port: WebSockets, and answers that come piece by piece."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from plugins.server.inside import STREAMING
from plugins.server.serving import Caller, Made, create, made_key, serving

pytest.importorskip("starlette", reason="stockade-server is not installed (tox -e server)")
pytest.importorskip("uvicorn", reason="stockade-server is not installed (tox -e server)")
pytest.importorskip("websockets", reason="stockade-server is not installed (tox -e server)")

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

pytestmark = pytest.mark.usefixtures("local")

_IDLE = 3  #: seconds, in the server's file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def made(folder: Path) -> Iterator[Made]:
    file, log = folder / "stockade.toml", folder / "access.log"
    file.write_text(
        f'[serve]\nidle_seconds = {_IDLE}\naccess_log = "{log}"\nmax_body_bytes = 1048576\n'
        '[serve.templates.base]\nprovider = "local?ports=8000,8001&lifetime_seconds=600"\n'
    )
    file.chmod(0o600)
    key = made_key(file, "one")
    with serving("--config", str(file), key=key) as served:
        found = create(Caller(served.url, key), timeout=500)
        begin(found)
        yield found


def begin(made: Made) -> None:
    made.begin("python3", "-c", STREAMING)
    until = time.monotonic() + 30
    while at_port(made, "/count")[0] == 502:
        assert time.monotonic() < until
        time.sleep(0.1)


def to(made: Made, port: int = 8000) -> dict[str, str]:
    return {"e2b-sandbox-id": made.sandbox_id, "e2b-sandbox-port": str(port)}


def at_port(made: Made, path: str) -> tuple[int, Any]:
    return Caller(made.caller.url, "").ask("GET", path, None, **to(made))


def opened(made: Made, path: str, port: int = 8000, **more: Any) -> ClientConnection:
    place = urlsplit(made.caller.url).netloc
    headers = to(made, port)
    found: ClientConnection = connect(
        f"ws://{place}{path}", additional_headers=headers, proxy=None, **more
    )
    return found


# -- WebSockets ----------------------------------------------------------------------


def test_messages_go_both_ways_as_they_are(made: Made) -> None:
    protocols = [Subprotocol("one"), Subprotocol("two")]
    own = {"x-own": "kept", "x-access-token": made.token, "origin": "https://example.org"}
    place = urlsplit(made.caller.url).netloc
    url = f"ws://{place}/echo?a=%20b"
    with connect(
        url, additional_headers={**to(made), **own}, subprotocols=protocols, proxy=None
    ) as socket_:
        said = json.loads(socket_.recv(10))
        assert said["path"] == "/echo?a=%20b"
        assert said["headers"]["host"] == place and said["headers"]["x-own"] == "kept"
        assert said["headers"]["origin"] == "https://example.org"
        assert not {"x-access-token", "e2b-sandbox-id", "e2b-sandbox-port"} & set(said["headers"])
        assert socket_.subprotocol == "one"
        for message in ("", "ü" * 1000, b"", bytes(range(256)) * 1000):
            socket_.send(message)
            assert socket_.recv(10) == message
        socket_.close(4999, "done")
    assert int(at_port(made, "/count")[1]) == 4999


def test_a_socket_is_reached_by_its_host(made: Made) -> None:
    port = urlsplit(made.caller.url).port
    host = f"8000-{made.sandbox_id}.localhost:{port}"
    raw = socket.create_connection(("127.0.0.1", port or 0))
    with connect(f"ws://{host}/echo", sock=raw, proxy=None) as socket_:
        assert json.loads(socket_.recv(10))["headers"]["host"] == host


def test_the_programs_end_is_the_callers(made: Made) -> None:
    with opened(made, "/close") as socket_:
        with pytest.raises(ConnectionClosed) as ended:
            socket_.recv(10)
        assert ended.value.rcvd is not None
        assert (ended.value.rcvd.code, ended.value.rcvd.reason) == (4321, "enough")
    with opened(made, "/bad") as socket_:
        with pytest.raises(ConnectionClosed):
            socket_.recv(10)
    assert at_port(made, "/count")[0] == 200


def test_what_is_no_socket_is_refused_with_the_reason(made: Made) -> None:
    private = create(made.caller, network={"allowPublicTraffic": False})
    for one, path, port, status in (
        (made, "/count", 8000, 502),
        (made, "/echo", 8001, 502),
        (made, "/echo", 70000, 400),
        (private, "/echo", 8000, 403),
    ):
        with pytest.raises(InvalidStatus) as refused:
            opened(one, path, port)
        assert refused.value.response.status_code == status
        assert json.loads(refused.value.response.body or b"")["code"] == status
    kill(private)
    with pytest.raises(InvalidStatus):  # no sandbox: nothing of the server's own is one
        connect(f"ws://{urlsplit(made.caller.url).netloc}/ui", proxy=None)


def test_sockets_are_logged_and_counted(made: Made, folder: Path) -> None:
    with opened(made, "/echo") as socket_:
        socket_.recv(10)
    with pytest.raises(InvalidStatus):
        opened(made, "/echo?secret", 70000)
    until, log = time.monotonic() + 10, folder / "access.log"
    while True:
        records = [json.loads(line) for line in log.read_text().splitlines()]
        sockets = [one for one in records if one["method"] == "WEBSOCKET"]
        if {("port 8000", 101), ("port 70000", 400)} <= {(o["path"], o["status"]) for o in sockets}:
            break
        assert time.monotonic() < until
        time.sleep(0.05)
    assert "secret" not in log.read_text()
    text = made.caller.ask("GET", "/metrics")[1].decode()
    assert 'stockade_server_requests_total{kind="port",status="101"}' in text


def test_a_program_sends_the_server_nowhere(made: Made) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.settimeout(1)
        for scheme in ("ws", "http"):
            place = quote(f"{scheme}://127.0.0.1:{elsewhere.getsockname()[1]}/", safe=":/")
            with pytest.raises(InvalidStatus) as refused:
                opened(made, f"/away:{place}")
            assert refused.value.response.status_code == 502
        with pytest.raises(TimeoutError):
            elsewhere.accept()


def test_a_caller_who_does_not_read_holds_the_program_back_and_is_left(made: Made) -> None:
    """By hand: the library would read ahead."""
    place = urlsplit(made.caller.url)
    with socket.create_connection((place.hostname or "", place.port or 0)) as raw:
        key = base64.b64encode(b"0" * 16).decode()
        head = {"host": place.netloc, "upgrade": "websocket", "connection": "Upgrade", **to(made)}
        head |= {"sec-websocket-key": key, "sec-websocket-version": "13"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        raw.sendall(f"GET /flood HTTP/1.1\r\n{lines}\r\n".encode())
        assert raw.recv(12) == b"HTTP/1.1 101"
        held(made)


def held(made: Made) -> None:
    """The program stands still at first; and ends when the caller has read nothing for long."""
    most, until = 0, time.monotonic() + _IDLE + 25
    while (now := int(at_port(made, "/count")[1])) != -1:
        assert time.monotonic() < until, now
        most = max(most, now)
        time.sleep(0.1)
    assert most < 64 << 20  # what sockets hold, and not what comes


def test_a_program_that_does_not_read_holds_the_caller_back_and_is_left(made: Made) -> None:
    with opened(made, "/stuck", close_timeout=1) as socket_:
        sent, until = 0, time.monotonic() + _IDLE + 25
        with pytest.raises(ConnectionClosed):
            while True:
                assert time.monotonic() < until and sent < 256 << 20
                socket_.send(b"x" * 500_000)
                sent += 500_000


def test_a_message_that_is_too_long_ends_the_socket(made: Made) -> None:
    with opened(made, "/echo", max_size=None) as socket_:
        socket_.recv(10)
        with pytest.raises(ConnectionClosed) as ended:
            socket_.send(b"x" * (2 << 20))
            socket_.recv(10)
        assert ended.value.rcvd is not None and ended.value.rcvd.code == 1009


def test_a_socket_ends_with_its_sandbox(made: Made) -> None:
    other = create(made.caller)
    begin(other)
    with opened(other, "/echo") as socket_:
        socket_.recv(10)
        killing = threading.Thread(target=kill, args=(other,))
        killing.start()
        with pytest.raises(ConnectionClosed):
            socket_.recv(20)
        killing.join(30)


def kill(made: Made) -> None:
    assert made.caller.ask("DELETE", f"/sandboxes/{made.sandbox_id}")[0] == 204


# -- streams of HTTP -------------------------------------------------------------------


def test_events_come_as_they_are_made(made: Made) -> None:
    connection = made.caller.connection()
    try:
        connection.request("GET", "/events", headers=to(made))
        answer = connection.getresponse()
        assert answer.getheader("content-type") == "text/event-stream"
        assert answer.readline() + answer.readline() == b"data: first\n\n"
        time.sleep(_IDLE + 1)  # a stream that is quiet is not left
        assert at_port(made, "/proceed")[0] == 204
        assert answer.read() == b"data: second\n\n"
    finally:
        connection.close()


def test_an_answer_that_nobody_reads_holds_the_program_back_and_is_left(made: Made) -> None:
    connection = made.caller.connection()
    try:
        connection.request("GET", "/endless", headers=to(made))
        answer = connection.getresponse()
        assert answer.read(10) == b"x" * 10
        held(made)
    finally:
        connection.close()


def test_the_program_is_left_when_its_caller_goes(made: Made) -> None:
    connection = made.caller.connection()
    connection.request("GET", "/endless", headers=to(made))
    assert connection.getresponse().read(10) == b"x" * 10
    connection.close()
    until = time.monotonic() + 20
    while int(at_port(made, "/count")[1]) != -1:
        assert time.monotonic() < until
        time.sleep(0.1)
