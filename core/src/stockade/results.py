"""The trait's data types: statuses, verdicts, results and handles; all immutable."""

from __future__ import annotations

import signal as signals
from collections.abc import Callable
from enum import Enum

import attrs

from stockade.values.display import CodeError, Display

__all__ = [
    "Chunk",
    "CodeError",
    "Display",
    "ExecutionHandle",
    "ExecutionStatus",
    "SandboxResult",
    "SessionHandle",
    "SessionStatus",
    "Stream",
    "Verdict",
    "signal_name",
]


class _Word(str, Enum):
    """An enum whose ``str()`` is its display word."""

    def __str__(self) -> str:
        return str(self.value)


class SessionStatus(_Word):
    """Where a session is in its life (C4)."""

    PROVISIONING = "provisioning"  #: its sandbox is being started
    READY = "ready"  #: nothing runs in it
    EXECUTING = "executing"  #: at least one execution runs in it
    DESTROYING = "destroying"  #: its sandbox is being ended
    DESTROYED = "destroyed"  #: nothing of it is left
    FAILED = "failed"  #: its sandbox died, or could not be ended; destroy it (again)


class ExecutionStatus(_Word):
    """Where an execution is; completed means that its command succeeded."""

    PENDING = "pending"  #: it has not started yet
    RUNNING = "running"  #: its program runs
    COMPLETED = "completed"  #: its program exited with code 0
    CANCELLED = "cancelled"  #: the caller, or the session's end, stopped it
    FAILED = "failed"  #: any other end


class Verdict(_Word):
    """How an execution ended (D3): exactly one holds."""

    EXITED = "exited"  #: the program exited, with any code
    #: A signal ended it that stockade did not send, or that a caller had it sent (D18).
    SIGNALLED = "signalled"
    TIMED_OUT = "timed out"  #: the deadline passed
    OUT_OF_MEMORY = "out of memory"  #: the memory limit was passed
    OUTPUT_LIMIT = "output limit"  #: it printed more than allowed, policy "end"
    CANCELLED = "cancelled"  #: the caller, or the end of the session, stopped it
    LOST = "lost"  #: the sandbox died; only in SandboxLostError.partial (D14)


class Stream(_Word):
    """Which of a program's two output streams."""

    STDOUT = "stdout"  #: standard output
    STDERR = "stderr"  #: standard error


#: Verdicts under which something other than the program itself ended it.
_KILLED = frozenset(
    {
        Verdict.SIGNALLED,
        Verdict.TIMED_OUT,
        Verdict.OUT_OF_MEMORY,
        Verdict.OUTPUT_LIMIT,
        Verdict.CANCELLED,
        Verdict.LOST,
    }
)


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9; ``SIG64`` where the host has no name for the number."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"SIG{number}"


@attrs.frozen
class Chunk:
    """One piece of live output (D13, D18): which stream, and its exact bytes."""

    stream: Stream  #: the one that it came from
    data: bytes  #: its exact bytes (D4)
    #: Where it begins in the output of both streams, in the order in which it came.
    offset: int = attrs.field(default=0, kw_only=True)
    #: Bytes just before it that this reader cannot have any more. The last piece of all may
    #: have nothing but these.
    dropped: int = attrs.field(default=0, kw_only=True)

    @property
    def end(self) -> int:
        """The offset from which a later reader goes on."""
        return self.offset + len(self.data)

    @property
    def text(self) -> str:
        """The piece decoded as UTF-8 with replacement; a cut character shows as U+FFFD."""
        return self.data.decode("utf-8", "replace")


