"""What a supervised sandbox does where the system has no thread to give (C5, C6)."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

import stockade_supervisor
from conftest import until
from core.threads import few_threads
from stockade import CapacityError
from stockade.toolkit.egress import Names
from stockade.toolkit.supervised import SocketTransport, SupervisedSandbox
from stockade.toolkit.supervised.egress import Egress
from stockade.toolkit.supervised.terminal import SupervisedTerminal
from stockade.wall import TerminalRequest

MARK = "91.7243"
REQUEST = b"GET http://example.net/ HTTP/1.1\r\nHost: example.net\r\n\r\n"


class Plain(SupervisedSandbox):
    ended = 0

    def destroy(self) -> None:
        self.link.close()

    def force_end(self) -> None:
        self.ended += 1


@pytest.fixture
def sandbox() -> Iterator[Plain]:
    ours, theirs = socket.socketpair()
    argv = [stockade_supervisor.binary(), "serve"]
    with theirs:
        process = subprocess.Popen(argv, stdin=theirs.fileno(), stdout=theirs.fileno())
    made = Plain(SocketTransport(ours), startup_seconds=10)
    yield made
    made.link.close()
    process.wait(10)


@pytest.fixture
def no_threads(sandbox: Plain) -> Iterator[None]:
    with few_threads():
        yield


def _there() -> bool:
    found = subprocess.run(["pgrep", "-f", f"sleep {MARK}"], check=False, capture_output=True)
    return found.returncode == 0


def test_a_terminal_that_nobody_reads_is_ended(sandbox: Plain, no_threads: None) -> None:
    with pytest.raises(CapacityError):
        SupervisedTerminal(sandbox, TerminalRequest(argv=("sleep", MARK), working_dir="/"))
    assert until(lambda: not _there(), 5)


@pytest.mark.parametrize("why", ["overdue", "_broken"])
def test_a_sandbox_that_must_end_ends(sandbox: Plain, no_threads: None, why: str) -> None:
    getattr(sandbox, why)()
    assert sandbox.ended == 1


def test_connections_past_the_most_take_nothing(
    sandbox: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many there are is the program's choice; each takes descriptors and threads of ours."""
    egress = Egress(sandbox.link, Names.of(["example.org"]))
    monkeypatch.setattr(egress, "_most", 2)
    place = ("127.0.0.1", int(egress.open(10)["http_proxy"].rpartition(":")[2]))
    with contextlib.ExitStack() as kept:
        held = [kept.enter_context(socket.create_connection(place, 10)) for _ in range(2)]
        assert until(lambda: egress._carried == 2)
        for _ in range(20):
            with socket.create_connection(place, 10) as more, contextlib.suppress(OSError):
                more.settimeout(10)
                assert more.recv(1) == b""
        assert sandbox.link.counts(5)
        assert sum(t.name == "stockade-egress" for t in threading.enumerate()) <= 6
        assert len(sandbox.link._executions) == 2
        held[0].sendall(REQUEST)
        assert b"403" in held[0].recv(100)
    assert until(lambda: egress._carried == 0)
    with socket.create_connection(place, 10) as connection:
        connection.sendall(REQUEST)
        assert b"403" in connection.recv(100)
    egress.close()


def test_a_connection_is_refused_and_the_session_goes_on(sandbox: Plain) -> None:
    """As with the forwarder's last descriptor: it is one connection's bad luck."""
    egress = Egress(sandbox.link, Names.of(["example.org"]))
    address = egress.open(10)["http_proxy"]
    for allowed in range(3):  # a connection takes three threads
        with few_threads(allowed, "stockade-egress"):
            host, _, port = address.removeprefix("http://").partition(":")
            with socket.create_connection((host, int(port)), 10) as connection:
                connection.settimeout(10)
                assert connection.recv(1) == b""  # at once, not at some deadline
        assert sandbox.link.counts(5)
    with socket.create_connection((host, int(port)), 10) as connection:
        connection.settimeout(10)
        connection.sendall(REQUEST)
        assert b"403" in connection.recv(100)
    egress.close()


#: Serves with as good as no descriptor left. Its clients are in another process.
FEW = """
import resource, socket, subprocess, sys, stockade_supervisor
from stockade.toolkit.egress import Names
from stockade.toolkit.supervised import Link, SocketTransport
from stockade.toolkit.supervised.egress import Egress
ours, theirs = socket.socketpair()
argv = [stockade_supervisor.binary(), "serve"]
process = subprocess.Popen(argv, stdin=theirs.fileno(), stdout=theirs.fileno())
theirs.close()
link = Link(SocketTransport(ours))
link.handshake(10)
port = Egress(link, Names.of(["example.org"])).open(10)["http_proxy"].rpartition(":")[2]
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
print(port, flush=True)
for line in sys.stdin:
    print("lost" if link.lost else link.counts(5)[1], flush=True)
"""


def test_without_a_descriptor_a_connection_is_refused_and_the_session_goes_on() -> None:
    argv = [sys.executable, "-c", FEW]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdin is not None and owner.stdout is not None
        place = ("127.0.0.1", int(owner.stdout.readline()))
        with contextlib.ExitStack() as kept:
            for _ in range(60):
                kept.enter_context(socket.create_connection(place, 10))
            owner.stdin.write(b"?\n")
            owner.stdin.flush()
            assert owner.stdout.readline() != b"lost\n"

        def serves() -> bool:
            with socket.create_connection(place, 10) as connection, contextlib.suppress(OSError):
                connection.settimeout(10)
                connection.sendall(REQUEST)
                return b"403" in connection.recv(100)
            return False

        assert until(serves, 15)
        owner.stdin.close()
