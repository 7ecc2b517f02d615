"""A supervisor as this machine's own process, with nothing around it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import stockade_supervisor
from core.toolkit.supervised.file_server import Inside, Served
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


@pytest.fixture
def inside(tmp_path: Path) -> Inside:
    return Inside(tmp_path, Served())


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder on another file system than the tests' own."""
    folder = Path("/dev/shm")
    if not os.access(folder, os.W_OK):
        pytest.skip("no second file system here")
    made = folder / f"stockade-files-{os.getpid()}"
    made.mkdir()
    yield made
    shutil.rmtree(made)
