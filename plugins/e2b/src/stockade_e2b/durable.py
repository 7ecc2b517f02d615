"""A durable sandbox as one of the processes that use it sees it (C10)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stockade.errors import SandboxLostError
from stockade.file_backend import FileBackend
from stockade.wall import (
    ExecRequest,
    Output,
    Running,
    Sandbox,
    Terminal,
    TerminalRequest,
)
from stockade_e2b.sandbox import E2bSandbox, end_sandbox
from stockade_e2b.service import Service, words_of

__all__ = ["AttachedSandbox"]

_ASK_SECONDS = 20.0
_PAUSE_SECONDS = 120.0


class AttachedSandbox(Sandbox):
    """Starts a supervisor when something is to run, so that a paused one can be held too."""

    def __init__(
        self, service: Service, sandbox_id: str, reach: E2bSandbox | Callable[[], E2bSandbox]
    ) -> None:
        """``reach`` is the sandbox itself, or starts a supervisor in it."""
        self._service = service
        self._sandbox_id = sandbox_id
        self._lock = threading.Lock()
        self._inner = reach if isinstance(reach, E2bSandbox) else None
        self._reach = reach
        self._left = False

    def reached(self) -> E2bSandbox:
        """With a supervisor of this process's own. Raises SandboxLostError."""
        with self._lock:
            if self._left:
                raise SandboxLostError("the session was let go of; attach to it again.")
            if self._inner is None:
                assert not isinstance(self._reach, E2bSandbox)
                try:
                    self._inner = self._reach()
                except Exception as error:
                    raise SandboxLostError(
                        f"the sandbox does not answer: {words_of(error)}; destroy the session and "
                        "open a new one."
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

    def limits(self) -> Mapping[str, float | None]:
        return self.reached().limits()

    def address_of(self, port: int) -> tuple[str, int]:
        return self.reached().address_of(port)

    # -- with or without a supervisor --------------------------------------------------

    def is_paused(self) -> bool:
        from e2b import Sandbox as Box
        from e2b import SandboxState

        try:
            info = Box.get_info(self._sandbox_id, request_timeout=_ASK_SECONDS, **self._options)
        except Exception as error:
            raise SandboxLostError(f"the service does not answer: {words_of(error)}") from error
        return bool(info.state == SandboxState.PAUSED)

    @property
    def _options(self) -> dict[str, Any]:
        return self._service.options

    def pause(self) -> None:
        self._freeze(True)

    def resume(self) -> None:
        self._freeze(False)

    def _freeze(self, yes: bool) -> None:
        from e2b import Sandbox as Box

        with self._lock:
            inner = self._inner
        if inner is not None:
            (inner.pause if yes else inner.resume)()
            return
        options = {**self._options, "request_timeout": _PAUSE_SECONDS}
        try:
            if yes:
                Box.pause(self._sandbox_id, **options)
            else:
                Box.connect(self._sandbox_id, **options)
        except Exception as error:
            raise SandboxLostError(f"the service could not do it: {words_of(error)}") from error

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
            end_sandbox(self._service, self._sandbox_id)
