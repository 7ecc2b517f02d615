"""What core and walls hand each other: immutable requests and answers, and where output goes.

Authors import these names from :mod:`stockade.wall`. Requests are objects, so that a
new field never changes a signature.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Protocol

import attrs

from stockade.config import SandboxConfig
from stockade.results import Stream

__all__ = [
    "AttachRequest",
    "Availability",
    "Changes",
    "Check",
    "ExecRequest",
    "Exit",
    "Form",
    "Language",
    "OpenRequest",
    "Option",
    "OutgoingRequest",
    "Output",
    "RequestEnd",
    "RequestOutcome",
    "RequestWatch",
    "TerminalRequest",
]


class Form(str, Enum):
    """The three forms of a request, never confused (D1)."""

    ARGV = "argv"  #: an argument vector; no shell reads it
    SHELL = "shell"  #: a line for ``sh``
    CODE = "code"  #: code in a named language

    def __str__(self) -> str:
        return self.value


@attrs.frozen(kw_only=True)
class OutgoingRequest:
    """What a program asks of a host, as the gateway reads it; it never holds a value (E11)."""

    host: str  #: the name that was asked for
    port: int  #: of the host
    method: str  #: ``CONNECT`` for a tunnel that is not read, ``SIGN`` for a login by SSH
    path: str = ""  #: without its query; empty of a tunnel, of a login the user
    secrets: tuple[str, ...] = ()  #: the names of those that it carries


class RequestOutcome(str, Enum):
    """What became of it."""

    CARRIED = "carried"  #: the server answered, whatever its status
    REFUSED = "refused"  #: by the allow-list, the gateway or a policy
    FAILED = "failed"  #: no answer: the server, its certificate, the secret's source

    def __str__(self) -> str:
        return self.value


@attrs.frozen(kw_only=True)
class RequestEnd:
    """What there is to say of a request that is over."""

    outcome: RequestOutcome  #: what became of it
    seconds: float  #: that it took, its answer included
    status: int | None = None  #: the server's, where the gateway reads it
    reason: str | None = None  #: why it was refused or failed


class RequestWatch(Protocol):
    """Who is asked about requests and notified of them; core's, safe from any thread."""

    def judge(self, request: OutgoingRequest) -> None:
        """Called before anything reaches the host, in the thread that carries the request.
        Raises a StockadeError, whose words the program is given, to refuse it."""

    def ended(self, request: OutgoingRequest, end: RequestEnd) -> None:
        """It is over; never raises."""


@attrs.frozen(kw_only=True)
class OpenRequest:
    """Everything a wall needs to start one sandbox."""

    session_id: str  #: random, fit for a name: letters, digits, ``-``
    agent_hash: str  #: a hash of the agent's id; the id itself never reaches a wall (C1)
    target: str | None  #: the wall's own word for what runs, or None for its default
    config: SandboxConfig  #: checked, within what the wall claims; policies let it pass
    options: Mapping[str, Any] = attrs.field(factory=dict)  #: the wall's own, converted
    #: Unix time after which the session is over, for walls that can hold it inside (C11).
    #: None for a session of a pool too, until ``Sandbox.expire_at`` sets it.
    expires_at: float | None = None
    #: The process that it is made for: a wall writes it where ``leftovers`` finds it (C9).
    owner: str = ""
    #: For a wall with a gateway: who judges what programs ask of hosts (``stockade_request``).
    watch: RequestWatch | None = attrs.field(default=None, eq=False, repr=False)


@attrs.frozen(kw_only=True)
class AttachRequest(OpenRequest):
    """A durable sandbox that runs already, to be used by one more process (C10)."""

    #: Which of the processes that use it this is: small, and no other that may live has the
    #: same (the one that opened it has 0), for a wall that must distinguish their programs.
    slot: int = 1


@attrs.frozen(kw_only=True)
class Language:
    """A language that code may be in, and how a program inside comes to run it (D1).

    Core knows six; plug-ins bring more (``stockade_languages``).
    """

    name: str  #: as callers write it, in lower case
    programs: tuple[str, ...]  #: the interpreters inside, the preferred one first
    aliases: tuple[str, ...] = ()  #: other words for it, in lower case
    #: Arguments of the interpreter before the path of a file that holds the code, such as
    #: ``("-f",)``; none if the path alone is enough.
    file_arguments: tuple[str, ...] = ()
    #: Arguments with which the interpreter takes its code from the head of its standard input,
    #: so many bytes as one more argument says, and leaves the rest to the code. For walls
    #: without a supervisor, which refuse the language where this is empty.
    reader: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class ExecRequest:
    """One execution. What core hands to a wall is checked and complete."""

    execution_id: str  #: random, fit for a name: letters, digits, ``-``
    form: Form  #: which of the three; it says which fields below count
    argv: tuple[str, ...] = ()  #: for the argv form
    script: str = attrs.field(default="", repr=False)  #: the shell line, or the code
    language: str | None = None  #: for the code form
    interpreter: str | None = None  #: the program that core found for it, if it looked
    #: How the interpreter takes code, where a plug-in says so; None for core's own languages.
    language_info: Language | None = None
    #: The named interpreter that runs the code and keeps its variables, or None for a clean one.
    state: str | None = None
    stdin: bytes = attrs.field(default=b"", repr=False)  #: never the host's (D8)
    #: ``stdin`` is empty, and input comes later: by ``Running.write`` (``live-input``, D17).
    live_input: bool = False
    #: Standard error goes where standard output goes, inside, so that both are in the order in
    #: which they were written (``merged-output``, D5).
    merge: bool = False
    #: ``UID[:GID]`` instead of the session's own (``execution-user``, D9); None: the session's.
    user: str | None = None
    working_dir: str = "/workspace"  #: absolute, as the caller or the session has it (D9)
    #: The whole environment asked for: the session's and the execution's, merged (D9).
    env: Mapping[str, str] = attrs.field(factory=dict, repr=lambda env: f"<{len(env)} names>")
    #: Core keeps it; for walls that can keep it inside as well. None: no deadline (D15).
    timeout_seconds: float | None = 60.0


