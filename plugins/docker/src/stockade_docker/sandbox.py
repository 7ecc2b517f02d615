"""One session: one container, its supervisor attached from the start."""

from __future__ import annotations

import contextlib
import logging
import time
from importlib.resources import files
from typing import Any

import attrs
import docker
import requests
from docker.errors import APIError, ImageNotFound, NotFound

from stockade.errors import DestroyError, SandboxLostError, SandboxStartError
from stockade.resident import (
    NEEDS,
    Channel,
    Death,
    Lane,
    LaneLostError,
    ResidentSandbox,
    supervisor,
    supervisor_by_input,
)
from stockade.toolkit.egress import Gateway, Names
from stockade.wall import (
    Changes,
    ExecRequest,
    OpenRequest,
    Output,
    Running,
    Terminal,
    TerminalRequest,
)
from stockade_docker.channel import EngineChannel
from stockade_docker.create import Shape, arguments, user
from stockade_docker.engine import FAILURES, never_reached
from stockade_docker.forwarding import Forwarding
from stockade_docker.terminal import EngineTerminal

__all__ = ["ContainerSandbox", "NoShellError", "SharedSandbox", "explain"]

_log = logging.getLogger(__name__)

_ATTACH = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
#: How long the engine may take to notice that a container has ended.
_SETTLE_SECONDS = 3.0
_REMOVE_SECONDS = 20.0
#: How long an idle container may take to end by itself before it is killed.
_WIND_DOWN_SECONDS = 0.2
#: What podman's init says of a command that is not there; docker's tells by its code.
_INIT_FOUND_NONE = "failed to exec pid1"
#: How long the way out to named hosts may take to open.
_EGRESS_SECONDS = 20.0


class NoShellError(SandboxStartError):
    """The image holds no shell that could run programs."""


class ContainerSandbox(ResidentSandbox):
    """Made by :meth:`start_container`; the container is gone when that fails (C5)."""

    def __init__(
        self, api: docker.APIClient, container: str, first: Lane | None, request: OpenRequest,
        *, number: int = 0, sees_root: bool = True,
    ) -> None:  # fmt: skip
        """Over ``first``, lane 0 that the container was started with, or else over a lane
        ``number`` by the engine's exec."""
        self.container = container
        self._sees_root = sees_root
        self._api = api
        self._user = user(request)
        self.home = request.config.working_dir  # a tmpfs is mounted there
        self._forwarding: Forwarding | None = None
        self._proxy: dict[str, str] = {}
        seconds = request.config.startup_timeout_seconds
        super().__init__(first or self.open_channel(number), startup_seconds=seconds, number=number)

    @classmethod
    def start_container(
        cls, api: docker.APIClient, request: OpenRequest, shape: Shape
    ) -> ContainerSandbox:
        """Create, attach, start, greet. Raises SandboxStartError, and ImageNotFound."""
        try:
            made = api.create_container(**arguments(api, request, shape))
        except ImageNotFound:
            raise
        except FAILURES as error:
            raise explain("creating the container failed", error, shape) from error
        container: str = made["Id"]
        channel = None
        try:
            if request.config.durable:
                api.start(container)
                return SharedSandbox(api, container, None, request, number=1)
            # Attached before it starts, so that nothing it says is missed.
            channel = EngineChannel(api.attach_socket(container, params=_ATTACH))
            lane = Lane(0, channel)
            text = supervisor_by_input(0)[1]
            if not shape.podman:  # which takes no input before the start
                lane.hail(text)
            api.start(container)
            if shape.podman:
                lane.hail(text)
            sandbox = cls(api, container, lane, request, sees_root=shape.sees_root)
            sandbox.expire_at(request.expires_at)
            return sandbox
        except BaseException as error:
            state = _state(api, container)
            if channel is not None:
                channel.close()
            _remove_quietly(api, container)
            if isinstance(error, LaneLostError):
                raise _silent(error, state, shape) from error
            if isinstance(error, FAILURES):
                raise explain("starting the container failed", error, shape) from error
            raise

    # -- what ResidentSandbox asks for -----------------------------------------

    def start(self, request: ExecRequest, output: Output) -> Running:
        if self._proxy:
            request = attrs.evolve(request, env={**self._proxy, **request.env})
        return super().start(request, output)

    def open_egress(self, names: Names) -> None:
        """Let programs reach these hosts and nothing else (E10). Raises SandboxStartError."""
        if self.hello.python is None:
            raise SandboxStartError(
                "network_allow needs Python in the image, which carries the connections out; "
                "take an image with Python, or leave network_allow out.",
                retryable=False,
            )
        try:
            code = files("stockade.resident").joinpath("forwarder.py").read_text()
            channel = self._exec([self.hello.python, "-c", code])
            self._forwarding = Forwarding(channel, Gateway(names))
            url = f"http://127.0.0.1:{self._forwarding.start(_EGRESS_SECONDS)}"
            self.hello = self._lanes[self._first].greet(
                _EGRESS_SECONDS
            )  # one process more is usual now
        except (LaneLostError, OSError) as error:
            raise SandboxStartError(f"the way out could not be opened: {error}") from error
        words = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
        self._proxy = dict.fromkeys(words, url)

    def open_channel(self, number: int) -> Channel:
        script, zygote = supervisor()
        return self._exec(["sh", "-c", script, "sh", str(number), zygote])

    def _exec(self, argv: list[str]) -> Channel:
        try:
            made = self._api.exec_create(self.container, argv, stdin=True, user=self._user)
            return EngineChannel(self._api.exec_start(made["Id"], socket=True))
        except FAILURES as error:
            raise LaneLostError(f"the engine could not start another shell: {error}") from error

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

    # -- capabilities ----------------------------------------------------------

    def freeze(self, yes: bool) -> None:
        try:
            (self._api.pause if yes else self._api.unpause)(self.container)
        except FAILURES as error:
            raise SandboxLostError(f"the engine could not do it: {error}") from error

    def changes(self) -> Changes | None:
        if not self._sees_root:
            return None
        try:
            found = self._api.diff(self.container) or []
        except FAILURES as error:
            raise SandboxLostError(f"the engine does not answer: {error}") from error
        kinds: dict[int, list[str]] = {0: [], 1: [], 2: []}
        for item in found:
            kinds[item["Kind"]].append(item["Path"])
        return Changes(changed=tuple(kinds[0]), made=tuple(kinds[1]), removed=tuple(kinds[2]))

    def address_of(self, port: int) -> tuple[str, int]:
        try:
            found = self._api.port(self.container, port)
        except FAILURES as error:
            raise SandboxLostError(f"the engine does not answer: {error}") from error
        if not found:
            raise SandboxLostError(f"the engine has not published port {port}")
        return found[0]["HostIp"], int(found[0]["HostPort"])

    def terminal(self, request: TerminalRequest) -> Terminal:
        self.counts_processes = False  # its programs belong to no lane
        return EngineTerminal(self._api, self.container, self._user, request)

    def first_is_free(self) -> bool:
        """Whether no program of another process carries the first lane's mark."""
        return self._lanes[self._first].count() == 0

    def close(self) -> None:
        # The engine removes a container that has ended in less time than it takes to kill
        # and remove it; one that does not end by itself is killed. Only lane 0 is its end.
        if self._first == 0 and not self._paused:
            self.wind_down(_WIND_DOWN_SECONDS)
        super().close()

    def detach(self) -> None:
        self.release()
        if self._forwarding is not None:
            self._forwarding.close()

    def destroy(self) -> None:
        if self._forwarding is not None:
            self._forwarding.close()
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


