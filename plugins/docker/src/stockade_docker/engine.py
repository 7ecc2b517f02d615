"""Reaching an engine: where it is, a client for it, and what it says of itself."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Mapping
from socket import gaierror
from typing import Any

import attrs
import docker
import requests
from docker.context import ContextAPI
from docker.errors import DockerException, TLSParameterError
from docker.utils import kwargs_from_env

from stockade.capabilities import Feature
from stockade.errors import ConfigError, ProviderUnavailableError
from stockade.system.forks import FreshLock
from stockade_docker import held, transport

__all__ = [
    "FAILURES",
    "EngineInfo",
    "cached_look",
    "caused_by",
    "client",
    "client_at",
    "forget",
    "is_local",
    "look",
    "never_reached",
    "settings",
]

#: What an engine that is away, hangs or answers malformed data makes docker-py raise.
FAILURES = (DockerException, requests.exceptions.RequestException, OSError)
#: Seconds that an ordinary request may take.
REQUEST_SECONDS = 30
_POOL = 64
#: Only for asking which version the engine speaks.
_OLDEST_API = "1.24"
_KEPT_SECONDS = 10.0

_clients: dict[tuple[int, str], docker.APIClient] = {}
_lock = FreshLock()


@attrs.frozen
class EngineInfo:
    """What an engine reports; nothing of its machine is read otherwise, wherever it is."""

    version: str
    kernel: str
    operating_system: str
    runtimes: tuple[str, ...]
    security: tuple[str, ...]
    cgroups: str
    is_podman: bool
    #: Whether it is Docker's own, not what speaks as Docker does.
    is_docker: bool = False
    warnings: tuple[str, ...] = ()
    #: The programs that it consists of, with the versions that it reports.
    components: Mapping[str, str] = attrs.field(factory=dict)
    platform: str = ""  #: the product's name and version, where it is one
    #: Where the runtimes are on its machine, by their names.
    runtime_paths: Mapping[str, str] = attrs.field(factory=dict)
    #: Limits that its containers would not have, whatever they are created with.
    unheld: tuple[Feature, ...] = ()

    @property
    def seccomp(self) -> str | None:
        """The profile that containers get by default ("unconfined": none); None: no filters."""
        for option in self.security:
            name, _, rest = option.partition(",")
            if name in ("name=seccomp", "seccomp"):
                return rest.partition("profile=")[2] or "default"
        return None

    @property
    def apparmor(self) -> bool:
        """Whether containers can be given an AppArmor profile."""
        return self._has("apparmor")

    @property
    def maps_users(self) -> bool:
        """Whether a container's users are others outside, so that it has few numbers for them."""
        return self._has("rootless") or self._has("userns")

    @property
    def labels_files(self) -> bool:
        """Whether containers may read only files that bear their label (SELinux)."""
        return self._has("selinux")

    def _has(self, word: str) -> bool:
        return any(option.split(",")[0] in (f"name={word}", word) for option in self.security)


def settings(engine: str | None) -> dict[str, Any]:
    """Where an engine is and how TLS is spoken to it: by a URL, a context's name, or the
    environment as the docker command reads it. Raises ConfigError."""
    try:
        return _settings(engine)
    except TLSParameterError as error:
        raise ConfigError(f"the engine's certificates cannot be used: {error}") from error


def _settings(engine: str | None) -> dict[str, Any]:
    if engine and "://" in engine:
        if not engine.startswith(("tcp://", "https://")):
            return {"base_url": engine}
        # Of the environment the certificates alone.
        return dict(kwargs_from_env({**os.environ, "DOCKER_HOST": engine}))
    if engine is None and os.environ.get("DOCKER_HOST"):
        return dict(kwargs_from_env())
    name = engine or os.environ.get("DOCKER_CONTEXT") or None
    context = ContextAPI.get_context(name)
    if context is None:
        raise ConfigError(
            f"engine={name!r}: no docker context has that name; see `docker context ls`."
        )
    host = context.Host
    if not host or host.startswith("http+docker"):
        return {}
    return {"base_url": host, "tls": context.TLSConfig}


def _refuse_pipes(place: dict[str, Any]) -> None:
    """docker-py would need another package for them, and they are tested nowhere."""
    address = str(place.get("base_url", ""))
    if address.lower().startswith("npipe:") or (not address and os.name == "nt"):
        raise ConfigError(
            f"engine={address or 'the default of Windows'!r:.200}: named pipes of Windows are not "
            "spoken; name the engine as tcp://HOST:PORT or ssh://USER@HOST, or use stockade "
            "inside WSL."
        )


