"""A durable container as one of the processes that use it sees it (C10)."""

from __future__ import annotations

from collections.abc import Callable

import docker
from docker.errors import NotFound

from stockade.errors import SandboxLostError
from stockade.toolkit.supervised import AttachedSandbox
from stockade_docker.create import name_of
from stockade_docker.engine import FAILURES
from stockade_docker.sandbox import ContainerSandbox

__all__ = ["AttachedContainer", "find"]


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


class AttachedContainer(AttachedSandbox):
    """With the engine's own pausing and removing where no supervisor is held."""

    def __init__(
        self,
        api: docker.APIClient,
        container: str,
        reach: ContainerSandbox | Callable[[], ContainerSandbox],
    ) -> None:
        super().__init__(reach)
        self.container = container
        self._api = api

    def is_paused(self) -> bool:
        try:
            return bool(self._api.inspect_container(self.container)["State"].get("Paused"))
        except FAILURES as error:
            raise SandboxLostError(f"the engine does not answer: {error}") from error

    def freeze(self, yes: bool) -> None:
        try:
            (self._api.pause if yes else self._api.unpause)(self.container)
        except FAILURES as error:
            raise SandboxLostError(f"the engine could not do it: {error}") from error

    def remove(self) -> None:
        ContainerSandbox.remove(self._api, self.container)
