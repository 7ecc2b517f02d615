"""What callers do with code in a named interpreter while it runs (D20)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from stockade.errors import ConfigError

if TYPE_CHECKING:
    from stockade.executions._home import Home
    from stockade.wall import ExecRequest, Running

__all__ = ["Interruptible"]


class Interruptible:
    """The part of an execution that interrupts its code."""

    _home: Home
    _request: ExecRequest
    _lock: threading.Lock
    _running: Running | None
    _settled: bool
    _interrupted = False  # perhaps before there was anything to interrupt

    @property
    def interpreter(self) -> tuple[str, str] | None:
        """The language and the name of the interpreter that keeps its state, if one does."""
        request = self._request
        return None if request.state is None else (request.language or "", request.state)

    def interrupt(self) -> None:
        """Interrupt the code of a named interpreter, as Ctrl-C does: in Python KeyboardInterrupt
        is raised in it, and what it has stays (D20). After the end it does nothing. Raises
        ConfigError for anything else, which ``cancel`` ends."""
        self._home.here()
        if self.interpreter is None:
            raise ConfigError("interrupt() is for code with state=…; cancel() ends any execution.")
        with self._lock:
            running = None if self._settled else self._running
            self._interrupted = True
        if running is not None:
            running.interrupt()