@attrs.frozen(kw_only=True)
class SandboxResult:
    """How one execution ended, and what it printed.

    The trait's seven fields come first; ``success``, ``killed`` and
    ``kill_reason`` follow from the verdict and the exit code (D3), ``stdout``
    and ``stderr`` decode the bytes as UTF-8 with replacement (D4).
    """

    exit_code: int  #: the program's own, or 128+n after signal n (D2)
    verdict: Verdict = attrs.field(default=Verdict.EXITED, converter=Verdict)  #: how it ended (D3)
    signal: int | None = None  #: the signal that ended it, if one did
    stdout_bytes: bytes = b""  #: standard output, as far as it was kept (D5)
    stderr_bytes: bytes = b""  #: standard error, as far as it was kept
    duration_seconds: float = 0.0  #: seconds from the start to the end, by this machine
    stdout_total_bytes: int = 0  #: how many the program wrote, kept or not (D5)
    stderr_total_bytes: int = 0  #: the same of standard error
    stdout_truncated: bool = False  #: whether some were dropped
    stderr_truncated: bool = False  #: the same of standard error
    #: Where in ``stdout_bytes`` bytes are missing (at its end, its beginning or between the head
    #: and the tail, by ``output_keep``); None if none are (D5).
    stdout_gap: int | None = None
    stderr_gap: int | None = None  #: the same of standard error
    #: The value of the last expression of code in a named interpreter (D20). None if that is
    #: None or there is no such expression.
    value: Display | None = None
    displays: tuple[Display, ...] = ()  #: what that code displayed beside its value, in order
    #: Whether some of it was dropped: past the output limit, or not in the form expected.
    displays_truncated: bool = False
    error: CodeError | None = None  #: the exception that nobody caught, if one ended that code

    @property
    def success(self) -> bool:
        """The program exited with code 0."""
        return self.verdict is Verdict.EXITED and self.exit_code == 0

    @property
    def killed(self) -> bool:
        """Something other than the program itself ended it."""
        return self.verdict in _KILLED

    @property
    def kill_reason(self) -> str | None:
        """The verdict's word, or the signal's name; None when it was not killed."""
        if self.verdict is Verdict.SIGNALLED:
            return self.signal_name
        return str(self.verdict) if self.killed else None

    @property
    def signal_name(self) -> str | None:
        """The signal's name, such as ``SIGKILL``, or None."""
        return None if self.signal is None else signal_name(self.signal)

    @property
    def stdout(self) -> str:
        """Standard output decoded as UTF-8, with U+FFFD for what is none (D4)."""
        return self.stdout_bytes.decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        """Standard error decoded as UTF-8, with U+FFFD for what is none (D4)."""
        return self.stderr_bytes.decode("utf-8", "replace")

    @property
    def stdout_dropped_bytes(self) -> int:
        """How many bytes of standard output are missing in ``stdout_bytes``."""
        return self.stdout_total_bytes - len(self.stdout_bytes)

    @property
    def stderr_dropped_bytes(self) -> int:
        """How many bytes of standard error are missing in ``stderr_bytes``."""
        return self.stderr_total_bytes - len(self.stderr_bytes)

    @property
    def truncated(self) -> bool:
        """Whether either stream lost bytes to the output limit."""
        return self.stdout_truncated or self.stderr_truncated


@attrs.frozen(eq=False, repr=False)
class SessionHandle:
    """The trait's name for a session: pass its ids to the provider's methods.

    ``status`` is the session's present state, not a copy from creation (C4): a
    provider hands in ``live``, which is asked each time. A copy stays live; a pickle
    holds the state of its moment. Handles are equal while ids and states are (B5).
    """

    agent_id: str  #: the agent that it belongs to, as the provider was given it
    session_id: str  #: random, of 128 bits (C2)
    _status: SessionStatus = attrs.field(default=SessionStatus.READY, alias="status")
    _live: Callable[[], SessionStatus] | None = attrs.field(default=None, alias="live")

    @property
    def status(self) -> SessionStatus:
        """The session's state at this moment; of a pickled handle the state when it was pickled."""
        return self._status if self._live is None else self._live()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SessionHandle):
            return NotImplemented
        return (self.agent_id, self.session_id, self.status) == (
            other.agent_id,
            other.session_id,
            other.status,
        )

    def __hash__(self) -> int:
        return hash((self.agent_id, self.session_id))

    def __copy__(self) -> SessionHandle:
        return self  # immutable, as text is

    def __deepcopy__(self, _: object) -> SessionHandle:
        return self

    def __reduce__(self) -> tuple[type[SessionHandle], tuple[str, str, SessionStatus]]:
        return SessionHandle, (self.agent_id, self.session_id, self.status)

    def __repr__(self) -> str:
        return (
            f"SessionHandle(agent_id={self.agent_id!r}, session_id={self.session_id!r}, "
            f"status={self.status!r})"
        )


@attrs.frozen
class ExecutionHandle:
    """The trait's record of one execution."""

    execution_id: str  #: random, of 128 bits (C2)
    agent_id: str  #: the agent that the session belongs to
    session_id: str  #: the session that it ran in
    status: ExecutionStatus  #: where it is; a handle of the trait's is always of an ended one
    result: SandboxResult | None = None  #: None while it has none
