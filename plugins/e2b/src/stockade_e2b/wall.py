"""``e2b[:template][?options]``: what it can do, and whether the service is there."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from stockade.capabilities import Capabilities, Isolation
from stockade.config import SandboxConfig
from stockade.errors import ConfigError, ProviderUnavailableError
from stockade.system.installing import install
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
    Wall,
)
from stockade_e2b.service import Service, is_cloud, words_of

__all__ = ["E2bWall"]

_TEMPLATE = "base"
_ASK_SECONDS = 10.0


def _seconds(text: str) -> float:
    value = float(text)
    if not 3 <= value <= 86_400:
        raise ValueError("seconds from 3 to 86400 are needed")
    return value


def _moment(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 9:
        raise ValueError("seconds from 0.1 to 9 are needed")
    return value


def _url(text: str) -> str:
    if not text.startswith(("https://", "http://")) or any(c.isspace() for c in text):
        raise ValueError("a URL that begins with https:// or http:// is needed")
    return text.rstrip("/")


class E2bWall(Wall):
    """A sandbox of a service for each session."""

    summary = "sandboxes of E2B's cloud, and of services that speak its protocol"
    target_is_name = True
    fixed_elsewhere = ("memory_mb", "cpu_limit", "max_processes", "disk_mb")
    options: ClassVar[Mapping[str, Option]] = {
        "key_file": Option(str, None, "a file that holds the API key; else E2B_API_KEY"),
        "domain": Option(str, None, "the service's domain; else E2B_DOMAIN, or E2B's own"),
        "api_url": Option(
            _url, None, "the service's URL, such as stockade serve's; else E2B_API_URL"
        ),
        "sandbox_url": Option(
            _url, None, "the URL of its sandboxes; else api_url, or E2B_SANDBOX_URL"
        ),
        "timeout": Option(
            _seconds, 300.0, "seconds after which the service ends what its process has left"
        ),
        "kill_seconds": Option(
            _moment,
            0.9,
            "seconds that a killed program may take to end before its sandbox is ended; more than "
            "the contract's one is for services that are far away",
        ),
    }
    _OTHERS = "the template's: `stockade doctor` and session.limits show it"
    capabilities = Capabilities(
        {
            "argv": "native",
            "shell": "native",
            "code": "native",
            "stateful": "native",
            "notebook": "native",
            "background": "native",
            "files": ("emulated", "by the supervisor inside"),
            "watch": "native",
            "memory": ("unsupported", _OTHERS),
            "cpu": ("unsupported", _OTHERS),
            "processes": ("unsupported", _OTHERS),
            "disk": ("unsupported", _OTHERS),
            "network-off": ("native", "the service's own"),
            "network": ("native", "the service's own, where the template has one"),
            "allow-list": (
                "emulated",
                "this process reaches the hosts; the sandbox's own network is off",
            ),
            "secrets": secrets_level(),
            "loopback": "native",
            "read-only-root": (
                "native",
                "the template's, or made so as root; looked at as the session is opened",
            ),
            "writable-root": ("native", "where the template's can be written"),
            "working-dir": ("native", "a folder of the template's that can be written"),
            "snapshot": ("emulated", "an archive of what the supervisor brings out"),
            "pause": "native",
            "durable": ("native", "the service keeps it, whichever processes come and go"),
            "live-input": "native",
            "signals": "native",
            "merged-output": "native",
            "terminal": "native",
            "ports": ("emulated", "carried over the session's own connection"),
            "user": ("unsupported", "the service's user"),
            "execution-user": ("unsupported", "the service's user"),
            "mounts": ("unsupported", "copy files in with session.files"),
            "process-hardening": ("unsupported", "the service's wall is all that is known"),
        }
    )

    def __init__(self, target: str | None = None, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(target, options)
        self.template = target or _TEMPLATE
        self._at: Service | None = None

    @property
    def isolation(self) -> Isolation:  # type: ignore[override]
        """Of E2B's cloud a virtual machine; of others the least that they may have."""
        return Isolation.VM if is_cloud(self.chosen) else Isolation.PROCESS

    def _service(self) -> Service:
        return self._at or Service.of(self.chosen)

    def has_own_loopback(self, config: SandboxConfig) -> bool:
        return True

    def probe(self) -> Availability:
        if importlib.util.find_spec("e2b") is None:
            remedy = install("stockade-e2b")
            return Availability((Check("e2b", False, "the SDK is not installed", remedy),))
        try:
            service = self._service()
        except ConfigError as error:
            return Availability((Check("key", False, str(error), "set E2B_API_KEY or key_file"),))
        from stockade_e2b.probing import checks

        return Availability(checks(service, self.template))

    def open(self, request: OpenRequest) -> Sandbox:
        from stockade_e2b.opening import opened

        return opened(self._service(), self.template, request, WayOut.of(request))

    # -- what outlives a process ------------------------------------------------------

    def place(self) -> Place:
        return self._service().place

    def look_at(self, place: Place) -> None:
        self._at = Service.of(self.chosen).at(place)

    def leftovers(self) -> Sequence[Leftover]:
        from stockade_e2b.leftovers import all_of

        try:
            return all_of(self._service())
        except Exception as error:
            raise ProviderUnavailableError(
                f"the service does not answer: {words_of(error)}"
            ) from error

    def remove(self, leftover: Leftover) -> None:
        from stockade_e2b.sandbox import end_sandbox

        end_sandbox(self._service(), leftover.handle)

    def attach(self, request: AttachRequest) -> Sandbox:
        from stockade_e2b.opening import attached

        return attached(self._service(), self.template, request, WayOut.of(request))
