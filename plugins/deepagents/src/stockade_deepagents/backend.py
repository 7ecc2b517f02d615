"""What ``create_deep_agent`` is given: a session, its artefacts in the working folder."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from deepagents.backends.composite import CompositeBackend
from deepagents.backends.protocol import BackendProtocol

import stockade
from stockade import Session
from stockade.aio import AsyncSession
from stockade_deepagents.opening import AGENT, aopened, checked, opened
from stockade_deepagents.sandbox import StockadeSandbox

__all__ = ["StockadeBackend"]


class StockadeBackend(CompositeBackend):
    """A sandbox for ``create_deep_agent(backend=…)``, over a session that is open.

    Large results and the history of a conversation land in the working folder, where commands
    and file tools find them by the path that the model reads. ``routes`` leads paths elsewhere,
    such as ``{"/memories/": StoreBackend()}``. Used as a context manager, ``with`` or
    ``async with``, it ends the session.
    """

    def __init__(
        self, session: Session, *, routes: Mapping[str, BackendProtocol] | None = None
    ) -> None:
        sandbox = StockadeSandbox(session)
        super().__init__(sandbox, dict(routes or {}), artifacts_root=sandbox.working_dir)
        self.session = session

    @classmethod
    def open(
        cls,
        provider: str | None = None,
        *,
        routes: Mapping[str, BackendProtocol] | None = None,
        **config: Any,
    ) -> StockadeBackend:
        """Open a session as ``stockade.open`` does, of the same strings and options.

        It has no lifetime unless one is stated. Raises what ``stockade.open`` raises, and
        UnsupportedError where there is no ``python3`` inside; both name strings that can.
        """
        return cls(opened(provider, config), routes=routes)

    @classmethod
    async def aopen(
        cls,
        provider: str | None = None,
        *,
        routes: Mapping[str, BackendProtocol] | None = None,
        **config: Any,
    ) -> StockadeBackend:
        """As ``open``, awaited; cancelling the await leaves no session."""
        return cls(await aopened(provider, config), routes=routes)

    @classmethod
    def attach(
        cls,
        session_id: str,
        *,
        agent_id: str = AGENT,
        routes: Mapping[str, BackendProtocol] | None = None,
    ) -> StockadeBackend:
        """A durable one that another process opened; raises what ``stockade.attach`` raises."""
        found = stockade.attach(session_id, agent_id=agent_id)
        return cls(checked(found, Session.detach), routes=routes)

    @property
    def id(self) -> str:
        """The session's id, for ``attach``."""
        return self.session.session_id

    def close(self) -> None:
        """End the session; may be called any number of times. Raises DestroyError."""
        self.session.close()

    async def aclose(self) -> None:
        """As ``close``, awaited."""
        await AsyncSession(self.session).close()

    def __enter__(self) -> StockadeBackend:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> StockadeBackend:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
