"""Opening sessions that can serve deepagents; where a wall cannot, the message names others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import stockade
from stockade import Session
from stockade.aio.files import call_awaited
from stockade.errors import ProviderUnavailableError, StockadeError, UnsupportedError

__all__ = ["AGENT", "aopened", "checked", "opened"]

#: The agent whose sessions are, in listings and for policies.
AGENT = "deepagents"
#: What the framework cannot do without.
_NEEDS = ("argv", "files")
#: Agents take as long as their models take.
_USUAL = {"lifetime_seconds": None}
#: Of what ``stockade.open`` takes, what is no field of the configuration.
_OURS = ("agent_id", "needs", "runtime", "snapshot")
#: What the framework's file tools import; small images have a Python that lacks some of it.
_LOOK = "python3 -c 'import base64, fnmatch, glob, json'"


def opened(provider: str | None, config: Mapping[str, Any]) -> Session:
    """A session; blocking. Raises StockadeError."""
    fields = _fields(provider, config)
    try:
        session = stockade.open(provider, **fields)
    except (UnsupportedError, ProviderUnavailableError) as error:
        _advise(error, config)
        raise
    return checked(session)


async def aopened(provider: str | None, config: Mapping[str, Any]) -> Session:
    """As ``opened``; cancelling the await leaves no session."""
    runtime = config.get("runtime") or stockade.default_runtime()
    return await call_awaited(runtime, lambda: opened(provider, config), undo=Session.close)


def checked(session: Session, let_go: Callable[[Session], None] = Session.close) -> Session:
    """The session, where the framework's file tools can work in it; else it is let go of, and
    UnsupportedError raised."""
    try:
        if not session.run(["sh", "-c", _LOOK], timeout=60).success:
            raise _without_python(session)
    except BaseException:
        let_go(session)
        raise
    return session


def _fields(provider: str | None, config: Mapping[str, Any]) -> dict[str, Any]:
    """Of the configuration: what is stated, and what is usual where nobody stated it."""
    usual = {} if "lifetime_seconds=" in (provider or "") else _USUAL
    return {"agent_id": AGENT, "needs": _NEEDS, **usual, **config}


def _without_python(session: Session) -> UnsupportedError:
    fields = session.provider.config
    return UnsupportedError(
        f"{session.provider.name} has no python3 inside, or none with its standard library, and "
        "deepagents' file tools are programs in Python: take an image that has it, such as "
        f"docker:python:3.12-slim.{_able({'durable': fields.durable})}"
    )


def _advise(error: StockadeError, config: Mapping[str, Any]) -> None:
    """Have it name the provider strings that can; whether it may be tried again stays."""
    asked = {name: value for name, value in config.items() if name not in _OURS}
    error.args = (f"{error}{_able(asked)}",)


def _able(config: Mapping[str, Any]) -> str:
    names = stockade.suitable_providers(needs=_NEEDS, **config)
    return f" Here these can: {', '.join(names) or 'none'}."
