"""The middleware that records: what callers got of their executions, errors among it."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import stockade
from stockade.errors import StockadeError
from stockade.plugin import JudgedExecution, SandboxResult, hookimpl
from stockade_replay.recording import Writing

__all__ = ["Recorder", "record"]


class Recorder:
    """Register it with a runtime's hooks; each execution is in the file before its caller has the
    result. Safe from any thread.

    It stands outermost, so what other middleware takes out of a result is not recorded.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Begin a new recording; one that is there is replaced, any other file is refused.

        Raises RecordingError.
        """
        self._writing = Writing(path)
        self._lock = threading.Lock()
        self._sessions: dict[str, int] = {}
        #: Of how many executions the output was cut at its limit: a replay has no more of it.
        self.truncated = 0

    @hookimpl(wrapper=True, tryfirst=True)
    def stockade_execution(
        self, execution: JudgedExecution
    ) -> Generator[None, SandboxResult, SandboxResult]:
        """Write what comes. A write that fails lets the execution fail: RecordingError."""
        try:
            result = yield
        except StockadeError as error:
            self._add(execution, error)
            raise
        self._add(execution, result)
        return result

    def close(self) -> None:
        """End the file; may be called again."""
        with self._lock:
            self._writing.close()

    def _add(self, execution: JudgedExecution, end: SandboxResult | StockadeError) -> None:
        folder = execution.config.working_dir
        with self._lock:
            number = self._sessions.setdefault(execution.session_id, len(self._sessions) + 1)
            self._writing.add(number, execution.request, folder, end)
            if isinstance(end, SandboxResult) and end.truncated:
                self.truncated += 1


@contextmanager
def record(
    path: str | os.PathLike[str], runtime: stockade.Runtime | None = None
) -> Iterator[Recorder]:
    """Record all executions of a runtime, by default the process's own, while the block lasts.

    Raises RecordingError.
    """
    hooks = (runtime or stockade.default_runtime()).hooks
    recorder = Recorder(path)
    hooks.add(recorder)
    try:
        yield recorder
    finally:
        hooks.remove(recorder)
        recorder.close()
