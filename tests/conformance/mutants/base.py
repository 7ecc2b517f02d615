"""What mutants are made of: the reference wall's sandbox, and a suite on it.

The base holds nothing back (it is no wall), so a mutant of an isolation clause is the
base itself with a claim that is false.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import attrs
import pytest

from stockade.capabilities import Capabilities, Isolation
from stockade.config import SandboxConfig
from stockade.results import Stream
from stockade.session import Session
from stockade.sessions._providers import WallProvider
from stockade.sessions._runtime import Runtime
from stockade.testing import ProviderConformance
from stockade.testing.probes.base import relaxed
from stockade.testing.reference import ReferenceWall
from stockade.testing.subprocesses import PlainSandbox
from stockade.wall import Exit, OpenRequest, Output, Running, Sandbox

__all__ = [
    "Changed",
    "ChangedOutput",
    "Mutant",
    "NoWall",
    "PlainSandbox",
    "PlainWall",
    "string_suite",
    "suite",
]

Patch = Callable[[pytest.MonkeyPatch], object]


@attrs.frozen(kw_only=True)
class Mutant:
    """One thing broken, and the check that must catch it."""

    name: str
    check: str  #: without ``test_``; its clause is the mutant's
    make: Callable[[], ProviderConformance]
    patch: Patch = lambda _: None  #: for what core alone keeps: core is broken instead
    says: str = ""  #: what the failure must say, where the check fails early for other reasons
    needs: str = ""  #: a provider that must be available
    #: The check that the mutant passes, since it is broken in a circumstance alone.
    alone: str = ""

    @property
    def clause(self) -> str:
        return self.check.partition("_")[0]


class PlainWall(ReferenceWall):
    """The reference wall, saying that it is one: the lie that most mutants share."""

    isolation = Isolation.PROCESS
    table: ClassVar[Capabilities] = ReferenceWall().capabilities
    sandbox: ClassVar[type[PlainSandbox]] = PlainSandbox

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        return self.table

    def open(self, request: OpenRequest) -> Sandbox:
        return self.sandbox(request)


class NoWall(PlainSandbox):
    """Holds nothing of what is claimed: the base, and the host's own /tmp."""

    own = ()


def suite(
    sandbox: type[PlainSandbox] = PlainSandbox,
    wall: type[PlainWall] = PlainWall,
    *,
    factor: float = 1.0,
    isolation: Isolation = Isolation.PROCESS,
    **claims: str,
) -> ProviderConformance:
    """The suite on a wall made of these, with these features claimed on top."""
    made = type(
        "MutantWall",
        (wall,),
        {"sandbox": sandbox, "table": wall.table.with_(**claims), "isolation": isolation},
    )

    class Checked(ProviderConformance):
        time_factor = factor
        check_seconds = 60.0 / factor

        def make_provider(self, **config: Any) -> WallProvider:
            built = made()
            settings = relaxed(SandboxConfig(), built.capabilities).with_(**config)
            return WallProvider("mutant", built, settings, Runtime(discover_plugins=False))

        def kill_sandbox(self, session: Session) -> None:
            sandbox = session._record.sandbox
            assert isinstance(sandbox, PlainSandbox)
            sandbox.die()

        @contextmanager
        def showing(self, folder: str) -> Iterator[tuple[Session, str]]:
            with self.session() as session:
                yield session, folder

    return Checked()


def string_suite(string: str, *, factor: float = 1.0) -> ProviderConformance:
    """The suite on an installed provider."""

    class Checked(ProviderConformance):
        provider = string
        time_factor = factor
        check_seconds = 60.0 / factor

    return Checked()


class Changed(Running):
    """Passes on to another running; a mutant changes one method."""

    def __init__(self, inner: Running) -> None:
        self.inner = inner

    def wait(self) -> Exit:
        return self.inner.wait()

    def kill(self) -> None:
        self.inner.kill()

    def interrupt(self) -> None:
        self.inner.interrupt()

    def signal(self, number: int, *, group: bool) -> None:
        self.inner.signal(number, group=group)

    def write(self, data: bytes, seconds: float) -> int:
        return self.inner.write(data, seconds)

    def close_input(self) -> None:
        self.inner.close_input()


class ChangedOutput:
    """Passes on to another output."""

    def __init__(self, inner: Output) -> None:
        self.inner = inner

    def write(self, stream: Stream, data: bytes) -> None:
        self.inner.write(stream, data)

    def room(self, stream: Stream) -> int:
        return self.inner.room(stream)

    def full(self, stream: Stream) -> bool:
        return self.inner.full(stream)

    def drop(self, stream: Stream, count: int) -> None:
        self.inner.drop(stream, count)

    def show(self, data: bytes) -> None:
        self.inner.show(data)


def install(
    monkeypatch: pytest.MonkeyPatch, folder: str, name: str, source: str, value: str = ""
) -> None:
    """Put a distribution with one entry point on the path, as if it were installed."""
    module = f"stockade_mutant_{name.replace('-', '_')}"
    os.makedirs(f"{folder}/{module}.dist-info", exist_ok=True)
    with open(f"{folder}/{module}.py", "w") as file:
        file.write(source)
    with open(f"{folder}/{module}.dist-info/METADATA", "w") as file:
        file.write(f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: 1.0\n")
    with open(f"{folder}/{module}.dist-info/entry_points.txt", "w") as file:
        file.write(f"[stockade.providers]\n{value or name} = {module}\n")
    monkeypatch.syspath_prepend(folder)
