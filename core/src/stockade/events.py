"""What happens to sessions and executions, as observers are notified of it."""

from __future__ import annotations

import time
from enum import Enum

import attrs

from stockade.results import Verdict

__all__ = ["Event", "EventKind"]


class EventKind(str, Enum):
    """What happened; the value is the word in logs."""

    SESSION_CREATING = "session.creating"
    SESSION_READY = "session.ready"
    SESSION_DESTROYING = "session.destroying"
    SESSION_DESTROYED = "session.destroyed"
    SESSION_FAILED = "session.failed"
    SESSION_REFUSED = "session.refused"
    SESSION_ATTACHED = "session.attached"  #: to one that another process made
    SESSION_DETACHED = "session.detached"  #: it lives on without this process
    SESSION_COLLECTED = "session.collected"  #: by gc; the agent's id is not known then, and empty
    EXECUTION_STARTED = "execution.started"
    EXECUTION_FINISHED = "execution.finished"
    EXECUTION_FAILED = "execution.failed"
    EXECUTION_REFUSED = "execution.refused"
    POOL_HIT = "pool.hit"  #: a pool handed out a started session
    POOL_MISS = "pool.miss"  #: none was ready, or policies changed what was asked for

    def __str__(self) -> str:
        return self.value


@attrs.frozen(kw_only=True)
class Event:
    """One change. It never carries environment values, input, code or output (B4)."""

    kind: EventKind
    provider: str  #: the entry-point name
    agent_id: str
    session_id: str | None = None
    execution_id: str | None = None
    time: float = attrs.field(factory=time.time)  #: Unix seconds
    #: Of the execution, of the creation, or of the session's whole life.
    duration_seconds: float | None = None
    verdict: Verdict | None = None
    exit_code: int | None = None
    stdout_bytes: int | None = None  #: how many were written, kept or not
    stderr_bytes: int | None = None
    form: str | None = None  #: argv, shell, code or terminal
    reason: str | None = None  #: why it failed or was refused

    @property
    def pooled(self) -> bool:
        """Whether it is about a pool's session that waits and is nobody's yet."""
        return self.agent_id.startswith("\0")
