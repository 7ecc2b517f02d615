"""Every error that stockade raises, in one tree.

Two rules (see ``docs/contract.md``): a command that ran gives a result, a
sandbox that failed raises. So nothing here stands for a non-zero exit, a
signal, a timeout or an out-of-memory kill; those are verdicts of a result.

Every class says through ``retryable`` whether the same call can succeed
later with nothing changed by the caller, and every message ends with what to
do next. Where Python has a builtin for the case, the class is one too, so that
``except ValueError`` or ``except FileNotFoundError`` works as people expect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stockade.values.shown import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stockade._entries import Missed
    from stockade.results import SandboxResult

__all__ = [
    "ArchiveError",
    "AuditError",
    "CancelledError",
    "CapacityError",
    "ConfigError",
    "DestroyError",
    "DuplicateProviderError",
    "ExecutionEndedError",
    "ExecutionNotFoundError",
    "FileTooLargeError",
    "ForkedSessionError",
    "InputClosedError",
    "LanguageError",
    "LedgerError",
    "MiddlewareError",
    "PluginError",
    "PolicyError",
    "PolicyRefusedError",
    "ProviderNotFoundError",
    "ProviderStringError",
    "ProviderUnavailableError",
    "SandboxLostError",
    "SandboxStartError",
    "SecretError",
    "SessionNotFoundError",
    "SessionStateError",
    "SpecialFileError",
    "StockadeError",
    "TransferError",
    "UnsupportedError",
    "WallError",
    "WorkingDirectoryError",
]


class StockadeError(Exception):
    """The root of the tree: catch this to catch everything of stockade's.

    Errors pickle, copy and compare (B5): two are equal that are of one class, with the same words
    and the same attributes. Their cause and traceback stay in this process. What to do: Read the
    message: it ends with what to do next.
    """

    #: Whether the same call may succeed later without a change by the caller.
    retryable: bool = False

    def __str__(self) -> str:
        """The message; control characters that names or programs put into it show escaped."""
        return shown(super().__str__())

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by calling the class: its arguments are its own, ``args`` holds the message.
        return _remade, (type(self), self.args), self.__dict__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StockadeError) or type(self) is not type(other):
            return NotImplemented
        return self.args == other.args and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), str(self)))


def _remade(kind: type[StockadeError], arguments: tuple[Any, ...]) -> StockadeError:
    """An error as it was, its ``__init__`` not called again; its attributes come after."""
    error = kind.__new__(kind, *arguments)
    error.args = arguments
    return error


# -- what the caller wrote ---------------------------------------------------


class ConfigError(StockadeError, ValueError):
    """A field of the configuration or an argument holds what it may not (B2). What to do: Change
    that field or argument to what the message allows."""


class ProviderStringError(StockadeError, ValueError):
    """The provider string does not parse, or an option of it is wrong (A1, A2). What to do: Mend
    the string as the message says; it names the nearest known option."""


class SecretError(StockadeError):
    """A secret's value cannot be read, or is none that can be used; it is never shown (E11). What
    to do: Look whether the variable, file, command or keyring entry that the secret names is there
    and may be read by this process."""


class UnsupportedError(StockadeError, NotImplementedError):
    """The wall cannot do or enforce what was asked; nothing was started. What to do: Leave out what
    the message names, lift that limit with None, or choose a wall that has the feature."""


class LanguageError(StockadeError, LookupError):
    """The sandbox has no interpreter for that language (D1). What to do: Use a language of
    ``available``, or a target (an image, a root folder) that brings the interpreter."""

    def __init__(self, language: str, available: Sequence[str]) -> None:
        self.language = language
        self.available = tuple(available)
        have = ", ".join(self.available) or "none"
        super().__init__(
            f"no interpreter for language {language!r} in this sandbox; it has: {have}. "
            "Use one of these, or a target (image, root folder) that brings the interpreter."
        )


class WorkingDirectoryError(StockadeError, FileNotFoundError):
    """The working folder of an execution does not exist in the sandbox (D9). What to do: Create the
    folder with ``session.files.make_dir``, or choose another."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(
            f"working folder {path!r} does not exist in the sandbox or is not a folder; "
            "create it first (session.files.make_dir) or choose another."
        )


