"""One session: one container, its supervisor attached from the start."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Any

import docker
import requests
from docker.errors import APIError, ImageNotFound, NotFound

from stockade.errors import DestroyError, SandboxLostError, SandboxStartError
from stockade.toolkit.supervised import Death, Link, LinkLost, SupervisedSandbox, Transport
from stockade.wall import Changes, OpenRequest
from stockade_docker.create import Shape, arguments, user
from stockade_docker.delivery import COMMAND
from stockade_docker.ending import ContainerEnd
from stockade_docker.engine import FAILURES, never_reached
from stockade_docker.remedies import explain_start
from stockade_docker.streams import EngineTransport

__all__ = ["ContainerSandbox", "NoSupervisorError", "explain"]

_log = logging.getLogger(__name__)

_ATTACH = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
#: How long the engine may take to notice that a container has ended.
_SETTLE_SECONDS = 3.0
_REMOVE_SECONDS = 20.0
#: How long an idle container may take to end by itself before it is killed.
_WIND_DOWN_SECONDS = 0.2


class NoSupervisorError(SandboxStartError):
    """The container did not find the supervisor, or could not execute it."""


class ContainerSandbox(SupervisedSandbox):
    """Made by :meth:`start_container`; the container is gone when that fails (C5)."""

    def __init__(
        self,
        api: docker.APIClient,
        container: str,
        first: Transport | Link,
        request: OpenRequest,
        *,
        own_kernel: bool = False,
        shared: bool = False,
    ) -> None:
        """``own_kernel``: as :attr:`Shape.own_kernel`. ``shared``: others may use the container
        too, and its end is not this link's."""
        self.container = container
        self._own_kernel = own_kernel
        self._api = api
        self._shared = shared
        self._networked = request.config.network_enabled
        self._end: ContainerEnd | None = None
        super().__init__(first, startup_seconds=request.config.startup_timeout_seconds)

    @classmethod
    def start_container(
        cls, api: docker.APIClient, request: OpenRequest, shape: Shape
    ) -> ContainerSandbox:
        """Create, attach, start, shake hands. Raises SandboxStartError, and ImageNotFound."""
        try:
            made = api.create_container(**arguments(api, request, shape))
        except ImageNotFound:
            raise
        except FAILURES as error:
            raise explain("creating the container failed", error, shape) from error
        container: str = made["Id"]
        link = transport = None
        try:
            if request.config.durable:
                api.start(container)
                return cls.join(api, container, request, own_kernel=shape.own_kernel)
            # Attached before it starts, so that nothing it says is missed.
            transport = EngineTransport(api.attach_socket(container, params=_ATTACH))
            link = Link(transport)
            if not shape.podman:  # which takes no input before the start
                link.begin_handshake()
            api.start(container)
            if shape.podman:
                link.begin_handshake()
            sandbox = cls(api, container, link, request, own_kernel=shape.own_kernel)
            sandbox.expire_at(request.expires_at)
            return sandbox
        except BaseException as error:
            state = _state(api, container)
            if transport is not None:
                transport.close()
            _remove_quietly(api, container)
            if isinstance(error, LinkLost):
                words = transport.stderr if transport is not None else b""
                raise _silent(error, state, shape, words) from error
            if isinstance(error, FAILURES):
                raise explain("starting the container failed", error, shape) from error
            raise

    @classmethod
    def join(
        cls, api: docker.APIClient, container: str, request: OpenRequest, *, own_kernel: bool
    ) -> ContainerSandbox:
        """Over a supervisor of this process's own in a container that is held by another.

        Raises LinkLost.
        """
        try:
            made = api.exec_create(container, [COMMAND, "serve"], stdin=True, user=user(request))
            transport = EngineTransport(api.exec_start(made["Id"], socket=True))
        except FAILURES as error:
            raise LinkLost(f"the engine could not start a supervisor: {error}") from error
        try:
            sandbox = cls(api, container, transport, request, own_kernel=own_kernel, shared=True)
        except BaseException:
            transport.close()
            raise
        if own_kernel:
            sandbox.watch_end()
        return sandbox

    def watch_end(self) -> None:
        """Have the link end with the container, although the engine holds it open (D14, E5).

        Raises LinkLost and CapacityError, and lets go of the link then.
        """
        lost = LinkLost("its container has ended")
        try:
            self._end = ContainerEnd(self._api, self.container, lambda: self.link.fail(lost))
        except BaseException as error:
            self.release()
            if isinstance(error, FAILURES):
                raise LinkLost(f"the engine does not show its container's end: {error}") from error
            raise

    # -- what SupervisedSandbox asks for -------------------------------------------

    def post_mortem(self, *, settle: bool) -> Death | None:
        until = time.monotonic() + (_SETTLE_SECONDS if settle else 0.0)
        while True:
            try:
                state: dict[str, Any] = self._api.inspect_container(self.container)["State"]
            except NotFound:
                return Death("its container was removed by somebody else")
            except FAILURES as error:
                return Death(f"the engine does not answer: {error}")
            if not state.get("Running"):
                return _death(state)
            if time.monotonic() > until:
                return None
            time.sleep(0.05)

    def force_end(self) -> None:
        with contextlib.suppress(*FAILURES):
            self._api.kill(self.container)

    def freeze(self, yes: bool) -> None:
        try:
            (self._api.pause if yes else self._api.unpause)(self.container)
        except FAILURES as error:
            raise SandboxLostError(f"the engine could not do it: {error}") from error

    def changes(self) -> Changes | None:
        if self._own_kernel:
            return None
        try:
            found = self._api.diff(self.container) or []
        except FAILURES as error:
            raise SandboxLostError(f"the engine does not answer: {error}") from error
        kinds: dict[int, list[str]] = {0: [], 1: [], 2: []}
        for item in found:
            if not (item["Path"] + "/").startswith("/.stockade/"):
                kinds[item["Kind"]].append(item["Path"])
        return Changes(changed=tuple(kinds[0]), made=tuple(kinds[1]), removed=tuple(kinds[2]))

    def address_of(self, port: int) -> tuple[str, int]:
        if not self._networked:
            return super().address_of(port)
        try:
            found = self._api.port(self.container, port)
        except FAILURES as error:
            raise SandboxLostError(f"the engine does not answer: {error}") from error
        if not found:
            raise SandboxLostError(f"the engine has not published port {port}")
        return found[0]["HostIp"], int(found[0]["HostPort"])

    def close(self) -> None:
        # The engine removes a container that has ended in less time than it takes to kill
        # and remove it; one that does not end by itself is killed.
        if not self._shared and not self._paused:
            self.link.wind_down(_WIND_DOWN_SECONDS)
        super().close()

    def release(self) -> None:
        super().release()
        if self._end is not None:
            self._end.close()

    def detach(self) -> None:
        self.release()

    def destroy(self) -> None:
        self.remove(self._api, self.container)

    @staticmethod
    def remove(api: docker.APIClient, container: str) -> None:
        """Kill and remove a container; gone already is well too. Raises DestroyError."""
        try:
            _remove(api, container)
        except FAILURES as error:
            raise DestroyError(
                f"container {container[:12]} could not be removed: {error}; "
                "try again when the engine answers."
            ) from error


