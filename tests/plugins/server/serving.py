"""`stockade serve` as a user starts it, and calls that no SDK corrects."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs

__all__ = [
    "PORT_PROGRAM",
    "Caller",
    "Made",
    "Served",
    "at_host",
    "create",
    "events",
    "frame",
    "made_key",
    "serving",
    "start",
]

#: Says at port 8000 which path it was asked for; the smallest image's Python has no http.server.
PORT_PROGRAM = r"""
import socket
listening = socket.create_server(("127.0.0.1", 8000))
while True:
    connection, _ = listening.accept()
    body = b"from inside: " + connection.recv(65536).split()[1]
    head = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
    connection.sendall(head % len(body) + body)
    connection.close()
"""


@attrs.frozen
class Served:
    """A server that runs, and how it is reached."""

    url: str
    key: str
    process: subprocess.Popen[str]


@contextlib.contextmanager
def serving(*arguments: str, key: str | None = None) -> Iterator[Served]:
    """One at a port of its own, ended by SIGTERM; ``key`` is one that it does not print."""
    command = [sys.executable, "-m", "stockade.cli", "serve", "--port", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    last = "E2B_API_KEY" if key is None else "E2B_SANDBOX_URL"
    said: dict[str, str] = {}
    assert process.stdout is not None
    try:
        for line in process.stdout:
            name, _, value = line.strip().partition("=")
            said[name] = value
            if name == last:
                break
        assert last in said, f"the server ended with {process.wait(10)}"
        yield Served(said["E2B_API_URL"], said.get("E2B_API_KEY", key or ""), process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            process.stdout.close()


@attrs.frozen
class Caller:
    """Plain HTTP, with no SDK that would correct what is sent."""

    url: str
    key: str

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """Status and body; a dictionary is sent as JSON. ``_`` in a header's name is ``-``."""
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        sent = {"x-api-key": self.key} | {k.replace("_", "-"): v for k, v in headers.items()}
        connection = self.connection()
        try:
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        try:
            return answer.status, json.loads(content)
        except ValueError:
            return answer.status, content


@attrs.frozen
class Made:
    """A sandbox, by what its creator was handed."""

    caller: Caller
    sandbox_id: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"e2b_sandbox_id": self.sandbox_id, "x_access_token": self.token}

    def rpc(self, name: str, body: object, **headers: str) -> tuple[int, Any]:
        sent = {"content_type": "application/json", **self.headers, **headers}
        return self.caller.ask("POST", f"/{name}", body, **sent)

    def stream(self, name: str, data: bytes, **headers: str) -> tuple[int, Any]:
        sent = {"content_type": "application/connect+json", **self.headers, **headers}
        return self.caller.ask("POST", f"/{name}", data, **sent)

    def begin(self, *argv: str) -> None:
        """Start a command that runs on: its stream is left."""
        config = {"cmd": argv[0], "args": list(argv[1:])}
        headers = {name.replace("_", "-"): value for name, value in self.headers.items()}
        headers["content-type"] = "application/connect+json"
        data = frame({"process": config, "stdin": False})
        connection = self.caller.connection()
        try:
            connection.request("POST", "/process.Process/Start", data, headers)
            assert connection.getresponse().read(5)
        finally:
            connection.close()


def create(caller: Caller, **body: Any) -> Made:
    """A sandbox of the template base, unless the body names another."""
    status, found = caller.ask("POST", "/v2/sandboxes", {"templateID": "base", **body})
    assert status == 201, found
    return Made(caller, found["sandboxID"], found["envdAccessToken"])


def at_host(host: str, path: str = "/asked") -> tuple[int, bytes]:
    """What answers by a name that ``get_host`` said, which leads to this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", int(host.rpartition(":")[2]), timeout=30)
    try:
        connection.request("GET", path, headers={"host": host})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def made_key(file: Path, name: str) -> str:
    command = [sys.executable, "-m", "stockade.cli", "serve", "key", "add", name]
    done = subprocess.run(
        [*command, "--config", str(file)], capture_output=True, text=True, check=True
    )
    key = done.stdout.strip()
    assert key not in file.read_text()
    return key


def frame(message: object) -> bytes:
    data = json.dumps(message).encode()
    return struct.pack(">BI", 0, len(data)) + data


def events(body: bytes) -> list[Any]:
    found = []
    while body:
        _, length = struct.unpack_from(">BI", body)
        found.append(json.loads(body[5 : 5 + length]))
        body = body[5 + length :]
    return found


def start(line: str) -> bytes:
    config = {"cmd": "/bin/sh", "args": ["-c", line]}
    return frame({"process": config, "stdin": False})
