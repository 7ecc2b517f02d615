"""Connections that say nothing, and callers that go away: the server holds nothing of them."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest

from plugins.server.serving import Made, start
from plugins.server.targets import IDLE_SECONDS, Target, place, target

__all__ = ["target"]

pytest.importorskip("starlette", reason="stockade-server is not installed (tox -e server)")
pytest.importorskip("uvicorn", reason="stockade-server is not installed (tox -e server)")

pytestmark = pytest.mark.usefixtures("local")


def test_heads_without_an_end_take_no_memory(target: Target) -> None:
    line = b"x: " + b"y" * 65_536 + b"\r\n"
    with target.unharmed():
        for _ in range(5):
            with socket.create_connection(place(target), timeout=20) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\n")
                with pytest.raises(ConnectionError):  # what it has is in the system's buffers
                    for _ in range(1000):
                        connection.sendall(line)


def test_many_connections_that_say_nothing_hold_up_nobody(target: Target) -> None:
    with target.unharmed(), contextlib.ExitStack() as stack:
        for n in range(300):
            connection = socket.create_connection(place(target), timeout=20)
            stack.enter_context(connection)
            if n % 2:
                connection.sendall(b"POST /v2/sandboxes HTTP/1.1\r\nhost: x\r\ncontent-le")
        assert target.made.caller.ask("GET", "/v2/sandboxes")[0] == 200


def test_connections_that_say_nothing_are_not_kept_for_others(target: Target) -> None:
    """Anybody can make them, and a server has so many."""
    most = 500
    with target.unharmed(), contextlib.ExitStack() as stack:
        opened = []
        for n in range(most + 60):
            opened.append(socket.create_connection(place(target), timeout=20))
            stack.enter_context(opened[-1])
            if n % 2:
                opened[-1].sendall(b"GET / HTTP/1.1\r\nhost: x\r\n")
        assert target.made.caller.ask("GET", "/v2/sandboxes")[0] == 200
        with contextlib.suppress(ConnectionResetError):
            assert opened[0].recv(1) == b""  # TimeoutError: it is kept
        opened[-2].sendall(b"GET /ready HTTP/1.1\r\nhost: x\r\n\r\n")
        assert opened[-2].recv(12) == b"HTTP/1.1 204"


# -- callers that go away ------------------------------------------------------------------


def asked(made: Made, method: str, path: str, body: bytes, length: int, **headers: str) -> bytes:
    sent = {"host": "x", "x_api_key": made.caller.key, "content_length": str(length), **headers}
    lines = [f"{method} {path} HTTP/1.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in sent.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def test_a_sandbox_that_nobody_waits_for_any_more_is_ended(target: Target) -> None:
    made, body = target.made, b'{"templateID": "base"}'
    with target.unharmed():
        for pause in (0.0, 0.0, 0.01):  # less than any sandbox takes
            with socket.create_connection(place(target)) as connection:
                connection.sendall(asked(made, "POST", "/v2/sandboxes", body, len(body)))
                time.sleep(pause)
        until = time.monotonic() + 20
        while len(made.caller.ask("GET", "/v2/sandboxes")[1]) > 1:
            assert time.monotonic() < until
            time.sleep(0.1)


def test_a_file_that_was_sent_by_half_is_not_there(target: Target) -> None:
    made = target.made
    octets = {"content_type": "application/octet-stream", **made.headers}
    with target.unharmed():
        for _ in range(5):
            with socket.create_connection(place(target)) as connection:
                head = asked(made, "POST", "/files?path=half", b"x" * 50_000, 100_000, **octets)
                connection.sendall(head)
                time.sleep(0.1)
        time.sleep(IDLE_SECONDS)
        assert made.rpc("filesystem.Filesystem/Stat", {"path": "half"})[0] == 404
        listed = made.rpc("filesystem.Filesystem/ListDir", {"path": ".", "depth": 1})[1]
        assert not [one for one in listed.get("entries", []) if "half" in one["name"]]


def test_a_file_that_nobody_takes_any_more_is_not_read_on(target: Target) -> None:
    made = target.made
    made.stream("process.Process/Start", start("head -c 100000000 /dev/zero > big"))
    with target.unharmed():
        for _ in range(10):
            with socket.create_connection(place(target)) as connection:
                connection.sendall(asked(made, "GET", "/files?path=big", b"", 0, **made.headers))
                assert connection.recv(1000)
