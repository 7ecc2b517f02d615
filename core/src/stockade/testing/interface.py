"""A class of checks, as what stands around every check sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from stockade.capabilities import Feature
    from stockade.config import SandboxConfig
    from stockade.executions._execution import Execution
    from stockade.session import Session
    from stockade.sessions._providers import WallProvider
    from stockade.testing.programs import Program
    from stockade.testing.report.recorder import Recorder

__all__ = ["Situation", "Suite"]


class Situation(Protocol):
    """How the sessions of a check are made, in words (see ``circumstances``)."""

    words: str


class Suite(Protocol):
    """What :class:`stockade.testing.base.ConformanceBase` is to the modules below it; see there
    for the meanings."""

    provider: ClassVar[str]
    title: ClassVar[str]
    whole: ClassVar[bool]
    deviations: ClassVar[Mapping[str, str]]
    unsteady: ClassVar[Mapping[str, str]]
    time_factor: ClassVar[float]
    check_seconds: ClassVar[float]
    _recorder: ClassVar[Recorder | None]
    _unavailable: ClassVar[str | None]
    _slow_failures: ClassVar[int]
    _refused: tuple[str, ...]
    _unclaimed: bool
    _clause: str

    @property
    def circumstance(self) -> Situation: ...

    def make_provider(self, **config: Any) -> WallProvider: ...

    def open_session(self, **config: Any) -> Session: ...

    def patient(self, config: SandboxConfig) -> SandboxConfig: ...

    def stream(self, session: Session, program: Program, **options: Any) -> Execution: ...

    def need(self, *features: Feature) -> None: ...

    def scaled(self, seconds: float) -> float: ...
