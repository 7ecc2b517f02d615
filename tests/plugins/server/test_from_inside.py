"""What a program inside reaches of the server and of other sandboxes through it: nothing that it
was not handed a key or a token for."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from urllib.parse import urlsplit

import attrs
import pytest

from plugins.server.conftest import need
from plugins.server.serving import PORT_PROGRAM, Caller, Made, events, serving

pytest.importorskip("starlette", reason="stockade-server is not installed (tox -e server)")
pytest.importorskip("uvicorn", reason="stockade-server is not installed (tox -e server)")

#: By name: the provider, the address at which the server listens, and at which it is seen inside.
CASES = {
    "local without a network": ("local?ports=8000", "127.0.0.1", "127.0.0.1"),
    "local with one": ("local?network_enabled=true", "127.0.0.1", "127.0.0.1"),
    "local with hosts": ("local?network_allow=example.org&ports=8000", "127.0.0.1", "127.0.0.1"),
    "docker without a network": ("docker:stockade-test/python?ports=8000", "0.0.0.0", ""),
    "docker with one": ("docker:stockade-test/python?network_enabled=true", "0.0.0.0", ""),
}

#: Sends what it is given, straight or through the proxy of its environment, and prints answers.
_ASK = r"""
import os, socket, sys
host, port, through, text = sys.argv[1:5]
if through == "proxy":
    proxy = os.environ.get("http_proxy") or os.environ.get("HTTP_PROXY") or ""
    host, _, port = proxy.split("//")[-1].strip("/").partition(":")
try:
    connection = socket.create_connection((host, int(port)), 5)
    connection.sendall(text.encode())
    connection.settimeout(5)
    print(connection.recv(4096).decode("latin-1"))
except (OSError, ValueError) as error:
    print("unreached", error)
