"""Using a durable session that another process opened (``stockade.attach``, C10)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from stockade.session._session import DEFAULT_AGENT, Session
from stockade.sessions._attaching import attached, entered
from stockade.sessions._runtime import default_runtime

if TYPE_CHECKING:
    from stockade.sessions._providers import WallProvider
    from stockade.sessions._runtime import Runtime

__all__ = ["attach", "enter"]


def attach(
    session_id: str,
    *,
    agent_id: str = DEFAULT_AGENT,
    runtime: Runtime | None = None,
    env_vars: Mapping[str, str] | None = None,
) -> Session:
    """The durable session of that id, opened by this process or another (C10).

    Any number of processes may hold it at once, each with executions of its own. Closing it in
    one ends it for all, and ``detach`` leaves it. Environment values are not kept, so give
    ``env_vars`` again if executions need them. Raises SessionNotFoundError for
    an unknown session and for another agent's alike (C3), UnsupportedError for one that
    lives in its own process alone, SandboxLostError, SandboxStartError, LedgerError, and
    what selecting the provider raises.

        session = stockade.open("docker", durable=True)
        session.detach()
        …
        session = stockade.attach(session.session_id)  # here, or in another process
    """
    return Session(*attached(runtime or default_runtime(), session_id, agent_id, env_vars))


def enter(chosen: WallProvider, agent_id: str, session_id: str) -> Session:
    """Attach by a provider that is at hand: the one that opened the session, or its like.

    Called by the conformance suite, whose providers need not have a string. Raises what
    :func:`attach` raises.
    """
    return Session(chosen, entered(chosen, agent_id, session_id))
