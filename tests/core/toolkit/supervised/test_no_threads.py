"""What a supervised sandbox does where the system has no thread to give (C5, C6)."""

from __future__ import annotations

import socket
import subprocess
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
        connection.sendall(b"GET http://example.net/ HTTP/1.1\r\nHost: example.net\r\n\r\n")
        assert b"403" in connection.recv(100)
    egress.close()