def _death(state: dict[str, Any]) -> Death:
    if state.get("OOMKilled"):
        return Death("the memory limit ended it", out_of_memory=True)
    error = state.get("Error") or ""
    return Death(f"its container has ended with code {state.get('ExitCode')} {error}".rstrip())


def _remove(api: docker.APIClient, container: str) -> None:
    """Kill and remove; also where somebody else is at it. Raises one of FAILURES."""
    until = time.monotonic() + _REMOVE_SECONDS
    broke_off = False
    while True:
        try:
            api.remove_container(container, force=True, v=True)
            return
        except NotFound:
            return
        except requests.exceptions.ConnectionError as error:
            # A connection that was kept may have ended on the other side; asking once more
            # harms nothing, whether the engine was reached or not.
            if broke_off or never_reached(error):
                raise
            broke_off = True
        except APIError as error:
            # 409: another removal runs, or the kill was not seen through yet.
            if error.status_code not in (409, 500) or time.monotonic() > until:
                raise
        time.sleep(0.1)


def _remove_quietly(api: docker.APIClient, container: str) -> None:
    try:
        _remove(api, container)
    except FAILURES:
        _log.exception("removing container %s failed", container[:12])


def _state(api: docker.APIClient, container: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = api.inspect_container(container)["State"]
    except FAILURES:
        return {}
    return found


def _silent(
    error: Exception, state: dict[str, Any], shape: Shape, words: bytes
) -> SandboxStartError:
    """The container runs, or ran, and its supervisor did not answer the handshake."""
    code = state.get("ExitCode")
    ended = not state.get("Running")
    if state.get("OOMKilled"):
        return SandboxStartError(
            "the memory limit ended the container before it was up; raise memory_mb."
        )
    detail = f" (it ended with code {code})" if code and ended else ""
    said = words.decode("utf-8", "replace").strip()
    text = (
        f"the container of {shape.image} started and its supervisor did not answer{detail}: "
        f"{error}." + (f" It said: {said!r}." if said else "")
    )
    # A volume that was filled by halves ends so, and is filled again.
    return NoSupervisorError(text) if ended else SandboxStartError(text)


def explain(what: str, error: BaseException, shape: Shape) -> SandboxStartError:
    """An engine's words with what to do about them."""
    words = str(getattr(error, "explanation", None) or error)
    low = words.lower()
    if not isinstance(error, APIError):  # not its words: it was not reached, or broke off
        return SandboxStartError(f"{what}: {words}.", nothing_began=never_reached(error))
    if COMMAND in low and ("no such file" in low or "stat " in low or "exec format" in low):
        return NoSupervisorError(f"{what}: {words}.")
    if shape.runtime is not None and ("invalid runtime" in low or "unknown runtime" in low):
        return SandboxStartError(
            f"the engine has no runtime {shape.runtime!r}: {words}. Add it to the engine's "
            "configuration (`runtimes` in /etc/docker/daemon.json) and restart the engine."
        )
    if mends := explain_start(words):
        return SandboxStartError(f"{what}: {words}; {mends}.", retryable=False)
    return SandboxStartError(f"{what}: {words}.", retryable=(error.status_code or 500) >= 500)