class FileTooLargeError(StockadeError, OSError):
    """What is read from the sandbox is more than the limit of that call (F2).

    ``unit`` says what ``limit`` counts: "bytes", or "entries" of a folder. What to do: Pass a
    larger ``max_bytes``, or bring the file out in parts.
    """

    def __init__(self, path: str, limit: int, unit: str = "bytes") -> None:
        self.path = path
        self.limit = limit
        self.unit = unit
        text = f"{path!r} is larger than the limit of {limit} {unit} for one read; "
        more = "pass a larger max_bytes, or " if unit == "bytes" else ""
        super().__init__(f"{text}{more}bring it out in parts.")


class SpecialFileError(StockadeError, OSError):
    """Content was asked of what is no regular file: a FIFO, a socket, a device (F2). What to do:
    Let a program of the session read or write it."""

    def __init__(self, path: str, what: str = "a FIFO, a socket or a device") -> None:
        self.path = path
        self.what = what
        super().__init__(
            f"{path!r} is {what}, not a regular file, so it is neither read nor written here; "
            "let a program of the session use it."
        )


class TransferError(StockadeError):
    """Parts of a tree could not be brought, and the caller asked for all (``strict``, F4).

    ``missed`` lists them, each with a path and a reason. The rest was brought. What to do: Mend or
    remove the entries that ``missed`` names, or leave out ``strict``.
    """

    def __init__(self, path: str, missed: Sequence[Missed]) -> None:
        self.path = path
        self.missed = tuple(missed)
        shown = "; ".join(str(one) for one in self.missed[:3])
        more = f"; and {len(self.missed) - 3} more" if len(self.missed) > 3 else ""
        super().__init__(
            f"{len(self.missed)} entries of {path!r} were not brought: {shown}{more}. "
            "Mend or remove them, or leave out strict to go on without."
        )


class ArchiveError(StockadeError):
    """An archive from the sandbox is damaged, or would write outside its destination (F3). What to
    do: Don't use what came from that sandbox. Copy single files with ``session.files.read``, or
    open a new session."""


# -- finding and loading a provider ------------------------------------------


class ProviderNotFoundError(StockadeError, LookupError):
    """No installed distribution registers that name (A4). What to do: Install the distribution that
    the message names, or choose a name that it lists."""


class DuplicateProviderError(StockadeError, LookupError):
    """Two distributions claim one name, so neither is picked (A5). What to do: Uninstall one of the
    two, or block it with STOCKADE_DISABLED_PLUGINS."""


class PluginError(StockadeError, ImportError):
    """A plug-in cannot be loaded: import, hooks or API version (A6). What to do: Reinstall, update
    or remove the distribution that the message names, or go on without it by
    STOCKADE_DISABLED_PLUGINS."""


class ProviderUnavailableError(StockadeError):
    """The wall is installed but cannot serve here and now (A7, A8). What to do: Do what the message
    says is missing; ``stockade doctor -p NAME`` shows all of it. Or name a second wall to fall back
    on."""

    retryable = True  #: what is missing may come up


# -- policies ----------------------------------------------------------------


class PolicyRefusedError(StockadeError, PermissionError):
    """A policy plug-in refused, with its reason. What to do: Ask for less, as the reason says, or
    ask the operator of the policy."""


class PolicyError(StockadeError):
    """A policy plug-in failed, or tried to loosen a limit; that refuses too. What to do: Report it
    to the operator of the policy. Its cause is chained."""


class MiddlewareError(StockadeError):
    """A middleware plug-in failed, so the execution has no result.

    Its program may have run: what it did in the sandbox is done. What to do: Report it to the
    author of the plug-in. Look at what the program did before you run it again.
    """


