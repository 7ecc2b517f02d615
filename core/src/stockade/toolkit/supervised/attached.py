"""A durable sandbox as one of the processes that use it sees it (C10)."""

from __future__ import annotations

import socket
import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence

from stockade.errors import SandboxLostError
from stockade.file_backend import FileBackend
from stockade.toolkit.supervised.ends import LinkLost
from stockade.toolkit.supervised.sandbox import SupervisedSandbox
from stockade.wall import Changes, ExecRequest, Output, Running, Sandbox, Terminal, TerminalRequest

__all__ = ["AttachedSandbox"]


class AttachedSandbox(Sandbox):
    """Starts a supervisor when something is to run, so that a paused one can be held too.

    A wall adds what its engine or service does where this process has no supervisor there:
    ``is_paused``, ``freeze`` and ``remove``.
    """

    def __init__(self, reach: SupervisedSandbox | Callable[[], SupervisedSandbox]) -> None:
        """``reach`` is the sandbox itself, or starts a supervisor in it, checked as at the
        session's opening; it raises SandboxLostError if it cannot."""
        self._lock = threading.Lock()
        self._inner = reach if isinstance(reach, SupervisedSandbox) else None
        self._reach = reach
        self._left = False

    @abstractmethod
    def freeze(self, yes: bool) -> None:
        """Pause or resume it from outside: a paused one starts no program. Raises
        SandboxLostError."""

    @abstractmethod
    def remove(self) -> None:
        """End it from outside. Raises DestroyError."""

    def reached(self) -> SupervisedSandbox:
        """With a supervisor of this process's own. Raises SandboxLostError."""
        with self._lock:
            if self._left:
                raise SandboxLostError("the session was let go of; attach to it again.")
            if self._inner is None:
                assert not isinstance(self._reach, SupervisedSandbox)
                try:
                    self._inner = self._reach()
                except LinkLost as error:
                    raise SandboxLostError(
                        f"the sandbox does not answer: {error}; destroy the session, or resume it "
                        "where it is paused."
                    ) from error
            return self._inner

    def start(self, request: ExecRequest, output: Output) -> Running:
        return self.reached().start(request, output)

    def terminal(self, request: TerminalRequest) -> Terminal:
        return self.reached().terminal(request)

    @property
    def stateful_languages(self) -> Sequence[str]:  # type: ignore[override]
        return self.reached().stateful_languages

    def restart(self, state: str, language: str) -> None:
        self.reached().restart(state, language)

    def languages(self) -> Sequence[str] | None:
        return self.reached().languages()

    def interpreter(self, language: str) -> str | None:
        return self.reached().interpreter(language)

    def files(self) -> FileBackend | None:
        return self.reached().files()

    def changes(self) -> Changes | None:
        return self.reached().changes()

    def limits(self) -> Mapping[str, float | None]:
        return self.reached().limits()

    def address_of(self, port: int) -> tuple[str, int]:
        return self.reached().address_of(port)

    def forward(self, connection: socket.socket, port: int) -> None:
        self.reached().forward(connection, port)

    def pause(self) -> None:
        inner = self._held()
        if inner is None:
            self.freeze(True)
        else:
            inner.pause()

    def resume(self) -> None:
        inner = self._held()
        if inner is None:
            self.freeze(False)
        else:
            inner.resume()

    def _held(self) -> SupervisedSandbox | None:
        with self._lock:
            return self._inner

    def detach(self) -> None:
        with self._lock:
            self._left = True
            inner, self._inner = self._inner, None
        if inner is not None:
            inner.detach()

    def close(self) -> None:
        with self._lock:
            self._left = True
            inner = self._inner
        if inner is not None:
            inner.close()
        else:
            self.remove()
