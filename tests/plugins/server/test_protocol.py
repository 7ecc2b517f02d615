"""What a hostile or mistaken caller sends, and what no caller may have."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from plugins.server.serving import Caller, Made, events, frame, made_key, serving, start
from stockade.files import FileEvent

pytest.importorskip("starlette", reason="stockade-server is not installed (tox -e server)")
pytest.importorskip("uvicorn", reason="stockade-server is not installed (tox -e server)")

from stockade_server.errors import Refused
from stockade_server.filesystem import Filesystem

pytestmark = pytest.mark.usefixtures("local")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Caller]]:
    """A server of a file with two keys, by the names of their owners."""
    file = tmp_path_factory.mktemp("server") / "stockade.toml"
    file.write_text(
        "[serve]\nmax_sandboxes = 3\nmax_body_bytes = 100000\nmax_upload_bytes = 1000000\n"
        "idle_seconds = 2\nmax_commands = 4\n"
        '[serve.templates.base]\nprovider = "local?lifetime_seconds=600"\n'
        'env = { FROM = "template" }\n'
    )
    file.chmod(0o600)
    keys = {name: made_key(file, name) for name in ("one", "two")}
    with serving("--config", str(file), key="") as served:
        yield {name: Caller(served.url, key) for name, key in keys.items()}


@pytest.fixture
def made(server: dict[str, Caller]) -> Iterator[Made]:
    caller = server["one"]
    status, body = caller.ask("POST", "/v2/sandboxes", {"templateID": "base", "timeout": 60})
    assert status == 201, body
    yield Made(caller, body["sandboxID"], body["envdAccessToken"])
    assert caller.ask("DELETE", f"/sandboxes/{body['sandboxID']}")[0] == 204


# -- who may call ------------------------------------------------------------------


def test_without_a_key_nothing_is_answered(server: dict[str, Caller], made: Made) -> None:
    for key in ("", "e2b_" + "0" * 64, server["one"].key + "x", "é"):
        other = attrs.evolve(server["one"], key=key.encode("utf-8").decode("latin-1"))
        for method, path in (
            ("GET", "/v2/sandboxes"),
            ("POST", "/v2/sandboxes"),
            ("GET", f"/sandboxes/{made.sandbox_id}"),
            ("DELETE", f"/sandboxes/{made.sandbox_id}"),
            ("POST", f"/v2/sandboxes/{made.sandbox_id}/connect"),
        ):
            assert other.ask(method, path, {} if method == "POST" else None)[0] == 401


def test_another_owners_sandbox_is_as_unknown_as_none(
    server: dict[str, Caller], made: Made
) -> None:
    two, path = server["two"], f"/sandboxes/{made.sandbox_id}"
    for method, target in (
        ("GET", path),
        ("DELETE", path),
        ("POST", f"{path}/timeout"),
        ("POST", f"{path}/pause"),
        ("POST", f"/v2{path}/connect"),
    ):
        status, body = two.ask(method, target, {"timeout": 5} if method == "POST" else None)
        assert status == 404 and made.sandbox_id in body["message"]
    assert two.ask("GET", "/v2/sandboxes") == (200, [])
    assert server["one"].ask("GET", path)[0] == 200


def test_only_the_sandboxs_own_token_opens_it(server: dict[str, Caller], made: Made) -> None:
    for token in ("", "0" * 64, made.caller.key):
        stranger = attrs.evolve(made, token=token)
        assert stranger.rpc("process.Process/List", {})[0] == 401
        assert stranger.stream("process.Process/Start", start("true"))[0] == 401
        for method, path in (("GET", "/files?path=/etc/passwd"), ("POST", "/files?path=x")):
            assert made.caller.ask(method, path, b"", **stranger.headers)[0] == 401
        assert made.caller.ask("POST", "/execute", {"code": "1"}, **stranger.headers)[0] == 401
    assert made.rpc("process.Process/List", {}) == (200, {"processes": []})


def test_a_caller_lowers_limits_and_never_raises_them(
    server: dict[str, Caller], made: Made
) -> None:
    one = server["one"]
    for body, status in (
        ({"templateID": "base", "timeout": 601}, 400),
        ({"templateID": "base", "network": {"allowOut": ["a.b"], "denyOut": ["::/0"]}}, 403),
        ({"templateID": "landlock?mounts=/:/host"}, 404),
        ({"templateID": "base", "volumeMounts": [{"name": "x", "path": "/x"}]}, 501),
        ({"templateID": "base", "autoPause": True, "autoPauseMemory": False}, 501),
        ({"templateID": "base", "network": {"rules": nested(600)}}, 501),
        ({"templateID": "base", "timeout": -1}, 400),
        ({"templateID": "base", "envVars": {"A=B": "x"}}, 400),
        ({"templateID": 5}, 400),
        ([], 400),
    ):
        found, said = one.ask("POST", "/v2/sandboxes", body)
        assert found == status and said["code"] == status, (body, said)
    assert [each["sandboxID"] for each in one.ask("GET", "/v2/sandboxes")[1]] == [made.sandbox_id]
    path = f"/sandboxes/{made.sandbox_id}/timeout"
    assert one.ask("POST", path, {"timeout": 601})[0] == 400
    assert one.ask("POST", path, {"timeout": 60})[0] == 204


def nested(depth: int) -> object:
    return True if depth == 0 else {"in": nested(depth - 1)}


def test_a_key_has_so_many_sandboxes_and_no_more(server: dict[str, Caller]) -> None:
    two = server["two"]
    made = [two.ask("POST", "/v2/sandboxes", {"templateID": "base"}) for _ in range(4)]
    assert [status for status, _ in made] == [201, 201, 201, 429]
    for _, body in made[:3]:
        assert two.ask("DELETE", f"/sandboxes/{body['sandboxID']}")[0] == 204
    assert two.ask("GET", "/v2/sandboxes") == (200, [])


# -- what is sent --------------------------------------------------------------------


def test_bodies_are_bounded(made: Made) -> None:
    assert made.rpc("process.Process/List", b"x" * 100_001)[0] == 413
    upload = {"content_type": "application/octet-stream", **made.headers}
    ask = made.caller.ask
    assert ask("POST", "/files?path=big", b"x" * 1_000_001, **upload)[0] == 413
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < 100_000
    packed = {**upload, "content_encoding": "gzip"}
    assert ask("POST", "/files?path=bomb", bomb, **packed)[0] == 413
    assert ask("POST", "/files?path=cut", gzip.compress(b"x" * 1000)[:-9], **packed)[0] == 400
    assert ask("POST", "/files?path=no", b"no gzip", **packed)[0] == 400
    assert ask("POST", "/files?path=more", gzip.compress(b"x") + b"more", **packed)[0] == 400


def test_a_body_that_does_not_come_is_not_waited_for(made: Made) -> None:
    connection = made.caller.connection()
    connection.putrequest("POST", "/process.Process/List")
    for name, value in made.headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.putheader("content-type", "application/json")
    connection.putheader("content-length", "10")
    connection.endheaders(b"{")
    begun = time.monotonic()
    assert connection.getresponse().status == 408
    assert 1.5 < time.monotonic() - begun < 20
    connection.close()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\0\0\0\0\5{}",
        b"\1\0\0\0\2{}",
        b"\0\xff\xff\xff\xff{}",
        b"\0\0\0\0\2[]",
        b"\0\0\0\0\2{{",
        frame({}) * 2,
        frame({"process": []}),
        frame({"process": {"cmd": "a\0b"}}),
        frame({"process": {"cmd": "x", "args": "y"}}),
        frame({"process": {"cmd": "x", "envs": {"A": 1}}}),
        frame({"process": {"cmd": "x", "envs": []}}),
        frame({"process": {"cmd": "x"}, "tag": "x" * 257}),
        frame({"process": {"cmd": "x"}, "pty": {"size": {"rows": "1"}}}),
        frame({"process": {"cmd": "x"}, "pty": {"size": {"rows": 10**9}}}),
    ],
)
def test_what_is_no_request_is_refused_and_the_server_goes_on(made: Made, data: bytes) -> None:
    status, body = made.stream("process.Process/Start", data)
    if status == 200:
        (end,) = events(body)
        assert end["error"]["code"] == "invalid_argument"
    else:
        assert status in (400, 413, 501)
    assert made.rpc("process.Process/List", {}) == (200, {"processes": []})


@pytest.mark.parametrize(
    "body",
    [
        *(b"[]", b"{", b"[" * 50_000, b'"x"', b"\xff", b'{"a": "\\ud800"}'),
        *(b'{"a": "\xed\xa0\x80"}', '{"a": 1}'.encode("utf-16")),
    ],
)
def test_what_is_no_json_is_refused(made: Made, body: bytes) -> None:
    for name in ("process.Process/SendInput", "filesystem.Filesystem/Stat"):
        assert made.rpc(name, body)[0] == 400
    assert made.caller.ask("POST", "/v2/sandboxes", body)[0] == 400


def test_templates_are_listed_with_what_they_give(server: dict[str, Caller]) -> None:
    caller = server["one"]
    status, (listed,) = caller.ask("GET", "/templates")
    assert status == 200 and listed["templateID"] == "base" and listed["names"] == ["base"]
    limits = {name: listed[name] for name in ("memoryMB", "cpuCount", "diskSizeMB", "maxProcesses")}
    assert limits == {"memoryMB": 512, "cpuCount": 1, "diskSizeMB": 256, "maxProcesses": 256}
    assert Caller(caller.url, "e2b_wrong").ask("GET", "/templates")[0] == 401


def test_protocols_that_are_not_spoken_and_paths_that_are_not_there(made: Made) -> None:
    ask, headers = made.caller.ask, made.headers
    assert made.rpc("process.Process/List", b"", content_type="application/proto")[0] == 415
    assert made.rpc("process.Process/Nothing", {})[0] == 501
    assert ask("GET", "/nothing", **headers)[0] == 404
    assert ask("POST", "/v3/templates", {})[0] == 501
    assert ask("POST", f"/sandboxes/{made.sandbox_id}/resume")[0] == 501
    assert ask("GET", "/files?path=x", **{**headers, "e2b_sandbox_port": "8080"})[0] == 502
    assert ask("GET", "/files?path=", **headers)[0] == 400
    assert ask("GET", "/files?path=%00", **headers)[0] == 400
    assert ask("GET", "/files?path=/tmp", **headers)[0] == 400
    assert ask("GET", "/v2/sandboxes?startedAfter=0001-01-01T00:00:00")[0] == 400
    assert ask("HEAD", "/contexts", **headers)[0] == 200
    assert ask("GET", "/contexts", **headers) == (200, [])
    assert ask("POST", "/contexts", {"cwd": "/x" * 3000}, **headers)[0] == 400
    gone = {**headers, "e2b_sandbox_id": "0" * 32}
    status, said = ask("GET", "/health", **gone)
    assert status == 502 and "was not found" in said["message"]


def test_code_that_is_no_request_is_refused_before_anything_comes(made: Made) -> None:
    for body in ({}, {"code": 1}, {"code": "1", "env_vars": ["A"]}, {"code": "1", "env_vars": 1}):
        assert made.caller.ask("POST", "/execute", body, **made.headers)[0] == 400
    # What the sandbox refuses is an error of the code's own.
    refused = {"code": "1", "env_vars": {"A=B": "x"}}
    status, lines = made.caller.ask("POST", "/execute", refused, **made.headers)
    first, last = (json.loads(line) for line in lines.splitlines())
    assert (status, first["name"], last["type"]) == (200, "ConfigError", "end_of_execution")


def test_so_many_folders_are_watched_and_no_more(made: Made) -> None:
    name = "filesystem.Filesystem/CreateWatcher"
    watchers = [made.rpc(name, {"path": "."})[1]["watcherId"] for _ in range(32)]
    assert made.rpc(name, {"path": "."})[0] == 429
    (end,) = events(made.stream("filesystem.Filesystem/WatchDir", frame({"path": "."}))[1])
    assert end["error"]["code"] == "resource_exhausted"
    assert made.rpc("filesystem.Filesystem/RemoveWatcher", {"watcherId": watchers[0]})[0] == 200
    assert made.rpc(name, {"path": "nowhere"})[0] == 404
    assert made.rpc(name, {"path": "."})[0] == 200


def test_a_change_that_comes_while_silence_is_reported_is_not_lost() -> None:
    late = [FileEvent("created", "/w/new")]

    class Watched:
        async def take(self, _: float) -> None: ...

        async def close(self) -> None: ...

        def poll(self) -> tuple[FileEvent | None, bool]:
            return (late.pop(), False) if late else (None, True)

    async def watch(*_: object, **__: object) -> Watched:
        return Watched()

    async def main() -> list[object]:
        session: Any = SimpleNamespace(files=SimpleNamespace(watch=watch))
        filesystem = Filesystem(session, "/w")
        came: list[object] = []
        with pytest.raises(Refused, match="not watched any more"):
            async for event in filesystem.watch_dir({"path": "."}, None, 1.0):
                came.append(event)
        return came

    change = {"name": "new", "type": "EVENT_TYPE_CREATE"}
    assert asyncio.run(main()) == [{"start": {}}, {"filesystem": change}]


def test_a_form_that_is_none_is_refused(made: Made) -> None:
    form = {"content_type": "multipart/form-data; boundary=b", **made.headers}
    for body in (b"", b"--b\r\n", b"--b--\r\n", b"--b\r\nx: y\r\n\r\nz\r\n--b--\r\n", b"\0" * 999):
        assert made.caller.ask("POST", "/files?path=x", body, **form)[0] == 400


def test_names_that_are_no_text_are_listed(made: Made) -> None:
    made.stream("process.Process/Start", start("mkdir odd; touch odd/$(printf 'a\\377b')"))
    status, body = made.rpc("filesystem.Filesystem/ListDir", {"path": "odd"})
    assert status == 200 and [one["name"] for one in body["entries"]] == ["a\ufffdb"]


# -- what runs -----------------------------------------------------------------------


def test_commands_are_bounded_in_number_and_end_at_their_deadlines(made: Made) -> None:
    begun = []
    for _ in range(4):
        connection = made.caller.connection()
        headers = {name.replace("_", "-"): value for name, value in made.headers.items()}
        headers |= {"content-type": "application/connect+json", "connect-timeout-ms": "3000"}
        connection.request("POST", "/process.Process/Start", start("sleep 100"), headers)
        begun.append((connection, connection.getresponse()))
        assert begun[-1][1].read(5)  # it has been started
    (end,) = events(made.stream("process.Process/Start", start("true"))[1])
    assert end["error"]["code"] == "resource_exhausted"
    for connection, answer in begun:
        rest = answer.read()
        assert b"deadline_exceeded" in rest
        connection.close()
    assert made.rpc("process.Process/List", {}) == (200, {"processes": []})


def test_a_reader_that_does_not_read_is_left_and_the_command_runs_on(made: Made) -> None:
    """Its output is held back meanwhile, so that the server's memory is bounded."""
    connection = made.caller.connection()
    headers = {name.replace("_", "-"): value for name, value in made.headers.items()}
    headers["content-type"] = "application/connect+json"
    line = "head -c 100000000 /dev/zero; echo done > finished; sleep 100"
    connection.request("POST", "/process.Process/Start", start(line), headers)
    connection.getresponse()
    until = time.monotonic() + 40
    while made.rpc("filesystem.Filesystem/Stat", {"path": "finished"})[0] != 200:
        assert time.monotonic() < until
        time.sleep(0.2)
    connection.close()


def test_variables_are_the_templates_and_the_callers(server: dict[str, Caller]) -> None:
    one = server["one"]
    body = {"templateID": "base", "envVars": {"OWN": "caller"}}
    status, found = one.ask("POST", "/v2/sandboxes", body)
    assert status == 201
    made = Made(one, found["sandboxID"], found["envdAccessToken"])
    answer = events(made.stream("process.Process/Start", start("echo $FROM $OWN"))[1])
    output = b"".join(
        base64.b64decode(one["event"]["data"]["stdout"])
        for one in answer
        if "data" in one.get("event", {})
    )
    assert output == b"template caller\n"
    assert one.ask("DELETE", f"/sandboxes/{made.sandbox_id}")[0] == 204
