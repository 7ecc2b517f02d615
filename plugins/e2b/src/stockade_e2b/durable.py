"""A durable sandbox as one of the processes that use it sees it (C10)."""

from __future__ import annotations

from collections.abc import Callable

from stockade.errors import SandboxLostError
from stockade.toolkit.supervised import AttachedSandbox
from stockade_e2b.sandbox import E2bSandbox, end_sandbox
from stockade_e2b.service import Service, words_of

__all__ = ["AttachedBox"]

_ASK_SECONDS = 20.0
_PAUSE_SECONDS = 120.0


class AttachedBox(AttachedSandbox):
    """With the service's own pausing and ending where no supervisor is held."""

    def __init__(
        self, service: Service, sandbox_id: str, reach: E2bSandbox | Callable[[], E2bSandbox]
    ) -> None:
        super().__init__(reach)
        self._service = service
        self._sandbox_id = sandbox_id

    def is_paused(self) -> bool:
        from e2b import Sandbox as Box
        from e2b import SandboxState

        options = {**self._service.options, "request_timeout": _ASK_SECONDS}
        try:
            info = Box.get_info(self._sandbox_id, **options)
        except Exception as error:
            raise SandboxLostError(f"the service does not answer: {words_of(error)}") from error
        return bool(info.state == SandboxState.PAUSED)

    def freeze(self, yes: bool) -> None:
        from e2b import Sandbox as Box

        options = {**self._service.options, "request_timeout": _PAUSE_SECONDS}
        try:
            (Box.pause if yes else Box.connect)(self._sandbox_id, **options)
        except Exception as error:
            raise SandboxLostError(f"the service could not do it: {words_of(error)}") from error

    def remove(self) -> None:
        end_sandbox(self._service, self._sandbox_id)