"""


@attrs.frozen
class Neighbours:
    """Two keys' sandboxes, and where the first one's programs would find the server."""

    here: Made
    other: Made
    host: str
    port: int
    key: str

    def run(self, *argv: str, made: Made | None = None) -> str:
        """What a program prints."""
        found, config = made or self.here, {"cmd": argv[0], "args": list(argv[1:])}
        data = json.dumps({"process": config, "stdin": False}).encode()
        _, body = found.stream("process.Process/Start", struct.pack(">BI", 0, len(data)) + data)
        pieces = [one["event"]["data"] for one in events(body) if "data" in one.get("event", {})]
        return b"".join(
            base64.b64decode(one.get("stdout") or one.get("stderr", "")) for one in pieces
        ).decode(errors="replace")

    def ask(self, method: str, path: str, *, through: str = "", **headers: str) -> str:
        """The first line that a program in the first sandbox is answered."""
        sent = {"host": f"{self.host}:{self.port}", "content_length": "0", **headers}
        lines = [f"{method} {path} HTTP/1.1"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in sent.items()]
        text = "\r\n".join([*lines, "", ""])
        options = (self.host, str(self.port), through, text)
        return self.run("python3", "-c", _ASK, *options).partition("\n")[0]


@pytest.fixture(scope="module", params=list(CASES))
def neighbours(request: pytest.FixtureRequest) -> Iterator[Neighbours]:
    provider, listens, seen = CASES[request.param]
    need(provider)
    with serving("--host", listens, "--template", f"base={provider}") as served:
        port = urlsplit(served.url).port or 0
        caller = Caller(f"http://127.0.0.1:{port}", served.key)
        made = []
        for _ in range(2):
            status, found = caller.ask("POST", "/v2/sandboxes", {"templateID": "base"})
            assert status == 201, found
            made.append(Made(caller, found["sandboxID"], found["envdAccessToken"]))
        two = Neighbours(made[0], made[1], seen or "172.17.0.1", port, served.key)
        if not seen:  # the bridge's own address, which is the route's next hop inside
            routes = two.run("cat", "/proc/net/route").splitlines()[1:]
            nexts = [line.split()[2] for line in routes if line.split()[1] == "00000000"]
            if nexts:
                address = ".".join(str(one) for one in reversed(bytes.fromhex(nexts[0])))
                two = attrs.evolve(two, host=address)
        yield two


def test_the_api_is_closed_to_programs(
    neighbours: Neighbours, request: pytest.FixtureRequest
) -> None:
    reached = request.node.callspec.params["neighbours"] in ("local with one", "docker with one")
    asked = [
        neighbours.ask("GET", "/v2/sandboxes"),
        neighbours.ask("POST", "/v2/sandboxes"),
        neighbours.ask("GET", f"/sandboxes/{neighbours.other.sandbox_id}"),
        neighbours.ask("GET", "/metrics"),
        neighbours.ask("GET", "/v2/sandboxes", x_api_key="e2b_guess"),
    ]
    wanted = "HTTP/1.1 401" if reached else "unreached"
    assert all(one.startswith(wanted) for one in asked), asked


def test_another_sandbox_is_closed_to_programs(
    neighbours: Neighbours, request: pytest.FixtureRequest
) -> None:
    reached = request.node.callspec.params["neighbours"] in ("local with one", "docker with one")
    other = {"e2b_sandbox_id": neighbours.other.sandbox_id}
    mine = {"x_access_token": neighbours.here.token}  # which programs do not have either
    asked = [
        neighbours.ask("POST", "/process.Process/List", **other),
        neighbours.ask("POST", "/process.Process/List", **other, **mine),
        neighbours.ask("GET", "/files?path=/etc/hostname", **other, **mine),
        neighbours.ask("POST", "/execute", **other, **mine),
    ]
    wanted = "HTTP/1.1 401" if reached else "unreached"
    assert all(one.startswith(wanted) for one in asked), asked


def test_the_way_to_allowed_hosts_does_not_lead_to_the_server(
    neighbours: Neighbours, request: pytest.FixtureRequest
) -> None:
    if request.node.callspec.params["neighbours"] != "local with hosts":
        pytest.skip("it has no way to hosts by their names")
    place = f"127.0.0.1:{neighbours.port}"
    name = f"8000-{neighbours.other.sandbox_id}.localhost:{neighbours.port}"
    for host in (place, f"localhost:{neighbours.port}", name):
        for method, path in (("CONNECT", host), ("GET", f"http://{host}/v2/sandboxes")):
            answer = neighbours.ask(method, path, through="proxy", host=host)
            assert answer.startswith("HTTP/1.1 4"), (method, host, answer)
            assert not answer.startswith("HTTP/1.1 401"), "that is the server's own answer"


def test_a_port_inside_is_its_own_sandboxs_alone(
    neighbours: Neighbours, request: pytest.FixtureRequest
) -> None:
    """A program that answers at port 8000 is not found at the neighbour's."""
    if "ports" not in CASES[request.node.callspec.params["neighbours"]][0]:
        pytest.skip("it publishes no port")
    here, other = neighbours.here, neighbours.other
    upload = {"content_type": "application/octet-stream", **here.headers}
    path = "/files?path=answer.py"
    assert here.caller.ask("POST", path, PORT_PROGRAM.encode(), **upload)[0] == 200
    neighbours.run("/bin/sh", "-c", "python3 answer.py >/dev/null 2>&1 & sleep 1")
    to = {"e2b_sandbox_port": "8000"}
    nobody = Caller(here.caller.url, "")
    found = nobody.ask("GET", "/asked", e2b_sandbox_id=here.sandbox_id, **to)
    assert found == (200, b"from inside: /asked")
    assert nobody.ask("GET", "/asked", e2b_sandbox_id=other.sandbox_id, **to)[0] == 502


def test_no_key_and_no_token_is_inside(neighbours: Neighbours) -> None:
    seen = neighbours.run("/bin/sh", "-c", "env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline")
    assert "PATH=" in seen
    for secret in (neighbours.key, neighbours.here.token, neighbours.other.token):
        assert secret not in seen


def test_the_neighbours_id_is_not_inside(neighbours: Neighbours) -> None:
    """Whoever knows it reaches its ports."""
    line = "env; hostname; cat /proc/self/cgroup /proc/self/mountinfo"
    assert neighbours.other.sandbox_id not in neighbours.run("/bin/sh", "-c", line)