class SharedSandbox(ContainerSandbox):
    """A durable container: other processes' lanes come and go in it."""

    counts_processes = False


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
            # harms nothing, whether the engine was told or not.
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


def _silent(error: Exception, state: dict[str, Any], shape: Shape) -> SandboxStartError:
    """The container runs, or ran, and its supervisor did not greet."""
    code = state.get("ExitCode")
    detail = f" (it ended with code {code})" if code and not state.get("Running") else ""
    if state.get("OOMKilled"):
        return SandboxStartError(
            "the memory limit ended the container before it was up; raise memory_mb."
        )
    if code in (126, 127) or _INIT_FOUND_NONE in str(error):
        return _no_shell(shape, "the init found no sh")
    return SandboxStartError(
        f"the container of {shape.image} started and did not answer{detail}: {error}. "
        f"The image must hold {NEEDS}."
    )


def _no_shell(shape: Shape, words: str) -> NoShellError:
    return NoShellError(
        f"image {shape.image} has no shell to run programs with; the wall needs {NEEDS} in the "
        f"image, or an image that lends it a shell by the option shell. The engine says: {words}",
        retryable=False,
    )


def explain(what: str, error: BaseException, shape: Shape) -> SandboxStartError:
    """An engine's words with what to do about them."""
    words = str(getattr(error, "explanation", None) or error)
    low = words.lower()
    if not isinstance(error, APIError):  # not its words: it was not reached, or broke off
        return SandboxStartError(f"{what}: {words}.", nothing_began=never_reached(error))
    if (
        "executable file not found" in low
        or '"sh": stat' in low
        or "no such file or directory" in low
    ):
        return _no_shell(shape, words)
    if shape.runtime is not None and ("invalid runtime" in low or "unknown runtime" in low):
        return SandboxStartError(
            f"the engine has no runtime {shape.runtime!r}: {words}. Add it to the engine's "
            "configuration (`runtimes` in /etc/docker/daemon.json) and restart the engine."
        )
    return SandboxStartError(f"{what}: {words}.", retryable=(error.status_code or 500) >= 500)