@attrs.frozen(kw_only=True)
class Exit:
    """How the program ended, as the wall saw it; the verdict is core's (D3).

    Give ``code`` for a program that exited, ``signal`` for one that a signal
    ended. ``out_of_memory`` says that the memory limit did it.
    """

    code: int | None = None
    signal: int | None = None
    out_of_memory: bool = False


@attrs.frozen
class Check:
    """One thing that a probe looked at, for ``stockade doctor``."""

    what: str  #: what was looked at, in a word or two
    ok: bool  #: whether it is as the wall needs it
    detail: str = ""  #: what was seen, such as a version or an error
    #: The command or step that mends it. Of a check that is ok: what would be better still.
    remedy: str = ""
    #: Whether a check that is not ok may be ok in a moment without help, as with a daemon that
    #: restarts. Then core probes again before it gives up.
    transient: bool = False

    def __bool__(self) -> bool:
        return self.ok


@attrs.frozen
class Availability:
    """The answer of a probe: the checks it made; available when all are ok (A8)."""

    checks: tuple[Check, ...] = ()  #: in the order in which they were made

    def __bool__(self) -> bool:
        return all(check.ok for check in self.checks)

    @property
    def transient(self) -> bool:
        """Whether something is missing and all of it may be there in a moment."""
        failed = [check for check in self.checks if not check.ok]
        return bool(failed) and all(check.transient for check in failed)

    @property
    def reason(self) -> str:
        """What is missing and what mends it, in one line; empty when available."""
        failed = [check for check in self.checks if not check.ok]
        return "; ".join(
            ": ".join(part for part in (c.what, c.detail) if part)
            + (f" (mend it: {c.remedy})" if c.remedy else "")
            for c in failed
        )


@attrs.frozen
class Option:
    """An option of the wall's own in the provider string (A1)."""

    convert: Any  #: from text to value; raises ValueError with what is needed
    default: Any = None  #: the value where the string has none
    help: str = ""  #: a line for ``stockade providers``, with the unit
    secret: bool = False  #: its value is never kept or shown (B4)


@attrs.frozen(kw_only=True)
class TerminalRequest:
    """A program on a terminal; without ``argv`` the sandbox's own shell."""

    argv: tuple[str, ...] = ()
    rows: int = 24  #: of the window, at the start
    columns: int = 80  #: of the window, at the start
    working_dir: str = "/workspace"  #: absolute
    #: The whole environment asked for, as of an execution.
    env: Mapping[str, str] = attrs.field(factory=dict, repr=lambda env: f"<{len(env)} names>")


@attrs.frozen
class Changes:
    """Absolute paths inside: made (a folder stands for all in it), changed, removed."""

    made: tuple[str, ...] = ()  #: what was not there at the start
    changed: tuple[str, ...] = ()  #: what was there, with another content, mode or owner
    removed: tuple[str, ...] = ()  #: what was there, and is not any more


class Output(Protocol):
    """Where a wall puts what a program prints; core's, safe from any thread.

    Core keeps at most the output limit of each stream, counts the rest, ends
    the program where the policy says so, and feeds live readers.
    """

    def write(self, stream: Stream, data: bytes) -> None:
        """Hand over a piece. Blocks while a live reader is slow, so a wall that reads
        several executions from one pipe must look at ``room`` first."""

    def room(self, stream: Stream) -> int:
        """Bytes that ``write`` takes at once without blocking and will keep.

        0 means that nothing more is kept now: a wall may leave the bytes in the
        program's pipe (a live reader is slow), unless ``full`` says they are to be
        dropped for good.
        """

    def full(self, stream: Stream) -> bool:
        """Whether all further bytes of the stream will only be counted, never kept: a
        wall may then drain them where they are and give ``drop`` their number."""

    def drop(self, stream: Stream, count: int) -> None:
        """Count ``count`` bytes that the wall itself drained, once ``full`` said so (D5)."""

    def show(self, data: bytes) -> None:
        """Hand over what a named interpreter shows (D20): records as the toolkit's
        ``inside/shown.py`` makes them, cut anywhere. Never blocks."""
