"""How long a connection is held on which nothing is answered, and for whom."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

uvicorn = pytest.importorskip("uvicorn", reason="stockade-server is not installed (tox -e server)")

_SECONDS = 1.0
_MOST = 4
_BIG = 64 << 20


async def app(scope: Any, receive: Any, send: Any) -> None:
    """/big is more than the buffers of a connection hold; /slow takes longer than one may wait."""
    assert scope["type"] == "http", "what lasts as long as the server is off"
    if scope["path"] == "/slow":
        await asyncio.sleep(2 * _SECONDS)
    body = b"x" * (_BIG if scope["path"] == "/big" else 2)
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    from stockade_server.connections import bounded

    config = uvicorn.Config(
        app,
        port=0,
        http=bounded(_MOST, _SECONDS),
        lifespan="off",
        log_config=None,
        access_log=False,
    )
    found = uvicorn.Server(config)
    thread = threading.Thread(target=found.run)
    thread.start()
    until = time.monotonic() + 20
    while not found.started:
        assert time.monotonic() < until
        time.sleep(0.05)
    yield found
    found.should_exit = True
    thread.join(20)


@pytest.fixture
def connect(server: Any) -> Iterator[Any]:
    place = server.servers[0].sockets[0].getsockname()
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(socket.create_connection(place, timeout=20))


def ends_within(connection: socket.socket, seconds: float) -> bool:
    """Whether the server leaves, with no answer."""
    connection.settimeout(seconds)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def ask(connection: socket.socket, path: str, *more: str) -> None:
    connection.sendall("\r\n".join([f"GET {path} HTTP/1.1", "host: x", *more, "", ""]).encode())


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nhost: x\r\n"])
def test_one_that_says_no_whole_head_is_left(connect: Any, said: bytes) -> None:
    connection = connect()
    connection.sendall(said)
    assert ends_within(connection, 5 * _SECONDS)


def test_a_head_that_comes_by_the_byte_gets_no_more_time(connect: Any) -> None:
    connection, begun = connect(), time.monotonic()
    with contextlib.suppress(ConnectionError):
        for _ in range(100):
            connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n" if _ == 0 else b"x: y\r\n")
            time.sleep(0.1)
    assert time.monotonic() - begun < 5 * _SECONDS


def test_one_that_is_used_goes_on_and_one_that_is_answered_is_not_left(connect: Any) -> None:
    connection, begun = connect(), time.monotonic()
    for path in ("/", "/slow", "/"):
        ask(connection, path)
        answer = b""
        while not answer.endswith(b"xx"):
            answer += connection.recv(4096)
    assert time.monotonic() - begun > _SECONDS
    assert ends_within(connection, 5 * _SECONDS)


@pytest.mark.parametrize("more", ["x: y", "connection: close"])
def test_an_answer_that_nobody_reads_is_not_kept(server: Any, connect: Any, more: str) -> None:
    connection = connect()
    ask(connection, "/big", more)
    until = time.monotonic() + 20
    while not server.server_state.connections:
        assert time.monotonic() < until
        time.sleep(0.01)
    while server.server_state.connections:
        assert time.monotonic() < until, "it is held"
        time.sleep(0.05)


def test_where_more_wait_than_may_the_longest_is_left(connect: Any) -> None:
    opened = [connect() for _ in range(_MOST)]
    time.sleep(0.2)
    answered = connect()
    assert ends_within(opened[0], 0.5)
    ask(answered, "/")
    assert answered.recv(12) == b"HTTP/1.1 200"
    assert not ends_within(opened[1], 0.1)
