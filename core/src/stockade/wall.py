"""The interface that a wall's author writes against.

A wall is three small classes. Core calls them; authors never call each other's.

    class MyWall(Wall):                      # the kind of wall: one object a provider string
        capabilities = Capabilities({...})
        def probe(self): ...                 # can it serve here and now?
        def open(self, request): ...         # start a sandbox

    class MySandbox(Sandbox):                # one running sandbox
        def start(self, request, output): ...
        def close(self): ...

    class MyRunning(Running):                # one execution in it
        def wait(self): ...
        def kill(self): ...

Core gives everything else: ids, checks, the state machine, deadlines, bounded
output, verdicts, streaming, cancellation, events, both faces, files over
``start`` where a sandbox has no better way. Requests are immutable objects, so
that new fields never change a signature.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, ClassVar, Protocol

import attrs

from stockade.capabilities import Capabilities, Isolation
from stockade.config import SandboxConfig
from stockade.results import Stream

__all__ = [
    "Availability",
    "Check",
    "ExecRequest",
    "Exit",
    "Form",
    "OpenRequest",
    "Option",
    "Output",
    "Running",
    "Sandbox",
    "Terminal",
    "TerminalRequest",
    "Wall",
]


class Form(str, Enum):
    """The three forms of a request, never confused (D1)."""

    ARGV = "argv"
    SHELL = "shell"
    CODE = "code"

    def __str__(self) -> str:
        return self.value


@attrs.frozen(kw_only=True)
class OpenRequest:
    """Everything a wall needs to start one sandbox."""

    session_id: str  #: random, fit for a name: letters, digits, ``-``
    agent_hash: str  #: a hash of the agent's id; the id itself never reaches a wall (C1)
    target: str | None  #: the wall's own word for what runs, or None for its default
    config: SandboxConfig
    options: Mapping[str, Any] = attrs.field(factory=dict)  #: the wall's own, converted
    #: Unix time after which the session is over, for walls that can hold it inside (C11).
    expires_at: float | None = None


@attrs.frozen(kw_only=True)
class ExecRequest:
    """One execution. What core hands to a wall is checked and complete."""

    execution_id: str
    form: Form
    argv: tuple[str, ...] = ()  #: for the argv form
    script: str = attrs.field(default="", repr=False)  #: the shell line, or the code
    language: str | None = None  #: for the code form
    interpreter: str | None = None  #: the program that core found for it, if it looked
    #: The named interpreter that runs the code and keeps its variables, or None for a clean one.
    state: str | None = None
    stdin: bytes = attrs.field(default=b"", repr=False)  #: never the host's (D8)
    working_dir: str = "/workspace"
    #: The whole environment asked for: the session's and the execution's, merged (D9).
    env: Mapping[str, str] = attrs.field(factory=dict, repr=lambda env: f"<{len(env)} names>")
    timeout_seconds: float = 60.0  #: core keeps it; for walls that can keep it inside as well


@attrs.frozen(kw_only=True)
class Exit:
    """How the program ended, as the wall saw it; the verdict is core's (D3).

    Give ``code`` for a program that ended by itself, ``signal`` for one that a
    signal ended. ``out_of_memory`` says that the memory limit did it.
    """

    code: int | None = None
    signal: int | None = None
    out_of_memory: bool = False


@attrs.frozen
class Check:
    """One thing that a probe looked at, for ``stockade doctor``."""

    what: str
    ok: bool
    detail: str = ""
    remedy: str = ""


@attrs.frozen
class Availability:
    """The answer of a probe: the checks it made; available when all are ok (A8)."""

    checks: tuple[Check, ...] = ()

    def __bool__(self) -> bool:
        return all(check.ok for check in self.checks)

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
    default: Any = None
    help: str = ""


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
        wall may then drain them where they are and tell ``drop`` how many."""

    def drop(self, stream: Stream, count: int) -> None:
        """Count bytes that the wall itself drained."""


class Running(abc.ABC):
    """One execution that was started."""

    @abc.abstractmethod
    def wait(self) -> Exit:
        """Block until the program itself has exited and its output is handed over.

        Called once, from one of core's threads. Returns when the program exits
        even if a child of it still holds its output open (D7). Raises
        SandboxLostError when the sandbox died (D14).
        """

    @abc.abstractmethod
    def kill(self) -> None:
        """End this execution's whole tree, at once, and nothing else (D6).

        Called from any thread, any number of times, also after the end; returns
        soon. ``wait`` then returns within a second.
        """