# -- sessions and executions -------------------------------------------------


class SessionNotFoundError(StockadeError, LookupError):
    """No such session for this agent; alike for a wrong agent and a wrong id (C3). What to do: Use
    the session's own ``agent_id`` and id, or open a new session."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        super().__init__(
            f"no session {session_id!r} for this agent; "
            "use the agent_id and session_id that create_session returned, "
            "or open a new session."
        )


class ExecutionNotFoundError(StockadeError, LookupError):
    """No such execution in the session. What to do: Use an id that
    ``session.executions()`` lists."""


class ExecutionEndedError(StockadeError, ProcessLookupError):
    """Something was asked of a program that has ended (D17, D18); its result is there. What to do:
    Read its result."""

    def __init__(self, execution_id: str) -> None:
        self.execution_id = execution_id
        super().__init__(
            f"execution {execution_id} has ended, so nothing reaches its program any more; "
            "its result says how."
        )


class InputClosedError(StockadeError, BrokenPipeError):
    """Input was written to an execution whose input is closed, or was never open (D17). What to do:
    Open the execution with ``stdin=stockade.PIPE``, and write before you close its input."""


class SessionStateError(StockadeError):
    """The session's present state does not allow the call (C4). What to do: Open a new session if
    this one is destroyed; resume it if it is paused."""


class ForkedSessionError(SessionStateError):
    """A forked child used a session that its parent opened (C12).

    The session is the parent's and goes on there; new ones may be opened in the child. What to do:
    Open a session of the child's own.
    """


class CancelledError(StockadeError):
    """The call was cancelled before it could start anything. What to do: Nothing, if you cancelled
    it. Else make the call again."""


class CapacityError(StockadeError):
    """A limit on the number of sessions is reached, and waiting for one to end was in vain; or the
    system gives this process no more threads. What to do: Close sessions that you don't need, wait
    longer for one, or raise the limit in the settings."""

    retryable = True  #: a session may end meanwhile


class WallError(StockadeError):
    """A wall broke its own interface: it hung, or returned what it may not. What to do: Report it
    to the wall's author. Close the session and open a new one."""


class SandboxStartError(StockadeError):
    """The sandbox could not be started; what there was of it is removed (C5).

    ``nothing_began``: the wall knows that nothing was started that could still come to be, so core
    may try again if it is ``retryable``. What to do: Read what the message says of the
    wall. If ``retryable`` is true, try again.
    """

    retryable = True

    def __init__(
        self, message: str, *, retryable: bool = True, nothing_began: bool = False
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.nothing_began = nothing_began


class SandboxLostError(StockadeError):
    """The sandbox died while executing (D14).

    ``partial`` holds the output up to that moment as a result whose verdict is ``lost``, or None
    where no execution was running. What to do: Open a new session and run it again, if what ran may
    run twice. ``partial`` has its output.
    """

    retryable = True  #: in a new session

    def __init__(self, message: str, partial: SandboxResult | None = None) -> None:
        super().__init__(message)
        self.partial = partial


class DestroyError(StockadeError):
    """The sandbox could not be ended; the session stays, marked failed (C6). What to do: Close it
    again later, or let ``stockade gc`` remove what is left."""

    retryable = True  #: what holds the sandbox may let go of it


# -- the ledger --------------------------------------------------------------


class LedgerError(StockadeError):
    """The ledger of sessions cannot be read or written: damaged, foreign, locked, or no room.

    It is never overwritten. ``retryable`` says whether it was only busy or out of room. What to do:
    Try again if ``retryable`` is true. Else move the file away, or name another with
    STOCKADE_LEDGER.
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


# -- the audit log -----------------------------------------------------------


class AuditError(StockadeError):
    """The audit log cannot be written, or its chain does not verify. What to do: Make room or mend
    the file's permissions if it cannot be written. If the chain does not verify, keep the file as
    evidence and begin a new one."""
