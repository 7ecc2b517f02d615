"""A sandbox with faults: what its executions meet, and that it may be lost."""

from __future__ import annotations

import itertools
import logging
import socket
import threading
from collections.abc import Mapping, Sequence

from stockade.errors import SandboxLostError, StockadeError
from stockade.file_backend import FileBackend
from stockade.wall import (
    Changes,
    ExecRequest,
    Exit,
    Output,
    Running,
    Sandbox,
    Terminal,
    TerminalRequest,
)
from stockade_chaos.faults import Dice, Fault, Kind

__all__ = ["ChaosSandbox"]

_log = logging.getLogger(__name__)

#: How soon somebody who waits for the real one finds out that it will not come.
_ASK_SECONDS = 0.1


class ChaosSandbox(Sandbox):
    """Another wall's sandbox, and the faults that are drawn for it."""

    def __init__(self, inner: Sandbox, dice: Dice) -> None:
        self.inner = inner  #: the real one
        self._dice = dice
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._closed = False
        self._lost = ""  #: why, once it is

    def start(self, request: ExecRequest, output: Output) -> Running:
        self.check()
        number = next(self._numbers)
        fault = self._dice.fault(number)
        if fault != Fault(after=fault.after):
            _log.info("%s meets %s (%s)", request.execution_id, fault, self._dice.words(number))
        running = _ChaosRunning(self, request, output, fault, self._dice.words(number))
        if not fault.delay:
            running.start()
        return running

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self.inner.close()
                self._closed = True

    def lose(self, where: str) -> None:
        """End the real sandbox under everything that runs in it."""
        self._lost = self._lost or f"chaos lost this sandbox ({where}); open a new session."
        try:
            self.close()
        except Exception:  # core ends it once more when the session is destroyed
            _log.warning("a sandbox that chaos lost did not end", exc_info=True)

    def check(self) -> None:
        """Raise SandboxLostError once it is lost."""
        if self._lost:
            raise SandboxLostError(self._lost)

    # -- what meets no faults ---------------------------------------------------

    @property
    def stateful_languages(self) -> Sequence[str]:  # type: ignore[override]
        return self.inner.stateful_languages

    def languages(self) -> Sequence[str] | None:
        return self.inner.languages()

    def interpreter(self, language: str) -> str | None:
        return self.inner.interpreter(language)

    def expire_at(self, when: float | None) -> None:
        self.inner.expire_at(when)

    def limits(self) -> Mapping[str, float | None]:
        return self.inner.limits()

    def files(self) -> FileBackend | None:
        return self.inner.files()

    def pause(self) -> None:
        self.inner.pause()

    def resume(self) -> None:
        self.inner.resume()

    def changes(self) -> Changes | None:
        return self.inner.changes()

    def address_of(self, port: int) -> tuple[str, int]:
        return self.inner.address_of(port)

    def forward(self, connection: socket.socket, port: int) -> None:
        self.inner.forward(connection, port)

    def restart(self, state: str, language: str) -> None:
        self.check()
        self.inner.restart(state, language)

    def terminal(self, request: TerminalRequest) -> Terminal:
        self.check()
        return self.inner.terminal(request)

    def detach(self) -> None:
        self.inner.detach()

    def is_paused(self) -> bool:
        return self.inner.is_paused()


class _ChaosRunning(Running):
    """One execution: late, dying, the end of its sandbox, or as it would be."""

    def __init__(
        self,
        sandbox: ChaosSandbox,
        request: ExecRequest,
        output: Output,
        fault: Fault,
        where: str,
    ) -> None:
        self._sandbox = sandbox
        self._request = request
        self._output = output
        self._fault = fault
        self._where = where
        self._lock = threading.Lock()
        self._running: Running | None = None
        self._killed = threading.Event()  # by core
        self._struck = threading.Event()
        self._there = threading.Event()  # the real one has begun
        self._input_closed = False

    def start(self) -> Running:
        """Start the real one; raises what that raises."""
        running = self._sandbox.inner.start(self._request, self._output)
        with self._lock:
            self._running = running
        self._there.set()
        if self._killed.is_set():
            running.kill()
        if self._input_closed:
            running.close_input()
        return running

    def wait(self) -> Exit:
        if self._killed.wait(self._fault.delay) and self._running is None:
            return Exit(signal=9)
        self._sandbox.check()
        ended = self._ended(self._running or self.start())
        self._sandbox.check()
        if self._fault.kind is None or self._killed.is_set():
            return ended
        self._strike()  # it was quicker than its fault, which comes all the same
        self._sandbox.check()
        return Exit(signal=9)

    def kill(self) -> None:
        self._killed.set()
        with self._lock:
            running = self._running
        if running is not None:
            running.kill()

    def interrupt(self) -> None:
        with self._lock:
            running = self._running
        if running is not None:
            running.interrupt()

    def signal(self, number: int, *, group: bool) -> None:
        self._real().signal(number, group=group)

    def write(self, data: bytes, seconds: float) -> int:
        if self._running is None:  # it is late: nothing is taken meanwhile
            self._killed.wait(seconds)
            return 0
        return self._running.write(data, seconds)

    def close_input(self) -> None:
        self._input_closed = True
        if self._running is not None:
            self._running.close_input()

    def _real(self) -> Running:
        """The real one, which a signal waits for."""
        while not self._there.wait(_ASK_SECONDS):
            if self._killed.is_set():
                raise ProcessLookupError("it was ended before it began")
        assert self._running is not None
        return self._running

    def _ended(self, running: Running) -> Exit:
        """Wait for the real one while its fault comes over it."""
        timer = self._timer() if self._fault.kind is not None else None
        try:
            return running.wait()
        except StockadeError:
            self._sandbox.check()  # that it is lost explains what was raised
            raise
        finally:
            if timer is not None:
                timer.cancel()
                timer.join()

    def _timer(self) -> threading.Timer | None:
        timer = threading.Timer(self._fault.after, self._strike)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:  # no thread to give: then at once
            self._strike()
            return None
        return timer

    def _strike(self) -> None:
        if self._struck.is_set():
            return
        self._struck.set()
        if self._fault.kind is Kind.LOSS:
            self._sandbox.lose(self._where)
        if self._running is not None:
            self._running.kill()
