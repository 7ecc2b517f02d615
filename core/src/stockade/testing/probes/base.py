"""What a measurement is, and the bench that probes work on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from enum import Enum
from typing import Any

import attrs

from stockade.capabilities import Capabilities, Feature, Level, refusals
from stockade.config import SandboxConfig
from stockade.errors import StockadeError
from stockade.results import SandboxResult, SessionStatus
from stockade.session import Session
from stockade.sessions._providers import WallProvider
from stockade.values.shown import named

__all__ = ["Bench", "Measured", "Measurement", "Outcome", "Probe", "held_if", "relaxed"]


class Outcome(str, Enum):
    """What a probe found."""

    HELD = "held"  #: what is claimed holds
    BROKEN = "did not hold"  #: what is claimed does not hold
    UNKNOWN = "not measurable here"  #: the detail says why
    NOT_CLAIMED = "not claimed"  #: the wall does not claim it, so nothing was tried

    def __str__(self) -> str:
        return self.value


@attrs.frozen
class Measured:
    """A probe's answer: the outcome, and what was seen."""

    outcome: Outcome
    detail: str = ""


@attrs.frozen(kw_only=True)
class Probe:
    """One thing that can be measured from inside a sandbox."""

    name: str  #: what is measured, in words
    clause: str  #: the clause of the contract
    #: The feature whose claim decides; None binds every wall.
    feature: Feature | None
    #: measures on a bench; what it raises is the outcome UNKNOWN
    run: Callable[[Bench], Measured] = attrs.field(repr=False)
    #: Whether measuring makes sense without the claim too, since it harms nobody.
    unclaimed: bool = False


@attrs.frozen(kw_only=True)
class Measurement:
    """Claimed beside measured, for one probe."""

    name: str  #: of the probe: what was measured, in words
    clause: str  #: the clause of the contract
    feature: Feature | None  #: the feature whose claim decides, or None
    claimed: Level | None  #: None: the contract asks it of every wall
    outcome: Outcome  #: what was found
    detail: str = ""  #: what was seen, or why nothing was

    @property
    def broken(self) -> bool:
        """It is claimed, or asked of every wall, and does not hold."""
        return self.outcome is Outcome.BROKEN and self.claimed is not Level.UNSUPPORTED


def held_if(condition: bool, detail: str) -> Measured:
    return Measured(Outcome.HELD if condition else Outcome.BROKEN, detail)


def relaxed(
    config: SandboxConfig, have: Capabilities, *, also: Collection[str] = ()
) -> SandboxConfig:
    """``config`` without those defaults that ``have`` lacks, so that the rest can be measured.

    What was asked for beyond them stays, and is refused. ``also`` names fields that need
    not.
    """
    plain = SandboxConfig()
    changes: dict[str, Any] = {
        need.field: need.lifted
        for need in refusals(config, have)
        if need.field in also or getattr(config, need.field) == getattr(plain, need.field)
    }
    hosts = [name for name in ("network_allow", "secrets") if getattr(config, name)]
    if not changes.keys() >= {*hosts}:
        changes.pop("network_enabled", None)  # what was asked for needs it as it is
    return config.with_(**changes)


class Bench:
    """A provider with an open session, handed to every probe; close it at the end.

    The session asks for all that the wall claims, and is opened anew where a
    probe lost it.
    """

    def __init__(self, provider: WallProvider, agent_id: str) -> None:
        self.provider = provider
        self.config = relaxed(provider.config, provider.wall.capabilities)
        self._agent_id = agent_id
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        if self._session is not None and self._session.status is SessionStatus.FAILED:
            self.close()
        if self._session is None:
            self._session = self._open(self.config)
        return self._session

    def sh(
        self, script: str, *, session: Session | None = None, timeout: float = 30.0, **more: Any
    ) -> SandboxResult:
        """Run a shell script inside, in the working folder."""
        return (session or self.session).shell(script, timeout=timeout, **more)

    def claims(self, feature: Feature) -> bool:
        return bool(self.provider.wall.capabilities[feature])

    @contextlib.contextmanager
    def another(self, **changes: Any) -> Iterator[Session]:
        """A second session, with other limits where the wall claims them."""
        asked = self.config.with_(**changes)
        config = relaxed(asked, self.provider.wall.capabilities, also=changes)
        session = self._open(config)
        try:
            yield session
        finally:
            session.close()

    def _open(self, config: SandboxConfig) -> Session:
        return Session(self.provider, self.provider.open_record(self._agent_id, config))

    def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()


def attempt(probe: Probe, bench: Bench) -> Measured:
    """What a probe found; an error on the way is an answer too."""
    try:
        return probe.run(bench)
    except StockadeError as error:
        return Measured(Outcome.BROKEN, named(error))
