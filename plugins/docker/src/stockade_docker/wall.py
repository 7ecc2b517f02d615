"""The docker wall, and the base of gvisor and kata: they add a runtime and its proof."""

from __future__ import annotations

import contextlib
import logging
import os
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import attrs
import docker
from docker.errors import ImageNotFound

from stockade.capabilities import Capabilities, Isolation, refuse
from stockade.config import SandboxConfig
from stockade.errors import (
    ConfigError,
    ProviderUnavailableError,
    SandboxStartError,
    StockadeError,
)
from stockade.toolkit.egress import WayOut, secrets_level
from stockade.wall import (
    AttachRequest,
    Availability,
    Check,
    Leftover,
    OpenRequest,
    Option,
    Place,
    Sandbox,
    Usage,
    Wall,
)
from stockade_docker import (
    delivery,
    etc,
    held,
    images,
    leftovers,
    places,
    remedies,
    seccomp,
    versions,
)
from stockade_docker import engine as engines
from stockade_docker.create import Shape
from stockade_docker.durable import AttachedContainer, find
from stockade_docker.identity import with_user
from stockade_docker.options import OPTIONS
from stockade_docker.sandbox import ContainerSandbox, NoSupervisorError, explain

__all__ = ["CAPABILITIES", "OPTIONS", "ContainerWall", "DockerWall"]

_log = logging.getLogger(__name__)
_Request = TypeVar("_Request", bound=OpenRequest)

_ALLOW_LIST = "an HTTP proxy on loopback, carried over the session's own connection to this process"

CAPABILITIES = Capabilities(
    {
        "argv": "native",
        "shell": "native",
        "code": "native",
        "stateful": "native",
        "notebook": "native",
        "background": "native",
        "process-hardening": "native",
        "files": ("emulated", "by programs inside; the engine's copy fails on a read-only root"),
        "watch": "native",
        "memory": "native",
        "cpu": "native",
        "processes": "native",
        "disk": ("native", "a tmpfs for each folder, counted as memory"),
        "network-off": "native",
        "loopback": "native",
        "network": "native",
        "read-only-root": "native",
        "writable-root": "native",
        "user": "native",
        "working-dir": "native",
        "mounts": "native",
        "ports": ("native", "on this machine's loopback"),
        "pause": "native",
        "snapshot": ("emulated", "an archive made by a program inside"),
        "live-input": "native",
        "signals": "native",
        "merged-output": "native",
        "terminal": "native",
        "allow-list": ("emulated", _ALLOW_LIST),
        "secrets": secrets_level(),
        "durable": ("native", "the engine keeps the container, whichever processes come and go"),
    }
)


