"""Callers that send anything at all: no 500, no hang, nothing that grows. Callers that go away."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.server.serving import Caller, Made, Served, made_key, serving, start

pytest.importorskip("starlette", reason="stockade-server is not installed (tox -e server)")
pytest.importorskip("uvicorn", reason="stockade-server is not installed (tox -e server)")

pytestmark = pytest.mark.usefixtures("local")

_IDLE = 2  #: seconds, in the server's file
_GROWTH = 48  #: MiB that a server may take on over all of a test's requests

fuzzed = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@attrs.frozen
class Target:
    served: Served
    made: Made

    def figures(self) -> tuple[float, int]:
        """MiB, and descriptors."""
        process = Path(f"/proc/{self.served.process.pid}")
        line = next(x for x in (process / "status").read_text().splitlines() if "VmRSS" in x)
        return int(line.split()[1]) / 1024, len(list((process / "fd").iterdir()))

    @contextlib.contextmanager
    def unharmed(self) -> Iterator[None]:
        """It goes on as before, with no more memory or descriptors."""
        memory, descriptors = self.figures()
        yield
        until = time.monotonic() + 6 * _IDLE
        while self.figures()[1] > descriptors + 5:
            assert time.monotonic() < until, self.figures()
            time.sleep(0.2)
        assert self.figures()[0] < memory + _GROWTH
        self.made.rpc("filesystem.Filesystem/MakeDir", {"path": "whole"})
        assert self.made.rpc("filesystem.Filesystem/Stat", {"path": "whole"})[0] == 200


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    file = tmp_path_factory.mktemp("hostile") / "stockade.toml"
    file.write_text(
        f"[serve]\nidle_seconds = {_IDLE}\nmax_body_bytes = 100000\nmax_upload_bytes = 1000000\n"
        'max_commands = 8\n[serve.templates.base]\nprovider = "local?lifetime_seconds=1200"\n'
    )
    file.chmod(0o600)
    key = made_key(file, "one")
    with serving("--config", str(file), key=key) as served:
        caller = Caller(served.url, key)
        status, found = caller.ask("POST", "/v2/sandboxes", {"templateID": "base", "timeout": 1000})
        assert status == 201, found
        yield Target(served, Made(caller, found["sandboxID"], found["envdAccessToken"]))


# -- JSON ------------------------------------------------------------------------------

_KEYS = st.sampled_from(
    [
        "process",
        "pid",
        "tag",
        "input",
        "stdin",
        "pty",
        "size",
        "rows",
        "cols",
        "signal",
        "cmd",
        "args",
        "envs",
        "cwd",
        "path",
        "source",
        "destination",
        "depth",
        "recursive",
        "watcherId",
        "templateID",
        "timeout",
        "metadata",
        "envVars",
        "network",
        "allowOut",
        "denyOut",
        "autoPause",
        "code",
        "context_id",
        "language",
        "env_vars",
        "start",
        "data",
        "name",
        "count",
    ]
)
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["SIGNAL_SIGKILL", "/", "..", "a\0b", "\ud800", "x" * 5000, "AAAA", 1 << 70]),
)
_JSON = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(_KEYS | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=12,
)
_OBJECTS = st.dictionaries(_KEYS, _JSON, max_size=6)
_PROCESS = ("List", "SendInput", "CloseStdin", "SendSignal", "Update")
_FILES = ("Stat", "ListDir", "MakeDir", "Move", "CreateWatcher", "GetWatcherEvents")
_CALLS = st.sampled_from(
    [f"process.Process/{name}" for name in _PROCESS]
    + [f"filesystem.Filesystem/{name}" for name in (*_FILES, "RemoveWatcher")]
)


def fine(status: int) -> bool:
    """Whatever was wrong, the server knew what."""
    return status < 500 or status in (501, 502, 504, 507)


@fuzzed
@given(name=_CALLS, body=_OBJECTS)
def test_calls_of_anything(target: Target, name: str, body: dict[str, Any]) -> None:
    status, said = target.made.rpc(name, json.dumps(body).encode())
    assert fine(status), (status, said)


@fuzzed
@given(
    path=st.sampled_from(
        [
            *("/v2/sandboxes", "/contexts", "/execute", "/sandboxes/{}/timeout"),
            *("/sandboxes/{}/network", "/sandboxes/{}/snapshots", "/sandboxes/{}/refreshes"),
            "/sandboxes/nowhere/connect",
        ]
    ),
    method=st.sampled_from(["POST", "PUT"]),
    body=_OBJECTS,
)
def test_the_control_api_of_anything(
    target: Target, path: str, method: str, body: dict[str, Any]
) -> None:
    body.pop("timeout", None)  # which would end the sandbox of these tests
    if body.get("templateID") == "base" or path.endswith("snapshots"):
        body["templateID"], body["name"] = "none", 1
    asked = path.format(target.made.sandbox_id)
    data = json.dumps(body).encode()
    status, said = target.made.caller.ask(method, asked, data, **target.made.headers)
    assert fine(status), (status, said)


@fuzzed
@given(
    path=st.sampled_from(["/v2/sandboxes", "/files", "/snapshots", "/sandboxes/{}/logs"]),
    query=st.dictionaries(
        st.sampled_from(
            [
                "state",
                "metadata",
                "limit",
                "nextToken",
                "order",
                "path",
                "username",
                "signature",
                "signature_expiration",
                "cursor",
                "start",
                "end",
                "direction",
                "sandboxID",
                "depth",
            ]
        ),
        st.one_of(st.text(max_size=30), st.integers().map(str), st.sampled_from(["v1_", "%", "/"])),
        max_size=5,
    ),
)
def test_queries_of_anything(target: Target, path: str, query: dict[str, str]) -> None:
    words = "&".join(
        f"{name}={quote(value.encode('utf-8', 'surrogatepass'))}" for name, value in query.items()
    )
    asked = f"{path.format(target.made.sandbox_id)}?{words}"
    status, said = target.made.caller.ask("GET", asked, **target.made.headers)
    assert fine(status), (status, said)


# -- frames and forms --------------------------------------------------------------------

_FRAME = st.builds(
    lambda flags, message, lie: (
        struct.pack(">BI", flags, min(max(0, len(message) + lie), 2**32 - 1)) + message
    ),
    st.sampled_from([0, 0, 0, 1, 2, 3, 255]),
    st.one_of(st.binary(max_size=30), _OBJECTS.map(lambda one: json.dumps(one).encode())),
    st.sampled_from([0, 0, 0, 0, 1, -1, 2**31, 2**32]),
)


@fuzzed
@given(
    name=st.sampled_from(["process.Process/StreamInput", "process.Process/Connect"])
    | st.sampled_from(["filesystem.Filesystem/WatchDir"]),
    frames=st.lists(_FRAME, max_size=4),
)
def test_streams_of_anything(target: Target, name: str, frames: list[bytes]) -> None:
    data = b"".join(frames)
    # What is a request after all is left again, by its deadline.
    status, said = target.made.stream(name, data, connect_timeout_ms="300")
    assert fine(status), (status, said)


_PART = st.sampled_from(
    [
        b"--b",
        b"--b--",
        b"\r\n",
        b"\n",
        b"content-disposition: form-data; name=file; filename=x",
        b"content-disposition: form-data; name=file; filename*=utf-8''%ff%00",
        b'content-disposition: form-data; name="file"; filename="../../x"',
        b"content-disposition: form-data; name=other",
        b"content-transfer-encoding: base64",
        b"x: " + b"y" * 9000,
        b": ",
        b"\0\xff",
        b"text",
    ]
)


@fuzzed
@given(parts=st.lists(_PART | st.binary(max_size=10), max_size=12))
def test_forms_of_anything(target: Target, parts: list[bytes]) -> None:
    form = {"content_type": "multipart/form-data; boundary=b", **target.made.headers}
    body = b"".join(parts)
    status, said = target.made.caller.ask("POST", "/files?path=form", body, **form)
    assert fine(status), (status, said)


def test_a_form_of_many_parts_is_bounded(target: Target) -> None:
    form = {"content_type": "multipart/form-data; boundary=b", **target.made.headers}
    part = b"--b\r\ncontent-disposition: form-data; name=f%d\r\n\r\n\r\n"
    with target.unharmed():
        body = b"".join(part % n for n in range(15_000)) + b"--b--\r\n"
        assert 400 <= target.made.caller.ask("POST", "/files?path=x", body, **form)[0] < 500
        head = b"--b\r\n" + b"x-h: y\r\n" * 100_000
        assert 400 <= target.made.caller.ask("POST", "/files?path=x", head, **form)[0] < 500


# -- bytes -------------------------------------------------------------------------------


def place(target: Target) -> tuple[str, int]:
    url = urlsplit(target.served.url)
    return url.hostname or "", url.port or 0


_LINES = st.sampled_from(
    [
        b"GET / HTTP/1.1",
        b"POST /files?path=x HTTP/1.1",
        b"POST /process.Process/List HTTP/1.1",
        b"GET /\x00 HTTP/9.9",
        b"GET http://x:99999/ HTTP/1.1",
        b"CONNECT x:1 HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"host: x",
        b"host: 8000-ses-\xff.localhost",
        b"host: [::1",
        b"content-length: 5",
        b"content-length: -1",
        b"content-length: 99999999999999999999",
        b"transfer-encoding: chunked",
        b"transfer-encoding: gzip, chunked",
        b"expect: 100-continue",
        b"connection: upgrade",
        b"upgrade: websocket",
        b"sec-websocket-key: x",
        b"authorization: Basic \xff\xff",
        b"x" * 2000,
        b"",
        b"5",
        b"ffffffffffffffff",
        b"hello",
    ]
)


@fuzzed
@given(lines=st.lists(_LINES | st.binary(max_size=20), max_size=10))
def test_bytes_of_anything_are_answered_or_left(target: Target, lines: list[bytes]) -> None:
    with socket.create_connection(place(target), timeout=20) as connection:
        with contextlib.suppress(ConnectionError):  # it may leave before it has all
            connection.sendall(b"\r\n".join([*lines, b"", b""]))
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):  # TimeoutError: it hangs
                answer += piece
        assert b" 500 " not in answer.split(b"\r\n")[0], answer


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
        time.sleep(_IDLE)
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
