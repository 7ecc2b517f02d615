"""Callers that send anything at all: no 500, no hang, nothing that grows."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.server.targets import Target, place, target

__all__ = ["target"]

pytest.importorskip("starlette", reason="stockade-server is not installed (tox -e server)")
pytest.importorskip("uvicorn", reason="stockade-server is not installed (tox -e server)")

pytestmark = pytest.mark.usefixtures("local")


fuzzed = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


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
