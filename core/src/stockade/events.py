"""What happens to sessions and executions, as observers are notified of it."""

from __future__ import annotations

import time
from enum import Enum

import attrs

from stockade.results import Verdict

__all__ = ["Event", "EventKind"]


class EventKind(str, Enum):
    """What happened; the value is the word in logs."""

    SESSION_CREATING = "session.creating"  #: policies let it pass, its sandbox is about to start
    SESSION_READY = "session.ready"  #: its sandbox has started
    SESSION_DESTROYING = "session.destroying"  #: its sandbox is about to be ended
    SESSION_DESTROYED = "session.destroyed"  #: nothing of it is left
    #: it did not start, or could not be ended
    SESSION_FAILED = "session.failed"
    #: by a policy, a limit or the wall, before anything started
    SESSION_REFUSED = "session.refused"
    SESSION_ATTACHED = "session.attached"  #: to one that another process made
    SESSION_DETACHED = "session.detached"  #: it lives on without this process
    SESSION_COLLECTED = "session.collected"  #: by gc; the agent's id is not known then, and empty
    EXECUTION_STARTED = "execution.started"  #: policies let it pass, the wall is about to start it
    EXECUTION_FINISHED = "execution.finished"  #: it has a result, whatever its exit code
    EXECUTION_FAILED = "execution.failed"  #: it raised: the sandbox or the wall failed
    EXECUTION_REFUSED = "execution.refused"  #: by a policy, before it started
    #: a program asked a host, by the gateway of its sandbox: answered, refused or failed
    REQUEST_ENDED = "request.ended"
    POOL_HIT = "pool.hit"  #: a pool handed out a started session
    POOL_MISS = "pool.miss"  #: none was ready, or policies changed what was asked for

    def __str__(self) -> str:
        return self.value


@attrs.frozen(kw_only=True)
class Event:
    """One change. It never carries environment values, input, code or output (B4)."""

    kind: EventKind  #: what happened
    provider: str  #: the entry-point name
    agent_id: str  #: whose session it is
    session_id: str | None = None  #: None of a session that was refused before it had an id
    execution_id: str | None = None  #: None of events of the session
    time: float = attrs.field(factory=time.time)  #: Unix seconds
    #: Seconds of the execution, of the creation, or of the session's whole life.
    duration_seconds: float | None = None
    verdict: Verdict | None = None  #: how a finished execution ended (D3)
    exit_code: int | None = None  #: of a finished execution
    stdout_bytes: int | None = None  #: how many were written, kept or not
    stderr_bytes: int | None = None  #: the same of standard error
    form: str | None = None  #: argv, shell, code or terminal
    reason: str | None = None  #: why it failed or was refused
    host: str | None = None  #: of a request: the name that was asked for
    #: A request's method; ``CONNECT`` if the gateway carries TLS that it does not read.
    method: str | None = None
    outcome: str | None = None  #: of a request: ``carried``, ``refused`` or ``failed``
    status: int | None = None  #: of a request: the server's answer, if the gateway reads it
    secrets: tuple[str, ...] | None = None  #: of a request: the names of those that it carried

    @property
    def pooled(self) -> bool:
        """Whether it is about a pool's session that waits and is nobody's yet."""
        return self.agent_id.startswith("\0")
