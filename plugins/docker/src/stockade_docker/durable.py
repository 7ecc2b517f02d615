"""A durable container as one of the processes that use it sees it (C10)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import docker
from docker.errors import NotFound

from stockade.errors import SandboxLostError
from stockade.file_backend import FileBackend
from stockade.toolkit.supervised import LinkLost
from stockade.wall import (
    Changes,
    ExecRequest,
    Output,
    Running,
    Sandbox,
    Terminal,
    TerminalRequest,
)
from stockade_docker.create import name_of
from stockade_docker.engine import FAILURES
from stockade_docker.sandbox import ContainerSandbox

__all__ = ["AttachedSandbox", "find"]


def find(api: docker.APIClient, session_id: str) -> str:
    """The id of a session's container. Raises SandboxLostError where it does not run."""
    try:
        found = api.inspect_container(name_of(session_id))
    except NotFound:
        raise SandboxLostError(
            f"the container of session {session_id} is gone; open a new session."
        ) from None
    if not found["State"].get("Running"):
        raise SandboxLostError(
            f"the container of session {session_id} has ended; destroy the session and open a "
            "new one."
        )
    return str(found["Id"])


class AttachedSandbox(Sandbox):
    """Starts a supervisor when something is to run, so that a paused one can be held too."""

    def __init__(
        self,
        api: docker.APIClient,
        container: str,
        reach: ContainerSandbox | Callable[[], ContainerSandbox],
    ) -> None:
        """``reach`` is the sandbox itself, or starts a supervisor in it, checked
        as at the session's opening."""
        self.container = container
        self._api = api
        self._lock = threading.Lock()
        self._inner = reach if isinstance(reach, ContainerSandbox) else None
        self._reach = reach
        self._left = False

    def _reached(self) -> ContainerSandbox:
        with self._lock:
            if self._left:
                raise SandboxLostError("the session was let go of; attach to it again.")
            if self._inner is None:
                assert not isinstance(self._reach, ContainerSandbox)
                try:
                    self._inner = self._reach()
                except LinkLost as error:
                    raise SandboxLostError(
                        f"the sandbox does not answer: {error}; destroy the session, or resume it "
                        "where it is paused."
                    ) from error
            return self._inner

    def start(self, request: ExecRequest, output: Output) -> Running:
        return self._reached().start(request, output)

    def terminal(self, request: TerminalRequest) -> Terminal:
        return self._reached().terminal(request)

    def languages(self) -> Sequence[str] | None:
        return self._reached().languages()

    def interpreter(self, language: str) -> str | None:
        return self._reached().interpreter(language)

    def files(self) -> FileBackend | None:
        return self._reached().files()

    def changes(self) -> Changes | None:
        return self._reached().changes()

    def address_of(self, port: int) -> tuple[str, int]:
        return self._reached().address_of(port)

    def is_paused(self) -> bool:
        try:
            return bool(self._api.inspect_container(self.container)["State"].get("Paused"))
        except FAILURES as error:
            raise SandboxLostError(f"the engine does not answer: {error}") from error

    def pause(self) -> None:
        self._freeze(self._api.pause, lambda inner: inner.pause())

    def resume(self) -> None:
        self._freeze(self._api.unpause, lambda inner: inner.resume())

    def _freeze(
        self, act: Callable[[str], None], through: Callable[[ContainerSandbox], None]
    ) -> None:
        """Without a supervisor where there is none: a paused container starts no program."""
        with self._lock:
            inner = self._inner
        if inner is not None:
            through(inner)
            return
        try:
            act(self.container)
        except FAILURES as error:
            raise SandboxLostError(f"the engine could not do it: {error}") from error

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
            ContainerSandbox.remove(self._api, self.container)
