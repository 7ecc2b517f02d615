"""A program on a terminal: an execution, for people and for programs (D19).

It is asked of the policies and reported as executions are, is listed and joined as they are, and
ends with the session.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stockade._proposals import ExecutionProposal
from stockade.capabilities import Feature
from stockade.config import OutputKeep
from stockade.errors import ConfigError, SessionNotFoundError, WallError
from stockade.executions._execution import Execution
from stockade.executions._forms import check_argv, deadline, environment, working_folder
from stockade.executions._output import BoundedOutput, OutputReader
from stockade.results import Stream, Verdict
from stockade.values.ids import new_execution_id
from stockade.wall import ExecRequest, Exit, Form, Running, Terminal, TerminalRequest

if TYPE_CHECKING:
    from stockade.executions._executor import Executor
    from stockade.executions._home import Home
    from stockade.wall import Sandbox, Wall

__all__ = ["TerminalExecution", "open_terminal"]

_FORM = "terminal"
_LARGEST = 65535


def open_terminal(
    executor: Executor,
    wall: Wall,
    home: Home,
    argv: Sequence[str],
    *,
    rows: int,
    columns: int,
    env: Mapping[str, str] | None,
    working_dir: str | None = None,
    timeout: float | None = None,
) -> TerminalExecution:
    """What ``Session.terminal`` does. Raises ConfigError, UnsupportedError,
    PolicyRefusedError, PolicyError, SessionStateError, SandboxLostError, WallError."""
    wall.capabilities.require(Feature.TERMINAL, home.provider, "use run or shell.")
    request = TerminalRequest(
        argv=check_argv(argv) if argv else (),
        rows=_size("rows", rows),
        columns=_size("columns", columns),
        working_dir=working_folder(home.config, working_dir),
        env=environment(home.config, env),
    )
    proposal = executor.judged(home, _proposal(home, request, deadline(home.config, timeout)))
    if home.sandbox is None:
        raise SessionNotFoundError(home.session_id)
    terminal = _made(executor, wall, home, proposal, request)
    executor.begin(home, terminal, proposal.request, _FORM)
    return terminal


def _made(
    executor: Executor,
    wall: Wall,
    home: Home,
    proposal: ExecutionProposal,
    request: TerminalRequest,
) -> TerminalExecution:
    terminal: TerminalExecution

    def excess() -> None:
        terminal.stop(Verdict.OUTPUT_LIMIT)

    limit = proposal.output_limit_bytes
    output = BoundedOutput(
        limit or home.config.output_limit_bytes,
        keep=OutputKeep.TAIL if limit is None else OutputKeep.HEAD,
        joinable=True,
        on_excess=None if limit is None else excess,
    )
    terminal = TerminalExecution(
        home,
        proposal.request,
        output,
        clock=executor.clock,
        workers=executor.workers,
        on_end=executor.journal.ended(home, proposal.request, _FORM),
        have=wall.capabilities,
    )
    terminal.asked = request
    return terminal


def _size(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LARGEST:
        raise ConfigError(f"{name}={value!r} is not allowed: a whole number from 1 to {_LARGEST}.")
    return value


def _proposal(home: Home, request: TerminalRequest, seconds: float | None) -> ExecutionProposal:
    """What policies judge: the same fields as of any request."""
    return ExecutionProposal(
        agent_id=home.agent_id,
        provider=home.provider,
        session_id=home.session_id,
        request=ExecRequest(
            execution_id=new_execution_id(),
            form=Form.ARGV,
            argv=request.argv or ("sh",),
            working_dir=request.working_dir,
            env=request.env,
            timeout_seconds=seconds,
            live_input=True,
            merge=True,
        ),
        output_limit_bytes=None,
        terminal=True,
    )


class TerminalExecution(Execution):
    """An execution on a terminal of its own; made by a session's ``terminal``.

    ``read`` and ``write`` are the terminal's two directions; all that an execution has is there
    too: ``signal``, ``follow``, ``result``, ``cancel``. What nobody has read yet, and the
    result's ``stdout``, are the last ``output_limit_bytes``; from the first ``read`` on a slow
    reader holds the program back, and nothing is missed.
    """

    #: What the wall is asked for.
    asked: TerminalRequest

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._own: OutputReader = self._output.reader
        self._readable: _Readable | None = None

    # -- what callers use ------------------------------------------------------

    def read(self, timeout: float | None = None) -> bytes:
        """What it shows next, waiting for it; empty when the program has ended.

        Raises TimeoutError when ``timeout`` seconds pass first.
        """
        self._home.here()
        self._output.pace()
        while True:
            chunk = self._own.take(timeout)
            self._own.refresh()
            if chunk is None and not self._own.over:
                raise TimeoutError(f"the terminal showed nothing within {timeout} s")
            if chunk is None:
                self._future.exception()  # its end has been reported when this returns
                return b""
            if chunk.data:
                return chunk.data

    def resize(self, rows: int, columns: int) -> None:
        """Report the window's size to the program. Raises ConfigError, ExecutionEndedError."""
        self._home.here()
        size = _size("rows", rows), _size("columns", columns)
        self._program.ask("resize", lambda running: _on_terminal(running).resize(*size))

    def exit_code(self) -> int:
        """The program's exit code, waiting for its end. Raises SandboxLostError."""
        return self.result().exit_code

    def fileno(self) -> int:
        """A descriptor that is readable when ``read`` would not wait, until ``close``."""
        self._home.here()
        if self._readable is None:
            self._output.pace()
            self._readable = _Readable(self._own)
        return self._readable.fileno()

    def close(self) -> None:
        """Hang up: the program is ended, with its tree; may be called again."""
        self._home.here()
        self.__exit__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if self._home.pid != os.getpid():
            return
        readable, self._readable = self._readable, None
        if readable is not None:
            readable.close()

    def pace(self) -> OutputReader:
        """Its own reader, which misses nothing from now on; for the awaitable face."""
        self._output.pace()
        return self._own

    # -- what core uses --------------------------------------------------------

    def begin(self) -> None:
        """Start it, and wait until it has begun; raises why it could not."""
        super().begin()
        self._program.started()
        if self._future.done() or self._settled:
            error = self._future.exception()
            if error is not None:
                raise error

    def _started_in(self, sandbox: Sandbox) -> Running:
        terminal = sandbox.terminal(self.asked)
        if not isinstance(terminal, Terminal):
            raise WallError(f"terminal() returned {terminal!r}, not a Terminal; report it")
        return _OnTerminal(terminal, self._output)


