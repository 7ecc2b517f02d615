"""A program on a terminal, asked of the policies and reported as executions are (D19).

It makes its session executing, so it is seen, is no idleness, and ends with the session.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from stockade._proposals import ExecutionProposal
from stockade.capabilities import Feature
from stockade.errors import (
    CancelledError,
    ConfigError,
    SessionNotFoundError,
    SessionStateError,
    StockadeError,
    WallError,
)
from stockade.executions._forms import check_argv, environment, working_folder
from stockade.results import SandboxResult, Verdict
from stockade.values.ids import new_execution_id
from stockade.values.shown import named
from stockade.wall import ExecRequest, Form, Terminal, TerminalRequest

if TYPE_CHECKING:
    from stockade.executions._executor import Executor
    from stockade.executions._home import Home
    from stockade.system.threads import Timer
    from stockade.wall import Sandbox, Wall

__all__ = ["open_terminal"]

_log = logging.getLogger(__name__)

_FORM = "terminal"
_KILLED = 137
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
) -> Terminal:
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
    if home.paused:
        raise SessionStateError(
            f"session {home.session_id} is paused; resume it before it executes."
        )
    proposal = executor.journal.judged(_proposal(home, request))
    watched = _Watched(executor, home, proposal)
    sandbox = home.sandbox
    if sandbox is None:
        raise SessionNotFoundError(home.session_id)
    home.add(watched)
    try:
        executor.journal.begun(home, proposal.request, _FORM)
        watched.begin(sandbox, request)
    except BaseException as error:
        watched.abort(error)
        raise
    return watched


def _size(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LARGEST:
        raise ConfigError(f"{name}={value!r} is not allowed: a whole number from 1 to {_LARGEST}.")
    return value


def _proposal(home: Home, request: TerminalRequest) -> ExecutionProposal:
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
            timeout_seconds=None,
        ),
        output_limit_bytes=None,
        terminal=True,
    )


class _Watched(Terminal):
    """The wall's terminal, within the limits that the policies set; one of the session's
    executions until it ends."""

    def __init__(self, executor: Executor, home: Home, proposal: ExecutionProposal) -> None:
        self._executor = executor
        self._home = home
        self._request = proposal.request
        self._limit = proposal.output_limit_bytes
        self._on_end: Callable[[SandboxResult | StockadeError], None] = executor.journal.ended(
            home, proposal.request, _FORM
        )
        self._lock = threading.Lock()
        self._inner: Terminal | None = None
        self._started = time.monotonic()
        self._shown = 0
        self._stop: Verdict | None = None
        self._over = False
        self._timer: Timer | None = None
        self._future: Future[SandboxResult] = Future()

    # -- as the registry counts it ---------------------------------------------

    @property
    def execution_id(self) -> str:
        return self._request.execution_id

    @property
    def future(self) -> Future[SandboxResult]:
        return self._future

    def begin(self, sandbox: Sandbox, request: TerminalRequest) -> None:
        """Have the wall start it; whoever calls aborts it where this raises."""
        try:
            inner = sandbox.terminal(request)
        except StockadeError:
            raise
        except Exception as error:
            raise WallError(
                f"the wall {self._home.provider!r} failed at a terminal: "
                f"{named(error)}. Report it to its author."
            ) from error
        seconds = self._request.timeout_seconds
        with self._lock:
            self._inner = inner
            stopped = self._stop is not None
            if seconds is not None and not stopped:
                deadline = self._started + seconds
                late = lambda: self.stop(Verdict.TIMED_OUT)  # noqa: E731
                self._timer = self._executor.clock.at(deadline, late)
        if stopped:
            self._hang_up()

    def abort(self, error: BaseException) -> None:
        """Its start failed or was interrupted: end it, whatever there is of it by now."""
        if self._inner is not None:
            with self._lock:
                self._stop = self._stop or Verdict.CANCELLED
            self._hang_up()
        reported = (
            error
            if isinstance(error, StockadeError)
            else CancelledError("the terminal was broken off at its start; open it again.")
        )
        self._settle(reported)

    def stop(self, why: Verdict) -> None:
        with self._lock:
            if self._stop is not None or self._over:
                return
            self._stop = why
            begun = self._inner is not None
        if begun:
            self._executor.workers.run_anyhow(self._hang_up)

    def conclude(self) -> None:
        with self._lock:
            self._stop = self._stop or Verdict.CANCELLED
        self._settle(None)

    def _hang_up(self) -> None:
        assert self._inner is not None
        try:
            self._inner.close()
        except Exception:
            _log.exception("closing terminal %s failed", self.execution_id)
        finally:
            self._settle(None)

    def _settle(self, error: StockadeError | None) -> None:
        """It has ended; only the first end counts."""
        with self._lock:
            if self._over:
                return
            self._over = True
            timer = self._timer
        if timer is not None:
            timer.cancel()
        end = error or self._result()
        try:  # all of it, whatever the ledger or an observer raises
            self._home.discard(self)
        finally:
            try:
                self._on_end(end)
            finally:
                self._future.set_result(self._result())

    def _result(self) -> SandboxResult:
        code = _KILLED
        if self._stop is None and self._inner is not None:
            try:
                code = self._inner.exit_code()
            except Exception:  # whoever waits for the end must not do so for ever
                _log.exception("terminal %s has no exit code", self.execution_id)
        return SandboxResult(
            exit_code=code,
            verdict=self._stop or Verdict.EXITED,
            duration_seconds=time.monotonic() - self._started,
            stdout_total_bytes=self._shown,
        )

    # -- as its user has it ----------------------------------------------------

    def _wall(self) -> Terminal:
        self._home.here()
        assert self._inner is not None  # it was handed out only once it was there
        return self._inner

    def fileno(self) -> int:
        return self._wall().fileno()

    def read(self) -> bytes:
        if self._stopped():
            return b""
        data = self._wall().read()
        if self._stopped():
            return b""
        if not data:
            self._settle(None)
            return b""
        self._shown += len(data)
        excess = 0 if self._limit is None else self._shown - self._limit
        if excess > 0:
            self.stop(Verdict.OUTPUT_LIMIT)
            return data[:-excess] if excess < len(data) else b""
        return data

    def _stopped(self) -> bool:
        return self._stop is not None

    def write(self, data: bytes) -> None:
        self._wall().write(data)

    def resize(self, rows: int, columns: int) -> None:
        self._wall().resize(_size("rows", rows), _size("columns", columns))

    def exit_code(self) -> int:
        return _KILLED if self._stopped() else self._wall().exit_code()

    def close(self) -> None:
        self._home.here()
        with self._lock:
            if not self._over and self._stop is None:
                self._stop = Verdict.CANCELLED
        self._hang_up()