@attrs.frozen(kw_only=True)
class TerminalRequest:
    """A program on a terminal; without ``argv`` the sandbox's own shell."""

    argv: tuple[str, ...] = ()
    rows: int = 24
    columns: int = 80
    working_dir: str = "/workspace"
    env: Mapping[str, str] = attrs.field(factory=dict, repr=lambda env: f"<{len(env)} names>")


class Terminal(abc.ABC):
    """An interactive program's terminal; used from one thread, ``close`` from any."""

    @abc.abstractmethod
    def fileno(self) -> int:
        """A descriptor that is readable when ``read`` would not wait."""

    @abc.abstractmethod
    def read(self) -> bytes:
        """What it shows next; empty when the program has ended."""

    @abc.abstractmethod
    def write(self, data: bytes) -> None:
        """Type into it."""

    @abc.abstractmethod
    def resize(self, rows: int, columns: int) -> None:
        """Tell it the window's size."""

    @abc.abstractmethod
    def exit_code(self) -> int:
        """The program's exit code, once ``read`` gave nothing."""

    @abc.abstractmethod
    def close(self) -> None:
        """Hang up; may be called again."""


class Sandbox(abc.ABC):
    """One running sandbox. Its methods are called from many threads at once (C8)."""

    @abc.abstractmethod
    def start(self, request: ExecRequest, output: Output) -> Running:
        """Start one execution and return at once.

        Called in the execution's own thread, which then calls ``wait``; the deadline
        runs already and can end nothing before this has returned. A program that is
        missing or may not be executed is a result (127, 126), not an error (D2).
        Raises WorkingDirectoryError, SandboxLostError.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """End the sandbox and remove all that it made, whatever runs in it.

        Called in a thread, for 30 seconds at most, while other threads still ``kill``;
        once, or again after it raised (C6): raising keeps the session, marked failed.
        A ``start`` that comes late raises SandboxLostError.
        """

    def languages(self) -> Sequence[str] | None:
        """The languages this sandbox runs, or None to let core look for interpreters.

        Called once a session, before its first code execution, in the caller's thread.
        """
        return None

    # What follows is called where the wall claims the capability of that name.

    def pause(self) -> None:
        """Freeze everything in it (G2); called once, then ``resume``."""
        raise NotImplementedError

    def resume(self) -> None:
        """Let it go on where it was."""
        raise NotImplementedError

    def address_of(self, port: int) -> tuple[str, int]:
        """Where on this machine a published port is reached: host and port (``ports``)."""
        raise NotImplementedError

    def terminal(self, request: TerminalRequest) -> Terminal:
        """Start a program on a terminal of its own (``terminal``)."""
        raise NotImplementedError


class Wall(abc.ABC):
    """One kind of wall, for one target: made by core when the provider is selected."""

    #: What it can do; may be a property where it depends on target and options.
    capabilities: Capabilities = Capabilities()
    #: What stands between the code and the host.
    isolation: Isolation = Isolation.NONE
    #: One line for listings: what the wall is made of.
    summary: ClassVar[str] = ""
    #: The wall's own options in the provider string.
    options: ClassVar[Mapping[str, Option]] = {}
    #: Fields of the configuration and what they stand at where the caller says nothing,
    #: for a wall that isolates nothing and could otherwise not be opened by its bare name.
    #: Core shows and logs them, and refuses them (PluginError) of every wall whose
    #: ``isolation`` is more than NONE: the safe defaults stand there (B1).
    defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, target: str | None = None, options: Mapping[str, Any] | None = None) -> None:
        self.target = target
        self.chosen = {
            **{name: option.default for name, option in self.options.items()},
            **(options or {}),
        }

    @abc.abstractmethod
    def probe(self) -> Availability:
        """Look whether the wall can serve here and now, and say what is missing (A8).

        Called before the first session, by ``doctor`` and by listings, in a
        thread with a time limit; starts nothing that outlives it. What it raises
        is shown as the reason.
        """

    @abc.abstractmethod
    def open(self, request: OpenRequest) -> Sandbox:
        """Start a sandbox; it may take as long as the configuration's start-up time.

        Raises SandboxStartError (retryable where trying again may help) or
        ConfigError, and leaves nothing behind when it does (C5).
        """