class ContainerWall(Wall):
    """A container for each session, on any engine that speaks the Docker API."""

    isolation = Isolation.CONTAINER
    target_is_name = True
    capabilities = CAPABILITIES
    options: ClassVar[Mapping[str, Option]] = OPTIONS

    def __init__(self, target: str | None = None, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(target, options)
        self.image = images.check_reference(target or images.DEFAULT_IMAGE)
        self._at: dict[str, Any] | None = None  # an engine to look at, whatever leads elsewhere
        # A pull has a bound of its own; asking the engine for the image has one each time.
        self.prepare_seconds = self.chosen["pull_seconds"] + 2 * engines.REQUEST_SECONDS

    # -- what gvisor and kata change ------------------------------------------

    def runtime(self, info: engines.EngineInfo) -> str | None:
        """The engine's runtime for the container; None is the engine's own choice."""
        return None

    def runtime_checks(self, info: engines.EngineInfo) -> list[Check]:
        """What the probe looks at beside the engine."""
        return [*versions.runtime_check(info), *held.buffers_check(info.cgroups)]

    def shape(self, request: OpenRequest, info: engines.EngineInfo) -> Shape:
        """What the container is made with beside the configuration."""
        local = engines.is_local(self._client())
        return Shape(
            image=self.image,
            runtime=self.runtime(info),
            seccomp=seccomp.stated(self.chosen["seccomp"], info, local=local),
            apparmor=self._apparmor(info),
            shm_mb=self.chosen["shm_mb"],
            local_engine=local,
            podman=info.is_podman,
            knows_network_disabled=info.is_docker,
        )

    def _apparmor(self, info: engines.EngineInfo) -> str | None:
        name: str | None = self.chosen["apparmor"]
        if name is not None and not info.apparmor:
            raise ConfigError(f"apparmor={name!r}: the engine has no AppArmor; leave it out.")
        # Podman has one of its own making and applies it itself.
        return name or ("docker-default" if info.apparmor and not info.is_podman else None)

    def verify(self, sandbox: ContainerSandbox, info: engines.EngineInfo) -> None:
        """Look from inside whether the wall is what it says. Raises SandboxStartError."""

    # -- the wall ---------------------------------------------------------------

    def probe(self) -> Availability:
        try:
            info = engines.look(self._client())
        except (StockadeError, *engines.FAILURES) as error:
            mends = remedies.remedy(error, self.chosen["engine"])
            soon = not isinstance(error, ConfigError) and not _absent(error)
            return Availability((Check("engine", False, str(error), mends, soon),))
        checks = [
            versions.engine_check(info),
            self._seccomp_check(info),
            *held.check(info.unheld),
            *self.runtime_checks(info),
        ]
        return Availability(tuple(checks))

    def _seccomp_check(self, info: engines.EngineInfo) -> Check:
        choice = self.chosen["seccomp"]
        if not seccomp.filtered(choice, info):
            return Check("seccomp", False, seccomp.UNFILTERED, seccomp.FILTER_IT)
        engines_own = f"the engine's own profile ({info.seccomp})"
        words = {None: "stockade's own profile", seccomp.ENGINE: engines_own}
        return Check("seccomp", True, words.get(choice, f"the profile {choice}"))

    def has_own_loopback(self, config: SandboxConfig) -> bool:
        return True

    def warning(self, config: SandboxConfig) -> str:
        if not config.network_enabled:
            return ""
        return (
            "the code is on the network of the engine's containers: sessions and other containers "
            "there reach one another, and the engine's machine by its address on it, beside all "
            "that this machine reaches; name hosts (network_allow) to open these alone"
        )

    def prepare(self, request: OpenRequest) -> None:
        """Have the image on the engine; whoever lacks it waits for as long as it is allowed."""
        api = self._client()
        there = _there.setdefault(api, set())
        try:
            if self.chosen["pull"] == "always":
                self._fetch(api)
            elif self.image not in there:
                api.inspect_image(self.image)
        except ImageNotFound:
            self._fetch(api)
        except engines.FAILURES as error:
            raise _away(error) from error
        there.add(self.image)

    def open(self, request: OpenRequest) -> Sandbox:
        if request.config.working_dir in ("/", "/tmp"):
            raise ConfigError(
                f"working_dir={request.config.working_dir!r} cannot be a folder of its own; "
                "use /workspace."
            )
        way_out = WayOut.of(request)
        api = self._client()
        try:
            info = self._info(api)
        except engines.FAILURES as error:
            raise _away(error) from error
        refuse("this engine", request.config, held.by_engine(self.capabilities, info.unheld))
        own_user = request.config.user is None
        request = self._with_user(request, info)
        shape = self.shape(request, info)
        if own_user:
            shape = attrs.evolve(shape, user_name=etc.USER)
        contents = etc.texts(request, own_user=own_user, podman=info.is_podman)
        if etc.can_be_shown(info, shape) and api not in _apart:
            sandbox = self._start_with_files(api, request, shape, contents)
        else:
            sandbox = self._start(api, request, shape)
        try:
            self._complete(sandbox, info, request.config, way_out)
        except BaseException:
            sandbox.close()
            raise
        if not request.config.durable:
            return sandbox
        return AttachedContainer(api, sandbox.container, sandbox)

    def _with_user(self, request: _Request, info: engines.EngineInfo) -> _Request:
        own_kernel = self.isolation in (Isolation.KERNEL, Isolation.VM)
        return with_user(request, info, own_kernel=own_kernel)

    def _start_with_files(
        self, api: docker.APIClient, request: OpenRequest, shape: Shape, contents: dict[str, str]
    ) -> ContainerSandbox:
        """Start with files of this machine, or without where the engine is on another."""
        try:
            with etc.made(request, contents) as files:
                try:
                    shown = attrs.evolve(shape, files=files.sources)
                    return self._start(api, request, shown)
                except SandboxStartError as error:
                    if files.folder not in str(error):
                        raise
                    _apart.add(api)
        except OSError as error:
            _log.debug("%s cannot be written: %s", ", ".join(contents), error)
        return self._start(api, request, shape)

    def _start(self, api: docker.APIClient, request: OpenRequest, shape: Shape) -> ContainerSandbox:
        machine = images.machine(api, self.image)
        shape = attrs.evolve(shape, machine=machine)
        for anew in (False, True):
            try:
                delivery.have(api, self.image, machine, request.owner, anew=anew)
                return ContainerSandbox.start_container(api, request, shape)
            except ImageNotFound:  # it was there when this process last looked
                if anew:
                    raise
                self._fetch(api)
            except engines.FAILURES as error:
                raise explain("having the supervisor on the engine failed", error, shape) from error
            except NoSupervisorError:  # somebody removed its volume, or filled it by halves
                if anew:
                    raise
        raise AssertionError("one of the two ways was taken")

    def _complete(
        self,
        sandbox: ContainerSandbox,
        info: engines.EngineInfo,
        config: SandboxConfig,
        way_out: WayOut | None,
    ) -> None:
        self.verify(sandbox, info)
        if way_out is not None:
            sandbox.open_egress(way_out)
        if config.ports and not config.network_enabled:
            sandbox.publish(config.ports)

    # -- what outlives a process ----------------------------------------------

    def place(self) -> Place:
        return places.place_of(self._settings())

    def look_at(self, place: Place) -> None:
        with contextlib.suppress(ConfigError):  # a context that is no more, say
            if self.place().word == place.word:  # which may know more, such as a password
                return
        self._at = places.settings_of(place)

    def leftovers(self) -> Sequence[Leftover]:
        try:
            api = self._client()
            found = [*leftovers.all_of(api), *leftovers.old_volumes_of(api)]
            return [*found, *etc.leftovers()]
        except engines.FAILURES as error:
            raise ProviderUnavailableError(f"the engine does not answer: {error}") from error

    def remove(self, leftover: Leftover) -> None:
        if os.path.isabs(leftover.handle):
            etc.remove(leftover.handle)
        elif leftover.handle.startswith(delivery.VOLUME):
            delivery.remove(self._client(), leftover.handle)
        else:
            ContainerSandbox.remove(self._client(), leftover.handle)

    def usage(self, leftover: Leftover) -> Usage | None:
        if os.path.isabs(leftover.handle) or leftover.handle.startswith(delivery.VOLUME):
            return None
        try:
            return leftovers.usage_of(self._client(), leftover.handle)
        except engines.FAILURES:
            return None

    def attach(self, request: AttachRequest) -> Sandbox:
        api = self._client()
        way_out = WayOut.of(request)
        try:
            container = find(api, request.session_id)
            info = self._info(api)
        except engines.FAILURES as error:
            raise SandboxStartError(f"the engine does not answer: {error}") from error
        request = self._with_user(request, info)
        own_kernel = self.shape(request, info).own_kernel

        def reach() -> ContainerSandbox:
            sandbox = ContainerSandbox.join(api, container, request, own_kernel=own_kernel)
            try:
                self._complete(sandbox, info, request.config, way_out)
            except BaseException:
                sandbox.detach()
                raise
            return sandbox

        return AttachedContainer(api, container, reach)

    def _fetch(self, api: docker.APIClient) -> None:
        images.fetch(api, self.image, self.chosen["pull"], self.chosen["pull_seconds"])

    def _settings(self) -> dict[str, Any]:
        return self._at or engines.settings(self.chosen["engine"])

    def _client(self) -> docker.APIClient:
        return engines.client_at(self._settings())

    def _info(self, api: docker.APIClient) -> engines.EngineInfo:
        return engines.cached_look(api)


class DockerWall(ContainerWall):
    """``docker[:image][?options]``."""

    summary = (
        "hardened containers on the engine's own kernel; docker, podman and what speaks as they"
    )


def _absent(error: BaseException) -> bool:
    """Whether there is no engine at all, rather than one that is being restarted."""
    return engines.caused_by(error, FileNotFoundError)


#: Engines that do not find files of this machine, though their sockets are here.
_apart: weakref.WeakSet[docker.APIClient] = weakref.WeakSet()
#: Images that an engine was seen to have.
_there: weakref.WeakKeyDictionary[docker.APIClient, set[str]] = weakref.WeakKeyDictionary()


def _away(error: BaseException) -> SandboxStartError:
    return SandboxStartError(
        f"the engine does not answer: {error}", retryable=True, nothing_began=True
    )
