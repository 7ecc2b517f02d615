"""What the tests of supervised sandboxes share: supervisors as processes of this machine, with
nothing around them, and interpreters as the supervisor has them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import stockade_supervisor
from core.toolkit.supervised.double import Double
from core.toolkit.supervised.file_server import Inside, Served
from core.toolkit.supervised.programs import PYTHONS, SOURCE
from stockade.toolkit.supervised import Link, SocketTransport
from stockade.toolkit.supervised.warm import BOOT, NAMED


@pytest.fixture
def link() -> Iterator[Link]:
    yield from _linked([stockade_supervisor.binary(), "serve"])


@pytest.fixture
def first() -> Iterator[Link]:
    """The link of one that is process 1 of a process namespace, as it is behind most walls."""
    apart = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], check=False).returncode:
        pytest.skip("no namespaces for this user here")
    yield from _linked([*apart, stockade_supervisor.binary(), "serve"])


def _linked(argv: list[str]) -> Iterator[Link]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(argv, stdin=theirs.fileno(), stdout=theirs.fileno())
    link = Link(SocketTransport(ours))
    link.handshake(10)
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


@pytest.fixture(scope="module", params=PYTHONS)
def python(request: pytest.FixtureRequest) -> str:
    return PYTHONS[request.param]


@pytest.fixture
def named(python: str) -> Iterator[Double]:
    with Double(python, BOOT, SOURCE, NAMED) as double:
        yield double
