"""Attaching to durable sessions that other processes opened (C10)."""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping
from typing import Any

from stockade.errors import (
    ForkedSessionError,
    LedgerError,
    SandboxStartError,
    SessionNotFoundError,
    SessionStateError,
    StockadeError,
    UnsupportedError,
    WallError,
)
from stockade.events import EventKind
from stockade.ledger._sqlite import LedgerRecord, SqliteLedger
from stockade.results import SessionStatus
from stockade.sessions._providers import WallProvider, provider_at
from stockade.sessions._providers import provider as select
from stockade.sessions._registry import SessionRecord
from stockade.sessions._requests import Requests
from stockade.sessions._runtime import Runtime
from stockade.system.threads import bounded
from stockade.values.ids import agent_hash, check_agent_id
from stockade.values.shown import named
from stockade.wall import AttachRequest, Sandbox

__all__ = ["attached", "entered"]


def attached(
    runtime: Runtime, session_id: str, agent_id: str, env_vars: Mapping[str, str] | None
) -> tuple[WallProvider, SessionRecord]:
    """The record of a durable session, attached to, and its provider; see ``stockade.attach``."""
    check_agent_id(agent_id)
    held = _held(runtime, agent_id, session_id)
    if held is not None:
        return select(held.string, runtime=runtime), held
    seen = _look_up(_ledger(runtime), agent_id, session_id)
    changes: dict[str, Any] = {} if env_vars is None else {"env_vars": env_vars}
    chosen = provider_at(seen.string, seen.place, runtime=runtime, **changes)
    return chosen, entered(chosen, agent_id, seen.session_id)


def _held(runtime: Runtime, agent_id: str, session_id: str) -> SessionRecord | None:
    """The record, where this process has the session already."""
    try:
        return runtime.registry.get(agent_id, session_id)
    except (SessionNotFoundError, ForkedSessionError):  # the parent's is not held here
        return None


def _ledger(runtime: Runtime) -> SqliteLedger:
    if runtime.ledger is None:
        raise LedgerError(
            "attaching needs the ledger that the session was opened with, and this runtime has "
            "none: leave STOCKADE_LEDGER=off out, or make it with Runtime(ledger=SqliteLedger())."
        )
    return runtime.ledger


def _look_up(ledger: SqliteLedger, agent_id: str, session_id: str) -> LedgerRecord:
    seen = ledger.session(session_id) if isinstance(session_id, str) else None
    if seen is None or not hmac.compare_digest(seen.agent, agent_hash(agent_id)):
        raise SessionNotFoundError(session_id)
    if not seen.durable:
        raise UnsupportedError(
            f"session {session_id} lives in the process that opened it alone; open it with "
            "durable=True, on a wall that can (docker, gvisor, kata), to attach to it."
        )
    if seen.expires_at is not None and seen.expires_at <= time.time():
        raise SessionNotFoundError(session_id)
    return seen


def entered(chosen: WallProvider, agent_id: str, session_id: str) -> SessionRecord:
    """The record of a session that a provider at hand attaches to."""
    runtime = chosen.runtime
    ledger = _ledger(runtime)
    runtime.hooks.load()
    entered = ledger.attach(session_id)
    if entered is None:
        now = ledger.session(session_id)
        if now is None:
            raise SessionNotFoundError(session_id)
        why = f" ({now.reason})" if now.reason else ""
        raise SessionStateError(
            f"session {session_id} is {now.state}{why} and cannot be attached to; destroy it, or "
            "open a new one."
        )
    try:
        seen, slot = entered
        record = _record(chosen, agent_id, seen)
        record.sandbox = _sandbox(runtime, chosen, record, slot)
        record.paused = record.sandbox.is_paused()
        runtime.registry.adopt(record)
        record.move(SessionStatus.READY)
    except BaseException:
        ledger.detach(session_id)
        raise
    runtime.limit_life(record)
    runtime.reporter.report(EventKind.SESSION_ATTACHED, chosen.name, agent_id, record)
    return record


def _record(chosen: WallProvider, agent_id: str, entered: LedgerRecord) -> SessionRecord:
    return SessionRecord(
        entered.session_id,
        agent_id,
        chosen.name,
        chosen.wall.target,
        chosen.config,
        entered.string,
        place=entered.place,
        created_at=entered.created_at,
        expires_at=entered.expires_at,
        attached=True,
    )


def _sandbox(runtime: Runtime, chosen: WallProvider, record: SessionRecord, slot: int) -> Sandbox:
    request = AttachRequest(
        session_id=record.session_id,
        agent_hash=agent_hash(record.agent_id),
        target=chosen.wall.target,
        config=chosen.config,
        options=chosen.wall.chosen,
        expires_at=record.expires_at,
        owner=runtime.owner,
        slot=slot,
        watch=Requests(record, runtime.hooks, runtime.reporter),
    )
    seconds = chosen.config.startup_timeout_seconds
    try:
        sandbox: object = bounded(
            runtime.workers,
            lambda: chosen.wall.attach(request),
            seconds,
            late=lambda late: late.detach(),
        )
    except StockadeError:
        raise
    except TimeoutError as error:
        raise SandboxStartError(
            f"{chosen.name} did not reach session {record.session_id} within {seconds:g} s; "
            "try again, or see `stockade doctor`."
        ) from error
    except Exception as error:
        raise SandboxStartError(
            f"{chosen.name} failed to reach session {record.session_id}: "
            f"{named(error)}; see `stockade doctor -p {chosen.name}`."
        ) from error
    if not isinstance(sandbox, Sandbox):
        raise WallError(
            f"attach() of {chosen.name} returned {sandbox!r}, not a Sandbox; report it to its "
            "author."
        )
    return sandbox
