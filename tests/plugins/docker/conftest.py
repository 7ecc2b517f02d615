"""What the container walls' tests share."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator

import docker
import pytest

from conftest import need
from stockade.errors import SandboxLostError, StockadeError
from stockade.session import Session
from stockade.sessions._runtime import Runtime
from stockade_docker.create import LABEL
from stockade_docker.sandbox import ContainerSandbox

PYTHON = "stockade-test/python"
BUSYBOX = "stockade-test/busybox"


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.APIClient]:
    """A client of the engine, where there is one."""
    need("docker")
    client = docker.APIClient(version="auto")
    yield client
    client.close()


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    made = Runtime(discover_plugins=False)
    yield made
    made.close_all()


def container_of(session: Session) -> str:
    sandbox = session._record.sandbox
    assert isinstance(sandbox, ContainerSandbox)
    return sandbox.container


def ours(engine: docker.APIClient, pid: int | None = None) -> set[str]:
    """Containers that this process made (or the one of that id), running or not: others
    may be at work on the same engine."""
    found = engine.containers(all=True, filters={"label": f"{LABEL}session"})
    number = str(os.getpid() if pid is None else pid)
    # The owner's label ends with the process's id and its start.
    return {c["Id"] for c in found if c["Labels"][f"{LABEL}owner"].split(":")[-2] == number}


def is_lost(session: Session) -> bool:
    """Whether it runs nothing any more."""
    try:
        session.run(["true"])
    except SandboxLostError:
        return True
    return False


def until(what: Callable[[], object], seconds: float = 10.0) -> bool:
    """Wait until it is so; whether it came to be."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if what():
                return True
        except (StockadeError, OSError):
            pass
        time.sleep(0.1)
    return False


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    """A socket that a test leaves open fails that test, not whichever runs when it is found."""
    yield
    gc.collect()
