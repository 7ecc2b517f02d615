"""What the bubblewrap wall's tests share."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import conftest
import stockade
from conftest import need
from stockade import Session
from stockade.toolkit.local import LocalSandbox, cgroups

#: The wall with limits held in either way; by a cgroup only where one can be made.
BOTH = ("bubblewrap", "bubblewrap?limits=watch")

until = functools.partial(conftest.until, seconds=30.0)


@pytest.fixture
def bubblewrap() -> str:
    """The provider string, where the wall is available."""
    need("bubblewrap")
    return "bubblewrap"


@pytest.fixture(params=BOTH, ids=["auto", "watch"])
def wall(bubblewrap: str, request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def session(bubblewrap: str) -> Iterator[Session]:
    with stockade.open(bubblewrap) as opened:
        yield opened


@pytest.fixture
def grouped(bubblewrap: str) -> str:
    """The provider string, where a cgroup holds the limits."""
    if "memory" not in cgroups.parents():
        pytest.skip("no cgroup can be made here")
    return "bubblewrap?limits=cgroup"


def inner(session: Session) -> LocalSandbox:
    sandbox = session._record.sandbox
    assert isinstance(sandbox, LocalSandbox)
    return sandbox


def marked(mark: str) -> dict[int, str]:
    """The host's living processes whose command line holds ``mark``, this one aside."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = (
                Path(f"/proc/{pid}/cmdline")
                .read_bytes()
                .replace(b"\0", b" ")
                .decode(errors="replace")
            )
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if mark in line and int(pid) != os.getpid() and state not in "ZX":
            found[int(pid)] = line
    return found


def gone(mark: str, seconds: float = 30.0) -> bool:
    return until(lambda: not marked(mark), seconds=seconds)


def leftover_name(session: str) -> str:
    """What all that a session has on the host is called."""
    return cgroups.group_name("bubblewrap", session)


def groups(name: str) -> list[str]:
    """The cgroups of a session that are there."""
    return [
        os.path.join(parent, name)
        for parent in sorted(set(cgroups.parents().values()))
        if os.path.isdir(os.path.join(parent, name))
    ]
