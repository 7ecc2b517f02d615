"""The trait: the interface that every provider has, whatever it is made of."""

from __future__ import annotations

import abc
from collections.abc import Sequence

from stockade.config import SandboxConfig
from stockade.errors import UnsupportedError
from stockade.results import ExecutionHandle, SandboxResult, SessionHandle

__all__ = ["SandboxProvider"]


class SandboxProvider(abc.ABC):
    """Runs code for agents in sessions. Safe from any thread (C8).

    Core's :func:`stockade.provider` gives one for any installed wall. A class
    that brings a whole provider of its own, without a wall, may derive from it.
    """

    @abc.abstractmethod
    def create_session(self, agent_id: str, config: SandboxConfig | None = None) -> SessionHandle:
        """Start a sandbox for an agent and return when it is ready.

        ``config`` defaults to the provider's own. Raises ConfigError,
        UnsupportedError, ProviderUnavailableError, PolicyRefusedError,
        SandboxStartError; none leaves anything behind (C5).
        """

    @abc.abstractmethod
    def execute_code(self, agent_id: str, session_id: str, code: str) -> ExecutionHandle:
        """Run a shell line in the session and return when it has ended (D1).

        Raises SessionNotFoundError, SessionStateError, SandboxLostError.
        """

    @abc.abstractmethod
    def destroy_session(self, agent_id: str, session_id: str) -> None:
        """End the session and all that runs in it (C7).

        Raises SessionNotFoundError, or DestroyError, after which the session is
        still there, marked failed, and can be destroyed again (C6).
        """

    @abc.abstractmethod
    def is_available(self) -> bool:
        """Whether the provider can serve here and now; bounded in time, never raises (A8)."""

    def run(
        self, agent_id: str, command: Sequence[str], config: SandboxConfig | None = None
    ) -> SandboxResult:
        """Run one command in a sandbox of its own, which is gone afterwards.

        Raises UnsupportedError if the provider has no raw commands.
        """
        raise UnsupportedError(
            f"{type(self).__name__} runs no raw commands; "
            "use create_session, execute_code and destroy_session."
        )
