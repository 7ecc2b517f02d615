"""Mutants of E12: walls that hold in a session's first execution, and in no other.

The first is behind a real wall, bubblewrap. One that overlaps it, and all of a session that
was attached to, are behind what is broken: as with a wall that starts them on another way and
forgets something there.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs

import stockade
from conformance.mutants.base import Changed, Mutant, PlainSandbox
from conformance.mutants.executing import LosesTheEnvironment
from conformance.mutants.isolating import ISOLATING
from conformance.mutants.secret import WITHOUT_GATEWAY
from conformance.mutants.selected import TellsTheEnvironment
from stockade.capabilities import Capabilities, Isolation
from stockade.config import SandboxConfig
from stockade.session import Session
from stockade.sessions._providers import WallProvider
from stockade.sessions._runtime import Runtime
from stockade.testing import ProviderConformance
from stockade.testing.probes.base import relaxed
from stockade.wall import (
    AttachRequest,
    Availability,
    ExecRequest,
    Exit,
    OpenRequest,
    Output,
    Running,
    Sandbox,
    Wall,
)

__all__ = ["OVERLAPPING", "STRONG"]

#: What holds while nothing overlaps.
STRONG = "bubblewrap"


class HoldsAtFirst(Sandbox):
    """Two sandboxes in one: who runs alone is in the strong one."""

    def __init__(self, strong: Sandbox, weak: PlainSandbox) -> None:
        self._strong = strong
        self._weak = weak
        self._lock = threading.Lock()
        self._running = 0

    def start(self, request: ExecRequest, output: Output) -> Running:
        with self._lock:
            alone, self._running = not self._running, self._running + 1
        try:
            running = (self._strong if alone else self._weak).start(request, output)
        except BaseException:
            self._end()
            raise
        sandbox = self

        class Counted(Changed):
            def wait(self) -> Exit:
                try:
                    return super().wait()
                finally:
                    sandbox._end()

        return Counted(running)

    def _end(self) -> None:
        with self._lock:
            self._running -= 1

    def languages(self) -> Any:
        return self._strong.languages()

    def address_of(self, port: int) -> tuple[str, int]:
        return self._strong.address_of(port)

    def close(self) -> None:
        self._weak.close()
        self._strong.close()

    def detach(self) -> None:
        self.close()


class HoldsAtFirstWall(Wall):
    weak: type[PlainSandbox]
    claims: dict[str, Any]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._strong = stockade.provider(STRONG, runtime=Runtime(discover_plugins=False)).wall

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        return self._strong.capabilities.with_(durable="native", **self.claims)

    @property
    def isolation(self) -> Isolation:  # type: ignore[override]
        return self._strong.isolation

    def probe(self) -> Availability:
        return self._strong.probe()

    def open(self, request: OpenRequest) -> Sandbox:
        # The strong one does not know it, nor need it: an attached session is the weak one's.
        config = request.config.with_(durable=False)
        strong = self._strong.open(attrs.evolve(request, config=config))
        return HoldsAtFirst(strong, self.weak(request))

    def attach(self, request: AttachRequest) -> Sandbox:
        return self.weak(request)


def _suite(sandbox: type[PlainSandbox], **claimed: str) -> ProviderConformance:
    made = type("MutantWall", (HoldsAtFirstWall,), {"weak": sandbox, "claims": claimed})

    class Checked(ProviderConformance):
        def make_provider(self, **config: Any) -> WallProvider:
            built = made()
            settings = relaxed(SandboxConfig(), built.capabilities).with_(**config)
            return WallProvider("mutant", built, settings, Runtime(discover_plugins=False))

        @contextmanager
        def showing(self, folder: str) -> Iterator[tuple[Session, str]]:
            with self.session() as session:
                yield session, folder

    return Checked()


def _again(way: str, mutant: Mutant) -> Mutant:
    """A mutant of E, broken in one circumstance alone."""
    made = mutant.make
    assert isinstance(made, functools.partial)
    return attrs.evolve(
        mutant,
        check=f"E12_{way}_{mutant.check}",
        make=functools.partial(_suite, *made.args, **made.keywords),
        needs=STRONG,
        alone=mutant.check,
    )


def _b4(way: str, name: str, sandbox: type[PlainSandbox]) -> Mutant:
    check = "environment_values_show_nowhere"
    return Mutant(
        name=name,
        check=f"B4_{way}_{check}",
        make=functools.partial(_suite, sandbox),
        needs=STRONG,
        alone=f"B4_{check}",
    )


#: Those of E whose check executes something.
_OF_E = [
    mutant
    for mutant in (*ISOLATING, *WITHOUT_GATEWAY)
    if mutant.clause.startswith("E")
    and not mutant.needs
    and hasattr(ProviderConformance, f"test_E12_overlapping_{mutant.check}")
]
#: After an attach one of each clause: what runs the check again is the same.
_ONE_EACH = {mutant.clause: mutant for mutant in reversed(_OF_E)}.values()

OVERLAPPING = [
    *[_again("overlapping", mutant) for mutant in _OF_E],
    *[_again("attached", mutant) for mutant in _ONE_EACH],
    _b4("overlapping", "another-environment", LosesTheEnvironment),
    _b4("overlapping", "environment-in-arguments", TellsTheEnvironment),
    _b4("attached", "environment-in-arguments", TellsTheEnvironment),
]
