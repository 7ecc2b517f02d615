"""Published ports of the local walls: in from this machine's loopback, and never out (E3)."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import urllib.request

import pytest

import stockade
from conftest import until
from stockade import CapacityError, ConfigError, StockadeError, UnsupportedError


def page(address: tuple[str, int]) -> bytes:
    """What a web server answers; nothing where there is none."""
    host, port = address
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/", timeout=5) as answer:
            return bytes(answer.read())
    except OSError:
        return b""


SERVE = "python3 -m http.server {port} --bind {host} --directory {folder}"


def test_a_server_inside_is_reached(wall: str) -> None:
    with stockade.open(wall, ports=[8080, 80]) as session:
        session.files.write("one/index.html", b"first")
        session.files.write("two/index.html", b"second")
        serve = SERVE.format(port=8080, host="127.0.0.1", folder="one").split()
        other = SERVE.format(port=9090, host="0.0.0.0", folder="two").split()
        session.start(serve, timeout=None)
        session.start(other, timeout=None)
        host, port = session.port(8080)
        assert host == "127.0.0.1"
        assert until(lambda: page((host, port)) == b"first")
        assert page(session.port(80)) == b"", "a port at which nobody listens"
        with pytest.raises(ConfigError, match="not published"):
            session.port(9090)
        # The sandbox has the network that it had: none.
        assert session.shell("cat /proc/net/route | wc -l").stdout == "1\n"
        assert session.run(["cat", "/proc/net/dev"]).stdout.count(":") == 1
    with pytest.raises(OSError):
        socket.create_connection((host, port), 5)


def test_a_server_on_localhost_is_reached_whichever_that_is(wall: str) -> None:
    with stockade.open(wall, ports=[8080]) as session:
        session.files.write("index.html", b"of localhost")
        argv = SERVE.format(port=8080, host="localhost", folder=".").split()
        session.start(argv, timeout=None)
        assert until(lambda: page(session.port(8080)) == b"of localhost")


def test_two_sessions_have_the_same_port_each(wall: str) -> None:
    with stockade.open(wall, ports=[8080]) as one, stockade.open(wall, ports=[8080]) as two:
        for session, word in ((one, b"one"), (two, b"two")):
            session.files.write("index.html", word)
            argv = SERVE.format(port=8080, host="127.0.0.1", folder=".").split()
            session.start(argv, timeout=None)
        assert until(lambda: page(one.port(8080)) == b"one")
        assert until(lambda: page(two.port(8080)) == b"two")


def test_with_the_machines_network_they_are_refused(wall: str) -> None:
    with pytest.raises(UnsupportedError, match="network_enabled"):
        stockade.open(wall, ports=[8080], network_enabled=True)


def test_a_sandbox_that_dies_ends_its_connections(wall: str) -> None:
    with stockade.open(wall, ports=[8080]) as session:
        code = (
            "import socket\ns = socket.create_server(('127.0.0.1', 8080))\nprint(1, flush=True)\n"
            "c = s.accept()[0]\nc.sendall(b'x')\nc.recv(1)\n"
        )
        server = session.stream(code=code)
        server.take()
        with socket.create_connection(session.port(8080), 10) as client:
            assert client.recv(1) == b"x"
            sandbox = session._record.sandbox
            os.kill(sandbox.init_pid, signal.SIGKILL)  # type: ignore[union-attr]
            try:
                assert client.recv(1) == b""
            except ConnectionError:
                pass


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_E3_a_server_and_its_client_in_one_session(wall: str, host: str) -> None:
    if ":" in host and not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("this machine has no IPv6")
    code = (
        "import socket, threading, sys\nhost = sys.argv[1] if sys.argv[1:] else {host!r}\n"
        "family = socket.AF_INET6 if ':' in host else socket.AF_INET\n"
        "server = socket.create_server((host, 0), family=family)\n"
        "port = server.getsockname()[1]\n"
        "asked = socket.create_connection((host, port), 5)\n"
        "server.accept()[0].sendall(b'served')\nprint(asked.recv(10))\n"
    )
    with stockade.open(wall) as session:
        assert session.code(code.format(host=host)).stdout == "b'served'\n"
        # And one that goes on from execution to execution.
        argv = SERVE.format(port=8000, host=host, folder="/tmp").split()
        session.files.write("/tmp/index.html", b"of two executions")
        session.start(argv, timeout=None)
        place = f"[{host}]" if ":" in host else host
        ask = f"import urllib.request as u; print(u.urlopen('http://{place}:8000/').read())"
        assert until(lambda: "of two executions" in session.code(ask).stdout)


LISTEN = """
import socket
server = socket.create_server(("127.0.0.1", 7000))
print("listens", flush=True)
while True:
    client = server.accept()[0]
    while data := client.recv(65536):
        client.sendall(data)
    client.close()
"""


def test_a_connection_is_carried_without_a_port_of_this_machine(wall: str) -> None:
    with stockade.open(wall) as session:
        server = session.stream(code=LISTEN)
        server.take()
        ours, theirs = socket.socketpair()
        session.forward(theirs, 7000)
        with ours:
            ours.settimeout(20)
            ours.sendall(b"x" * 100_000)
            ours.shutdown(socket.SHUT_WR)
            assert b"".join(iter(lambda: ours.recv(65536), b"")) == b"x" * 100_000
        ours, theirs = socket.socketpair()
        session.forward(theirs, 7001)  # nobody listens
        with ours:
            ours.settimeout(20)
            assert ours.recv(1) == b""
        with pytest.raises(ConfigError, match="port=0"):
            session.forward(theirs, 0)
        with pytest.raises(ConfigError, match="not published"):
            session.port(7000)


def test_what_is_carried_ends_with_the_session(wall: str) -> None:
    ours, theirs = socket.socketpair()
    with stockade.open(wall) as session:
        server = session.stream(code=LISTEN)
        server.take()
        session.forward(theirs, 7000)
        ours.settimeout(20)
        ours.sendall(b"x")
        assert ours.recv(1) == b"x"
    with ours:
        assert ours.recv(1) == b""
    one, two = socket.socketpair()
    with one:
        with pytest.raises(StockadeError):
            session.forward(two, 7000)
        assert two.fileno() == -1 and one.recv(1) == b""


def test_no_more_are_carried_than_are_accepted(wall: str) -> None:
    with stockade.open(wall) as session, contextlib.ExitStack() as held:
        server = session.stream(code=LISTEN)
        server.take()
        pairs = [socket.socketpair() for _ in range(129)]
        for ours, _ in pairs:
            held.enter_context(ours)
        for _, theirs in pairs[:128]:
            session.forward(theirs, 7000)
        with pytest.raises(CapacityError, match="128"):
            session.forward(pairs[128][1], 7000)


def test_the_sessions_way_out_is_no_port_for_others(wall: str) -> None:
    """Whoever connected there would reach the allowed hosts as the session does."""
    with stockade.open(wall, network_allow=("example.org",)) as session:
        proxy = session.run(["sh", "-c", "echo $http_proxy"]).stdout
        port = int(proxy.strip().rpartition(":")[2])
        ours, theirs = socket.socketpair()
        with ours, pytest.raises(ConfigError, match="way out"):
            session.forward(theirs, port)
        assert theirs.fileno() == -1
