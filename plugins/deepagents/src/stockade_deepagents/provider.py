"""The sandbox provider ``stockade`` of Deep Agents Code, found by its entry point."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from deepagents_code.integrations.sandbox_provider import (
    SandboxInstallHint,
    SandboxNotFoundError,
    SandboxProvider,
    SandboxProviderMetadata,
)

import stockade
from stockade import Session
from stockade.aio.files import call_awaited
from stockade.errors import ProviderUnavailableError, SessionNotFoundError, UnsupportedError
from stockade_deepagents.opening import AGENT, aopened, checked, opened
from stockade_deepagents.sandbox import StockadeSandbox

__all__ = ["StockadeProvider"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_FOLDER = "/workspace"
_DAY = 86_400.0


class StockadeProvider(SandboxProvider):
    """Sandboxes by stockade's provider strings; the framework makes one where it needs one.

    ``params`` of the framework's configuration file are ``provider`` (a provider string, by
    default STOCKADE_PROVIDER, else ``local``) and fields of the configuration. Sandboxes are
    durable where the wall can: another process reaches them by their ids until somebody
    deletes them. Elsewhere they end with this process, which a warning says.
    """

    def __init__(self) -> None:
        self._open: dict[str, Session] = {}

    @property
    def metadata(self) -> SandboxProviderMetadata:
        """What the framework shows of it before there is a sandbox."""
        return SandboxProviderMetadata(
            name="stockade",
            working_dir=_FOLDER,
            install=SandboxInstallHint(kind="package", name="stockade-deepagents"),
        )

    def get_or_create(
        self, *, sandbox_id: str | None = None, provider: str | None = None, **kwargs: Any
    ) -> StockadeSandbox:
        """Attach to the sandbox of that id, or open one. Raises SandboxNotFoundError,
        StockadeError."""
        if sandbox_id is not None:
            return StockadeSandbox(self._held(sandbox_id))
        lasting = _lasting(provider, kwargs)
        if lasting is not None:
            with contextlib.suppress(UnsupportedError, ProviderUnavailableError):
                return self._kept(opened(provider, lasting))
        return self._ending(opened(provider, kwargs), _stated(provider, kwargs))

    async def aget_or_create(
        self, *, sandbox_id: str | None = None, provider: str | None = None, **kwargs: Any
    ) -> StockadeSandbox:
        """As ``get_or_create``; cancelling the await leaves no sandbox."""
        if sandbox_id is not None:
            return StockadeSandbox(await _awaited(lambda: self._held(sandbox_id)))
        lasting = await _awaited(lambda: _lasting(provider, kwargs))
        if lasting is not None:
            with contextlib.suppress(UnsupportedError, ProviderUnavailableError):
                return self._kept(await aopened(provider, lasting))
        return self._ending(await aopened(provider, kwargs), _stated(provider, kwargs))

    def delete(self, *, sandbox_id: str, **kwargs: Any) -> None:
        """End the sandbox of that id, with what runs in it. Raises SandboxNotFoundError."""
        self._held(sandbox_id).close()
        self._open.pop(sandbox_id, None)

    async def adelete(self, *, sandbox_id: str, **kwargs: Any) -> None:
        """As ``delete``, awaited."""
        await _awaited(lambda: self.delete(sandbox_id=sandbox_id))

    def _kept(self, session: Session) -> StockadeSandbox:
        self._open[session.session_id] = session
        return StockadeSandbox(session)

    def _ending(self, session: Session, stated: bool) -> StockadeSandbox:
        if not stated:
            _log.warning(
                "This sandbox will end with this process, and --sandbox-id will not reach it: %s "
                "is not durable here.",
                session.provider.name,
            )
        return self._kept(session)

    def _held(self, sandbox_id: str) -> Session:
        if sandbox_id not in self._open:
            try:
                found = stockade.attach(sandbox_id, agent_id=AGENT)
            except SessionNotFoundError as error:
                raise SandboxNotFoundError(str(error)) from error
            self._open[sandbox_id] = checked(found, Session.detach)
        return self._open[sandbox_id]


def _stated(provider: str | None, fields: dict[str, Any]) -> bool:
    return "durable" in fields or "durable=" in (provider or "")


def _lasting(provider: str | None, stated: dict[str, Any]) -> dict[str, Any] | None:
    """The same, and durable, for a day where nobody said how long; None where it is stated, or
    where no wall can. One that can may fail to start, and the next one named may not hold it."""
    if _stated(provider, stated):
        return None
    try:
        stockade.provider(provider, needs=("durable",), **stated)
    except (UnsupportedError, ProviderUnavailableError):
        return None
    lasting = {} if "lifetime_seconds=" in (provider or "") else {"lifetime_seconds": _DAY}
    return {**lasting, **stated, "durable": True}


async def _awaited(call: Callable[[], _T]) -> _T:
    return await call_awaited(stockade.default_runtime(), call)
