"""What an execution needs of the session in which it runs.

Sessions are above executions: the registry's record is such a home, and nothing here
knows more of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from stockade.config import SandboxConfig
    from stockade.results import SandboxResult, SessionStatus, Verdict
    from stockade.wall import Sandbox

__all__ = ["Counted", "Home"]


class Counted(Protocol):
    """What makes a session executing: an execution, or a program on a terminal."""

    @property
    def execution_id(self) -> str: ...

    @property
    def future(self) -> Future[SandboxResult]:
        """Done once it has ended."""

    def stop(self, why: Verdict) -> None:
        """Begin to end it; returns at once."""

    def conclude(self) -> None:
        """The sandbox is gone: it has ended, whatever the wall does."""


class Home(Protocol):
    """A session, as an execution sees it."""

    session_id: str
    agent_id: str
    provider: str  #: the entry-point name
    config: SandboxConfig
    sandbox: Sandbox | None
    status: SessionStatus
    paused: bool
    pid: int  #: the process that opened it
    languages: tuple[str, ...] | None  #: interpreters found, once looked for
    interpreters: dict[str, str]

    def here(self) -> None:
        """Raise ForkedSessionError in any process but the one that opened it (C12)."""

    def counted(self) -> Sequence[Counted]:
        """Those that run now, in the order in which they were added."""

    def add(self, execution: Counted) -> None:
        """Count one more execution; raises SessionStateError if it executes nothing."""

    def discard(self, execution: Counted) -> None:
        """Count one less."""

    def fail(self, reason: str) -> None:
        """Mark it failed if its state allows."""
