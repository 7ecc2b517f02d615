"""The everyday face: a session object over a provider (``stockade.open``)."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from stockade.capabilities import Feature
from stockade.config import DEFAULT_SNAPSHOT_BYTES, Limits, OutputKeep, OutputPolicy
from stockade.errors import ConfigError, ForkedSessionError, SessionNotFoundError
from stockade.executions import _forms as requests
from stockade.executions import _named as named
from stockade.executions._listing import find, running
from stockade.executions._terminals import TerminalExecution, open_terminal
from stockade.results import SandboxResult, SessionStatus
from stockade.sessions import _pausing as pausing
from stockade.sessions._forwarding import forward
from stockade.sessions._limits import limits_of
from stockade.sessions._providers import WallProvider
from stockade.wall import Form, Sandbox

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Unpack

    from stockade.executions._execution import Execution
    from stockade.files import Files, Timeout
    from stockade.files._snapshots import Snapshot
    from stockade.sessions._registry import SessionRecord
    from stockade.values.pipe import Pipe

__all__ = ["DEFAULT_AGENT", "RunOptions", "Session"]

DEFAULT_AGENT = "default"  #: The agent whose sessions are, where the caller names none.


class RunOptions(TypedDict, total=False):
    """What every way to execute takes besides the request itself."""

    #: Seconds; default the session's timeout_seconds (D6). None: no deadline, and the
    #: session's lifetimes alone end it (D15).
    timeout: float | None
    #: Bytes, or text that is encoded as UTF-8; default empty (D8). ``stockade.PIPE``: it stays
    #: open, for ``Execution.write`` (D17).
    stdin: bytes | str | Pipe
    env: Mapping[str, str]  #: on top of the session's (D9)
    working_dir: str  #: default the session's, which is where a relative one starts (D9, D15)
    output_limit_bytes: int  #: of each stream; default the session's (D5)
    #: Code in Python only: the named interpreter that runs it and keeps its variables from one
    #: execution to the next; default a clean one. One execution at a time; when one is ended
    #: (timeout, memory, its own exit) the variables are gone and the next starts anew.
    state: str
    output_policy: OutputPolicy | str  #: "drain" or "end"; default the session's (D5)
    #: What is kept of longer output, "head", "tail" or "both"; default the session's (D5).
    output_keep: OutputKeep | str
    #: Both streams as one, on standard output, in the order in which they were written (D5).
    merge: bool
    user: str  #: ``UID[:GID]``; default the session's (D9)


class Session:
    """A running sandbox of one agent. Safe from any thread (C8).

    Used as a context manager it is closed, which destroys it, at the end of the block.
    A forked child that uses it gets ForkedSessionError (C12), and leaves a block without
    closing it; a session that the child opens is the child's.
    """

    def __init__(self, provider: WallProvider, record: SessionRecord) -> None:
        self._provider = provider
        self._held = record

    @property
    def _record(self) -> SessionRecord:
        """The record; raises ForkedSessionError in a forked child (C12)."""
        self._held.here()
        return self._held

    @property
    def session_id(self) -> str:
        """Random, of 128 bits (C2); ``attach``, listings and events name the session by it."""
        return self._held.session_id

    @property
    def agent_id(self) -> str:
        """The agent that it belongs to; no other one reaches it (C3)."""
        return self._held.agent_id

    @property
    def provider(self) -> WallProvider:
        """The provider it came from; ``provider.name`` is the wall that was chosen (A7)."""
        return self._provider

    @property
    def status(self) -> SessionStatus:
        """The present state (C4)."""
        return self._record.status

    @property
    def limits(self) -> Limits:
        """What it may use: what was asked for and, of limits that are fixed elsewhere, what
        the wall reports (B6). Raises SessionNotFoundError once it is gone, WallError."""
        return limits_of(self._record, self._sandbox())

    # -- executing -----------------------------------------------------------

    def run(self, argv: Sequence[str], **options: Unpack[RunOptions]) -> SandboxResult:
        """Run an argument vector, without a shell, to its end.

        A program that fails, is missing, is killed or times out gives a result.
        Raises ConfigError, UnsupportedError, WorkingDirectoryError,
        SessionStateError, SandboxLostError, PolicyRefusedError.
        """
        return self._run(Form.ARGV, argv=argv, **options)

    def shell(self, line: str, **options: Unpack[RunOptions]) -> SandboxResult:
        """Run a line (or a whole script) with the sandbox's ``sh``; else like ``run``."""
        return self._run(Form.SHELL, script=line, **options)

    def code(
        self, text: str, language: str = "python", **options: Unpack[RunOptions]
    ) -> SandboxResult:
        """Run code in a language; else like ``run``. Raises LanguageError too (D1)."""
        return self._run(Form.CODE, script=text, language=language, **options)

    def start(
        self,
        argv: Sequence[str] | None = None,
        *,
        shell: str | None = None,
        code: str | None = None,
        language: str = "python",
        **options: Unpack[RunOptions],
    ) -> Execution:
        """Start one of the three forms and return at once.

        The execution's ``result()`` waits, its ``cancel()`` ends it. Raises as ``run``.
        """
        return self._any(argv, shell, code, language, live=False, **options)

    def stream(
        self,
        argv: Sequence[str] | None = None,
        *,
        shell: str | None = None,
        code: str | None = None,
        language: str = "python",
        **options: Unpack[RunOptions],
    ) -> Execution:
        """Start one of the three forms with live output (D13).

        Iterate over the execution for :class:`Chunk` pieces; afterwards its
        ``result()`` is there. A reader that stops reading holds the program
        back, as a pipe would; leaving the loop early cancels it. ``for`` over
        pieces and the result in one:

            with session.stream(["make"]) as execution:
                for chunk in execution:
                    print(chunk.text, end="")
                print(execution.result().verdict)
        """
        return self._any(argv, shell, code, language, live=True, **options)

    def interrupt(self, state: str, language: str = "python") -> bool:
        """Interrupt what a named interpreter runs, as Ctrl-C does; what it has stays (D20).

        Whether it ran anything. One that does not listen is ended by ``restart``.
        Raises UnsupportedError, ConfigError.
        """
        return named.interrupt(self._provider.wall, self._record, state, language)

    def restart(self, state: str, language: str = "python") -> None:
        """End a named interpreter with what it runs and left running: the next code of that
        name finds a new one (D20). Raises UnsupportedError, ConfigError, WallError."""
        named.restart(
            self._provider.runtime.workers, self._provider.wall, self._record, state, language
        )

    def _any(
        self,
        argv: Sequence[str] | None,
        shell: str | None,
        code: str | None,
        language: str,
        **options: Any,
    ) -> Execution:
        if sum(given is not None for given in (argv, shell, code)) != 1:
            raise ConfigError("give exactly one of an argument vector, shell=… and code=….")
        if argv is not None:
            return self._start(Form.ARGV, argv=argv, **options)
        if shell is not None:
            return self._start(Form.SHELL, script=shell, **options)
        return self._start(Form.CODE, script=code, language=language, **options)

    def _run(self, form: Form, **options: Any) -> SandboxResult:
        return self._start(form, joinable=False, **options).result()

    def executions(self) -> tuple[Execution, ...]:
        """Those that this process runs in the session now, programs on terminals too, in the
        order in which they were started (D18)."""
        return running(self._record)

    def execution(self, execution_id: str) -> Execution:
        """The running one of that id. Raises ExecutionNotFoundError."""
        return find(self._record, execution_id)

    def _start(self, form: Form, **options: Any) -> Execution:
        return requests.start(
            self._provider.runtime.executor, self._provider.wall, self._record, form, **options
        )

    # -- files ---------------------------------------------------------------

    @functools.cached_property
    def files(self) -> Files:
        """The sandbox's files (F1 to F6). Raises UnsupportedError if it has none."""
        # Most programs have no use for them, and they are a tenth of what there is to import.
        from stockade.files import Files
        from stockade.files._calls import FileCalls
        from stockade.files._shell import ShellFiles

        record, wall = self._record, self._provider.wall
        wall.capabilities.require(
            Feature.FILES, record.provider, "print what you need on standard output."
        )
        backend = self._sandbox().files() or ShellFiles(self.start)
        calls = FileCalls(self._provider.runtime.workers, record)
        return Files(calls, backend, wall.capabilities)

    # -- the whole of it -----------------------------------------------------

    def snapshot(
        self, *, max_bytes: int = DEFAULT_SNAPSHOT_BYTES, timeout: Timeout = "session"
    ) -> Snapshot:
        """Save the session's files; ``stockade.open(…, snapshot=it)`` starts from them (G1).

        Holds the working folder and /tmp; with ``read_only_fs=False`` all that was changed.
        What cannot be held, such as FIFOs, is in its ``missed``. Take it while nothing runs that
        writes. ``timeout``: seconds, None for no limit, by default the session's. Raises
        UnsupportedError, FileTooLargeError, TimeoutError.
        """
        from stockade.files._snapshots import take

        self._require_snapshots("bring the files out with session.files.get_tree.")
        return take(self.files, lambda: self._sandbox().changes(), max_bytes, timeout)

    def _restore(self, snapshot: Snapshot) -> None:
        """Start from a snapshot's files. Raises ConfigError if it does not fit."""
        from stockade.files._snapshots import check_fits, restore

        check_fits(snapshot, self._record.config)
        self._require_snapshots("put files in with session.files.put_tree.")
        restore(self.files, snapshot)

    def _require_snapshots(self, instead: str) -> None:
        have = self._provider.wall.capabilities
        have.require(Feature.SNAPSHOT, self._record.provider, instead)

    def pause(self) -> None:
        """Freeze every process; deadlines run on meanwhile (G2). A second call does nothing.

        Raises UnsupportedError, SessionStateError, SandboxLostError.
        """
        pausing.pause(self._provider.runtime.workers, self._provider.wall, self._record)

    def resume(self) -> None:
        """Let a paused session go on where it was (G2); without a ``pause`` it does nothing.

        Raises SessionNotFoundError, SandboxLostError, WallError.
        """
        pausing.resume(self._provider.runtime.workers, self._record)

    @property
    def paused(self) -> bool:
        """Whether ``pause`` stopped its processes and ``resume`` has not been called since (G2)."""
        return self._record.paused

    def port(self, number: int) -> tuple[str, int]:
        """Host and port on this machine that lead to a port named in the option ``ports``."""
        if number not in self._record.config.ports:
            raise ConfigError(
                f"port {number} is not published; open the session with ports={number}."
            )
        return self._sandbox().address_of(number)

    def forward(self, connection: socket.socket, port: int) -> None:
        """Carry a connected stream socket of this process to a port of the sandbox's loopback,
        and return at once: no port of this machine leads there then, published or not.

            ours, theirs = socket.socketpair()
            session.forward(theirs, 8000)

        The socket is the session's from then on, also where this raises. It ends with the
        connection inside, and at once where nobody listens there. Raises ConfigError,
        UnsupportedError, CapacityError, SessionNotFoundError, SandboxLostError.
        """
        forward(self._provider.wall, self._record, connection, port)

    def terminal(
        self,
        argv: Sequence[str] = (),
        *,
        rows: int = 24,
        columns: int = 80,
        env: Mapping[str, str] | None = None,
        working_dir: str | None = None,
        timeout: float | None = None,
    ) -> TerminalExecution:
        """Start a program, by default the shell, on a terminal of its own, in ``working_dir``
        (D15, D19): for people, and for programs that speak to one which wants a terminal.

            with session.terminal(["python3", "-q"]) as terminal:
                terminal.write("6 * 7\n")
                print(terminal.read(timeout=5))

        No deadline (``timeout``, seconds) and no limit of its output hold but those that are
        given or that a policy sets. It is one of the session's executions until it ends or is
        closed, and ends with the session. Raises ConfigError, UnsupportedError,
        PolicyRefusedError, PolicyError, SessionStateError, SessionNotFoundError,
        SandboxLostError, WallError.
        """
        return open_terminal(
            self._provider.runtime.executor,
            self._provider.wall,
            self._record,
            argv,
            rows=rows,
            columns=columns,
            env=env,
            working_dir=working_dir,
            timeout=timeout,
        )

    def _sandbox(self) -> Sandbox:
        sandbox = self._record.sandbox
        if sandbox is None:
            raise SessionNotFoundError(self.session_id)
        return sandbox

    @property
    def sandbox(self) -> Sandbox:
        """The wall's own object, for its author's tests; programs have no need of it.

        Raises SessionNotFoundError once it is gone.
        """
        return self._sandbox()

    # -- the end -------------------------------------------------------------

    def detach(self) -> None:
        """Leave a durable session to others, running; this object is closed then (C10).

        What this process runs in it is ended, background processes live on;
        ``stockade.attach(session_id, agent_id=…)`` gives it back, here or elsewhere.
        Raises SessionStateError if it is not durable, has failed or is being ended,
        and SessionNotFoundError if it is gone.
        """
        self._provider.runtime.detach(self._record)

    def close(self) -> None:
        """End the session and all that runs in it; may be called any number of times (C6).

        Raises DestroyError when the wall failed to end it; call it again then.
        """
        try:
            self._provider.runtime.destroy(self._record)
        except SessionNotFoundError:
            return

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ForkedSessionError):  # the block's end is the parent's, too
            self.close()

    def __repr__(self) -> str:
        state = str(self._held.status) if self._held.pid == os.getpid() else "another process's"
        return f"<Session {self.session_id} of {self._provider.name}: {state}>"
