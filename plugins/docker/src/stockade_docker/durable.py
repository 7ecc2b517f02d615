"""A durable container as one of the processes that use it sees it (C10)."""

from __future__ import annotations

import threading
from collections.abc import Callable

import docker
from docker.errors import NotFound

from stockade.errors import SandboxLostError, SandboxStartError
from stockade.resident.lane import LaneLostError
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

__all__ = ["AttachedSandbox", "find", "open_first"]

#: Lanes are marked by their numbers, a hundred for each process that uses the container.
_RANGE, _RANGES = 100, 8
#: How many of its first numbers may be taken by background programs of earlier processes.
_TRIES = 50


def open_first(make: Callable[[int], ContainerSandbox], slot: int) -> ContainerSandbox:
    """The sandbox over a first lane whose mark no program carries.

    ``make`` opens it with a lane of the number it is given. Raises LaneLostError and
    SandboxStartError.
    """
    if slot >= _RANGES:
        raise SandboxStartError(
            f"{_RANGES} processes use this session already; detach one of them first."
        )
    for number in range(1 + _RANGE * slot, 1 + _RANGE * slot + _TRIES):
        sandbox = make(number)
        if sandbox.first_is_free():
            return sandbox
        sandbox.release()
    raise SandboxStartError(
        "programs that were left behind by earlier processes carry every mark of this one; end "
        "some of them, or open a new session."
    )


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
    """Opens its first lane when something is to run, so that a paused one can be held too."""

    def __init__(
        self,
        api: docker.APIClient,
        container: str,
        reach: ContainerSandbox | Callable[[], ContainerSandbox],
    ) -> None:
        """``reach`` is the sandbox itself, or opens its first lane, checked as at the
        session's opening."""
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
                except LaneLostError as error:
                    raise SandboxLostError(
                        f"the sandbox does not answer: {error}; destroy the session, or resume it "
                        "where it is paused."
                    ) from error
            return self._inner

    def start(self, request: ExecRequest, output: Output) -> Running:
        return self._reached().start(request, output)

    def terminal(self, request: TerminalRequest) -> Terminal:
        return self._reached().terminal(request)

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
        """Without a lane where there is none: a paused container starts no shell."""
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