class _OnTerminal(Running):
    """A wall's terminal, as any program that runs."""

    def __init__(self, terminal: Terminal, output: BoundedOutput) -> None:
        self._terminal = terminal
        self._output = output

    def wait(self) -> Exit:
        try:
            while data := self._terminal.read():
                self._output.write(Stream.STDOUT, data)
            return self._terminal.ended()
        finally:
            self._terminal.close()

    def kill(self) -> None:
        self._terminal.close()

    def signal(self, number: int, *, group: bool) -> None:
        self._terminal.signal(number, group=group)

    def write(self, data: bytes, seconds: float) -> int:
        return self._terminal.offer(data, seconds)

    def close_input(self) -> None:
        self._terminal.write(b"\x04")

    def resize(self, rows: int, columns: int) -> None:
        self._terminal.resize(rows, columns)


def _on_terminal(running: Running) -> _OnTerminal:
    assert isinstance(running, _OnTerminal)
    return running


class _Readable:
    """A descriptor that says whether a reader would wait."""

    def __init__(self, reader: OutputReader) -> None:
        self._reader = reader
        self._read, self._write = os.pipe()
        self._says = False
        reader.listen(self._update)
        reader.refresh()

    def _update(self) -> None:
        """Called under the reader's lock."""
        if self._read < 0:
            return
        ready = self._reader.has_more()
        if ready and not self._says:
            os.write(self._write, b"!")
        elif self._says and not ready:
            os.read(self._read, 1)
        self._says = ready

    def fileno(self) -> int:
        return self._read

    def close(self) -> None:
        self._reader.forget(self._update)
        os.close(self._read)
        os.close(self._write)
        self._read = -1
