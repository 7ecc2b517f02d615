"""A supervisor as this machine's own process, with nothing around it."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator

import pytest

import stockade_supervisor
from stockade.toolkit.supervised import Link, SocketTransport


@pytest.fixture
def link() -> Iterator[Link]:
    ours, theirs = socket.socketpair()
    argv = [stockade_supervisor.binary(), "serve"]
    with theirs:
        process = subprocess.Popen(argv, stdin=theirs.fileno(), stdout=theirs.fileno())
    link = Link(SocketTransport(ours))
    link.greet(10)
    yield link
    link.close()
    assert process.wait(10) == 0
