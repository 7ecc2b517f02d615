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
import socket
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from stockade._exchange import (
    AttachRequest,
    Availability,
    Changes,
    Check,
    ExecRequest,
    Exit,
    Form,
    Language,
    OpenRequest,
    Option,
    OutgoingRequest,
    Output,
    RequestEnd,
    RequestOutcome,
    RequestWatch,
    TerminalRequest,
)
from stockade._leftover import Leftover, Usage
from stockade._place import Place
from stockade._programs import Running, Terminal, unwritten
from stockade.capabilities import Capabilities, Isolation
from stockade.config import SandboxConfig
from stockade.errors import ProviderUnavailableError, UnsupportedError
from stockade.file_backend import FileBackend

__all__ = [
    "AttachRequest",
    "Availability",
    "Changes",
    "Check",
    "ExecRequest",
    "Exit",
    "Form",
    "Language",
    "Leftover",
    "OpenRequest",
    "Option",
    "OutgoingRequest",
    "Output",
    "Place",
    "RequestEnd",
    "RequestOutcome",
    "RequestWatch",
    "Running",
    "Sandbox",
    "Terminal",
    "TerminalRequest",
    "Usage",
    "Wall",
]


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

    #: The languages of named interpreters (``stateful``). May be a property.
    stateful_languages: Sequence[str] = ("python",)

    def languages(self) -> Sequence[str] | None:
        """The languages this sandbox runs, or None to let core look for interpreters.

        Called once a session, before its first code execution, in the caller's thread.
        """
        return None

    def interpreter(self, language: str) -> str | None:
        """The program for a language, where it is known to be there without a look; else None.

        Called in a thread before a session's first code in that language, which then begins
        without the look for all interpreters; None by default. Must return at once.
        """
        return None

    def expire_at(self, when: float | None) -> None:
        """Hold a new deadline inside, in place of OpenRequest.expires_at (C11).

        Called when a pool hands the session out. Not to be relied on: core keeps the
        deadline outside, whatever a wall does. Must return soon and never raise.
        """
        return

    def limits(self) -> Mapping[str, float | None]:
        """What holds of the fields that are fixed elsewhere (``Wall.fixed_elsewhere``, B6).

        Called by ``session.limits``, in the caller's thread; must return at once, so ask a
        service when the sandbox is opened or attached to. If the caller stated a field, the
        caller's value counts.
        """
        return {}

    def files(self) -> FileBackend | None:
        """The sandbox's own way to its files (F), or None where core reaches them by ``sh``.

        Called once for each session object, where the wall claims ``files``.
        """
        return None

    # What follows is called where the wall claims the capability of that name.

    def pause(self) -> None:
        """Freeze everything in it (G2); called in a thread, once, before ``resume``.

        Raises SandboxLostError.
        """
        raise unwritten(self, "pause", "pause")

    def resume(self) -> None:
        """Let it go on where it was; called in a thread, once after ``pause``.

        Raises SandboxLostError.
        """
        raise unwritten(self, "resume", "pause")

    def changes(self) -> Changes | None:
        """What differs from what the sandbox was started with, outside of the working
        folder and /tmp, where the root is writable; for snapshots (G1).

        None, the default: the wall does not know, so such a session cannot be snapshot.
        """
        return None

    def address_of(self, port: int) -> tuple[str, int]:
        """Where on this machine a published port is reached: host and port (``ports``)."""
        raise unwritten(self, "address_of", "ports")

    def forward(self, connection: socket.socket, port: int) -> None:
        """Carry a connected stream socket of this process to a port of the sandbox's loopback,
        published or not, and return at once (``ports``).

        The socket is the sandbox's from then on: closed when either side ends it, and with the
        sandbox. It is closed where this raises, too. Raises CapacityError, SandboxLostError.
        """
        raise unwritten(self, "forward", "ports")

    def restart(self, state: str, language: str) -> None:
        """End a named interpreter with all it left (``stateful``). Called while it runs nothing."""
        raise unwritten(self, "restart", "stateful")

    def terminal(self, request: TerminalRequest) -> Terminal:
        """Start a program on a terminal of its own (``terminal``), and return at once.

        Called in the caller's thread, once policies let it pass. A program that cannot be
        started says why on the terminal, and has ended. Raises SandboxLostError.
        """
        raise unwritten(self, "terminal", "terminal")

    def detach(self) -> None:
        """Let go of the sandbox and leave it running, for others to attach (``durable``).

        Called once, with no execution running; frees all that this process holds of it.
        """
        raise unwritten(self, "detach", "durable")

    def is_paused(self) -> bool:
        """Whether another process paused it (``durable`` with ``pause``); asked at attaching."""
        return False


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
    #: Whether a target is a name that is looked up somewhere else (an image, a template), and
    #: never a path of this machine or something that opens the wall. Only then may a project's
    #: file, which anybody may have written, give a target.
    target_is_name: ClassVar[bool] = False
    #: Fields of the configuration and what they stand at where the caller says nothing,
    #: for a wall that isolates nothing and could otherwise not be opened by its bare name.
    #: Core shows and logs them, and refuses them (PluginError) of every wall whose
    #: ``isolation`` is more than NONE: the safe defaults stand there (B1).
    defaults: ClassVar[Mapping[str, Any]] = {}
    #: Fields of the configuration (those of :class:`stockade.config.Limits`) that are fixed
    #: elsewhere, by a service's template or a cluster's policy: where the caller says nothing
    #: of one, the session asks for none, and ``Sandbox.limits`` says what holds (B6). What the
    #: caller states is held or refused, as ``capabilities`` say. May be a property.
    fixed_elsewhere: Collection[str] = ()
    #: How long ``prepare`` may take in seconds, where that may be longer than the
    #: configuration's start-up time.
    prepare_seconds: float = 0.0
    #: Its own options as the provider string had them; core sets it.
    texts: Mapping[str, str] = MappingProxyType({})

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

    def warning(self, config: SandboxConfig) -> str:
        """What a person who opens a session with this configuration must know, in one line
        without a full stop. Empty, the default, if there is nothing.

        Called when one is opened: core logs it by the logger ``stockade.isolation``, and the
        command line shows it. Must return at once.
        """
        return ""

    def has_own_loopback(self, config: SandboxConfig) -> bool:
        """Whether a session with this configuration has a loopback of its own, so that
        ``Sandbox.forward`` leads to its own programs alone, and to nothing of this machine's.

        By default one has it where its network is off. Must return at once.
        """
        return not config.network_enabled

    def prepare(self, request: OpenRequest) -> None:  # noqa: B027
        """Fetch what sandboxes are made from and share, such as an image; nothing by default.

        Called before each ``open``, and quick where all is there. Its time is no part of
        the start-up time, but core waits no longer for it than that, or than
        ``prepare_seconds`` where that is more. Raises as ``open``.
        """

    @abc.abstractmethod
    def open(self, request: OpenRequest) -> Sandbox:
        """Start a sandbox; it may take as long as the configuration's start-up time.

        Raises SandboxStartError (retryable where trying again may help) or
        ConfigError, and leaves nothing behind when it does (C5). Where the wall knows
        that nothing had begun (``nothing_began``), core calls it again, a few times.
        """

    # -- what outlives a process (C9, C10) -------------------------------------

    def place(self) -> Place:
        """Where a sandbox that ``open`` made now would live; this machine by default.

        Called before each ``open``, in a thread with a time limit; reads options and
        environment and asks no engine. What differs here lists different ``leftovers``.
        Raises ConfigError if they lead nowhere.
        """
        return Place.here()

    def look_at(self, place: Place) -> None:
        """From now on ``leftovers``, ``remove``, ``usage`` and ``attach`` are about that
        place, whatever options and environment say, and ``place`` is it.

        Called by ``gc``, by attaching and by ``top``, with a place that ``place`` gave
        earlier, perhaps in another process. Raises ProviderUnavailableError if it cannot
        be looked at from here; a wall with a ``place`` of its own needs one of these, too.
        """
        mine = self.place()
        if place.word != mine.word:
            raise ProviderUnavailableError(
                f"the sandbox lives at {place.word!r}, and this wall looks at {mine.word!r} "
                "alone; set its options and environment as they were when it was opened."
            )

    def leftovers(self) -> Sequence[Leftover]:
        """Every sandbox of this kind of wall that exists now at its place, of every owner.

        Found in the engine or the system itself by what ``open`` wrote on it, not by
        memory; half-made and dead ones too. ``gc`` decides which are left over.
        Called from a thread with a time limit. Raises what says that it cannot look
        now: then nothing is forgotten. A wall whose sandboxes cannot outlive their
        process, whatever kills it, has none.
        """
        return ()

    def remove(self, leftover: Leftover) -> None:
        """End it and remove all of it; gone already is well too. Raises if it fails."""
        raise unwritten(self, "remove")

    def usage(self, leftover: Leftover) -> Usage | None:
        """What it uses, for ``stockade top``; None if that is not known."""
        return None

    def attach(self, request: AttachRequest) -> Sandbox:
        """A sandbox over one that runs already, made with ``config.durable`` (``durable``).

        Any number of processes may hold the same one. Raises SandboxLostError if it
        is no more, and SandboxStartError if it cannot be reached.
        """
        raise UnsupportedError("this wall's sandboxes end with their process; open a new session.")
