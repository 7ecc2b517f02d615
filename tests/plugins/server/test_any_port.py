"""Ports that no template names: each is reached, unless it would be this machine's own."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from plugins.server.conftest import need
from plugins.server.inside import STREAMING
from plugins.server.serving import PORT_PROGRAM, Caller, Made, at_host, create, made_key, serving

pytest.importorskip("starlette", reason="stockade-server is not installed (tox -e server)")
pytest.importorskip("uvicorn", reason="stockade-server is not installed (tox -e server)")

pytestmark = pytest.mark.usefixtures("local")

_PORT = 8765
_CONFIG = """
[serve.templates.base]
provider = "local?lifetime_seconds=600"
[serve.templates.named]
provider = "local?ports=8000&lifetime_seconds=600"
open_ports = false
[serve.templates.shared]
provider = "local?network_enabled=true&lifetime_seconds=600"
[serve.templates.docker]
provider = "docker:stockade-test/python?pull=never&network_enabled=true&lifetime_seconds=600"
"""
#: Sends half an answer whose end its connection's end is, and waits.
_HALF = r"""
import socket, time
connection = socket.create_server(("127.0.0.1", 8765)).accept()[0]
connection.recv(65536)
connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nhalf")
time.sleep(600)
"""


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    file = tmp_path_factory.mktemp("server") / "stockade.toml"
    key = made_key(file, "one")
    file.write_text(file.read_text() + _CONFIG)
    with serving("--config", str(file), key=key) as served:
        yield Caller(served.url, key)


def at_port(made: Made, port: int | str, path: str = "/asked") -> tuple[int, object]:
    to = {"e2b_sandbox_id": made.sandbox_id, "e2b_sandbox_port": str(port)}
    return Caller(made.caller.url, "").ask("GET", path, None, **to)


def begin(made: Made, program: str = PORT_PROGRAM, port: int = _PORT) -> None:
    """A program that answers at a port, once it does."""
    made.begin("python3", "-c", program.replace("8000", str(port)))
    until = time.monotonic() + 30
    while at_port(made, port, "/count")[0] == 502:
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.parametrize("template", ["base", "docker"])
def test_a_port_without_a_name_is_reached_by_headers_and_host(
    caller: Caller, template: str
) -> None:
    if template == "docker":
        need("docker:stockade-test/python?pull=never")
    made = create(caller, templateID=template)
    begin(made)
    assert at_port(made, _PORT) == (200, b"from inside: /asked")
    host = f"{_PORT}-{made.sandbox_id}.localhost:{urlsplit(caller.url).port}"
    assert at_host(host) == (200, b"from inside: /asked")
    status, said = at_port(made, _PORT + 1)
    assert (status, said["message"]) == (502, "nothing answers HTTP at port 8766 of the sandbox")  # type: ignore[index]
    for wrong in (0, 65536, 99999, "x"):
        assert at_port(made, wrong)[0] == 400
    assert caller.ask("DELETE", f"/sandboxes/{made.sandbox_id}")[0] == 204
    assert at_port(made, _PORT)[0] == 502


def test_websockets_go_there_too(caller: Caller) -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    made = create(caller)
    begin(made, STREAMING)
    place = f"ws://{urlsplit(caller.url).netloc}/echo"
    headers = {"E2b-Sandbox-Id": made.sandbox_id, "E2b-Sandbox-Port": str(_PORT)}
    with connect(place, additional_headers=headers) as socket:
        socket.recv(10)
        socket.send("said")
        assert socket.recv(10) == "said"
    headers["E2b-Sandbox-Port"] = "8999"
    with pytest.raises(InvalidStatus) as refused:
        connect(place, additional_headers=headers)
    assert refused.value.response.status_code == 502
    assert caller.ask("DELETE", f"/sandboxes/{made.sandbox_id}")[0] == 204


def test_an_operator_may_open_named_ports_alone(caller: Caller) -> None:
    made = create(caller, templateID="named")
    begin(made, port=8000)
    made.begin("python3", "-c", PORT_PROGRAM.replace("8000", str(_PORT)))
    assert at_port(made, 8000) == (200, b"from inside: /asked")
    status, said = at_port(made, _PORT)
    assert status == 501 and f"ports={_PORT}" in said["message"]  # type: ignore[index]
    assert caller.ask("DELETE", f"/sandboxes/{made.sandbox_id}")[0] == 204


def test_no_port_of_this_machines_is_one_of_a_sandboxs(caller: Caller) -> None:
    """Where the sandbox is on this machine's network, its loopback is this machine's."""
    reached = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(2)

        def accept() -> None:
            try:
                listening.accept()[0].close()
                reached.set()
            except OSError:
                pass

        accepting = threading.Thread(target=accept)
        accepting.start()
        made = create(caller, templateID="shared")
        status, said = at_port(made, listening.getsockname()[1])
        assert status == 501 and "its network is" in said["message"]  # type: ignore[index]
        accepting.join()
    assert not reached.is_set()
    assert caller.ask("DELETE", f"/sandboxes/{made.sandbox_id}")[0] == 204


def test_an_answer_that_a_sandboxs_end_cut_off_does_not_look_whole(caller: Caller) -> None:
    made = create(caller)
    made.begin("python3", "-c", _HALF)
    until = time.monotonic() + 30
    headers = {"E2b-Sandbox-Id": made.sandbox_id, "E2b-Sandbox-Port": str(_PORT)}
    while True:
        connection = http.client.HTTPConnection(urlsplit(caller.url).netloc, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", "/", headers=headers)
            answer = connection.getresponse()
            if answer.status == 502:
                answer.read()
                assert time.monotonic() < until
                continue
            assert answer.read(4) == b"half"
            assert caller.ask("DELETE", f"/sandboxes/{made.sandbox_id}")[0] == 204
            with pytest.raises(http.client.IncompleteRead):
                answer.read()
            return


def test_the_table_of_a_template_says_it_as_a_truth(tmp_path: Path) -> None:
    from stockade.errors import ConfigError
    from stockade_server import read_settings

    file = tmp_path / "stockade.toml"
    file.write_text('[serve.templates.base]\nprovider = "local"\nopen_ports = "no"\n')
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="open_ports='no' is not allowed: true or false"):
        read_settings(str(file))