def _connect(place: dict[str, Any]) -> docker.APIClient:
    """A client that speaks the engine's own version of the API."""
    settings: dict[str, Any] = {**place, "timeout": REQUEST_SECONDS, "pool": _POOL}
    # Asked by a client of its own, not by version="auto": that one leaves its
    # connection open when nobody answers.
    asking = transport.make(**settings, version=_OLDEST_API)
    try:
        answer = asking.version(api_version=False)
        version = str(answer["ApiVersion"])
    finally:
        asking.close()
    return transport.make(**settings, version=version)


def _key(place: dict[str, Any]) -> tuple[int, str]:
    """What distinguishes engines. The process id: a connection must not be shared with a
    forked child."""
    tls = place.get("tls")
    return os.getpid(), f"{place.get('base_url')} {sorted(vars(tls).items()) if tls else ''}"


def client(engine: str | None) -> docker.APIClient:
    """As ``client_at``, for an engine as options and environment name it now."""
    return client_at(settings(engine))


def client_at(place: dict[str, Any]) -> docker.APIClient:
    """The client for an engine, shared by its sessions. Raises ProviderUnavailableError."""
    _refuse_pipes(place)
    key = _key(place)
    with _lock:
        found = _clients.get(key)
    if found is not None:
        return found
    try:
        made = _connect(place)
    except FAILURES as error:
        raise ProviderUnavailableError(
            f"no engine answers at {place.get('base_url', 'the default socket')}: {error}"
        ) from error
    with _lock:
        return _clients.setdefault(key, made)


def never_reached(error: BaseException) -> bool:
    """Whether nobody listened where the engine should be: nothing was asked of it at all."""
    return caused_by(error, ConnectionRefusedError, FileNotFoundError, gaierror)


def caused_by(error: BaseException, *kinds: type[BaseException]) -> bool:
    """Whether one of these is at the root: docker-py, requests and urllib3 each wrap what
    the socket said."""
    seen: list[object] = [error]
    for found in seen:
        if isinstance(found, kinds):
            return True
        if isinstance(found, BaseException) and len(seen) < 50:
            seen += [found.__cause__, *found.args]
    return False


def is_local(api: docker.APIClient) -> bool:
    """Whether the engine shares this machine's files, as far as its address shows."""
    return str(api.base_url).startswith("http+docker://local")


#: By client, not by its address: docker-py calls all local sockets by one.
_seen: weakref.WeakKeyDictionary[docker.APIClient, tuple[float, EngineInfo]] = (
    weakref.WeakKeyDictionary()
)


def cached_look(api: docker.APIClient) -> EngineInfo:
    """What the engine reported within the last seconds, so that sessions in a row ask once."""
    found = _seen.get(api)
    if found is not None and time.monotonic() - found[0] < _KEPT_SECONDS:
        return found[1]
    return look(api)


def forget() -> None:
    """Close all clients: for tests that restart an engine."""
    with _lock:
        clients = list(_clients.values())
        _clients.clear()
        _seen.clear()
    for made in clients:
        made.close()


def look(api: docker.APIClient) -> EngineInfo:
    """Ask the engine for what a wall must know. Raises one of FAILURES."""
    info = api.info()
    version = api.version()
    components = version.get("Components") or []
    security = tuple(info.get("SecurityOptions") or ())
    if info.get("Rootless") is True:  # podman says it in a place of its own
        security = (*security, "name=rootless")
    found = EngineInfo(
        version=str(info.get("ServerVersion", "")),
        kernel=str(info.get("KernelVersion", "")),
        operating_system=str(info.get("OperatingSystem", "")),
        runtimes=tuple(sorted(info.get("Runtimes") or ())),
        security=security,
        cgroups=str(info.get("CgroupVersion", "1")),
        is_podman=any("podman" in str(part.get("Name", "")).lower() for part in components),
        is_docker=any(part.get("Name") == "Engine" for part in components),
        warnings=tuple(info.get("Warnings") or ()),
        components={str(p.get("Name", "")): str(p.get("Version", "")) for p in components},
        platform=str((version.get("Platform") or {}).get("Name", "")),
        runtime_paths={
            str(name): str((about or {}).get("path", ""))
            for name, about in (info.get("Runtimes") or {}).items()
        },
        unheld=held.unheld(info, rootless=any("rootless" in option for option in security)),
    )
    _seen[api] = (time.monotonic(), found)
    return found
