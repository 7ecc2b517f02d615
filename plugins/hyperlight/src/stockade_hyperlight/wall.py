"""``hyperlight[:python|javascript][?options]``: what it can do, and whether it can here."""

from __future__ import annotations

import importlib.util
import platform
import tempfile
from collections.abc import Mapping, Sequence
from typing import ClassVar

from stockade.capabilities import Capabilities, Isolation
from stockade.errors import ConfigError, UnsupportedError
from stockade.system.installing import install
from stockade.toolkit import kvm
from stockade.wall import (
    Availability,
    Check,
    Leftover,
    OpenRequest,
    Option,
    Place,
    Sandbox,
    Wall,
)
from stockade_hyperlight import leftovers, tools
from stockade_hyperlight.session import HyperlightSandbox, guest_spec

__all__ = ["HyperlightWall"]

#: The guests do not start in less.
MIN_MEMORY_MB = 64
#: Where no limit is asked for.
_MEMORY_MB = 512
_LANGUAGES = ("python", "javascript")
_PACKAGES = {
    ("python", "wasm"): ("hyperlight_sandbox_backend_wasm", "python_guest"),
    ("javascript", "wasm"): ("hyperlight_sandbox_backend_wasm", "javascript_guest"),
    ("javascript", "js"): ("hyperlight_sandbox_backend_hyperlight_js",),
}


def _backend(text: str) -> str:
    if text not in ("wasm", "js"):
        raise ValueError("wasm or js is needed")
    return text


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 64:
        raise ValueError("a whole number from 1 to 64 is needed")
    return int(text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


class HyperlightWall(Wall):
    """Short code in one language, each execution from a clean guest."""

    isolation = Isolation.VM
    summary = "Hyperlight microVMs for short Python or JavaScript code; needs KVM, no image"
    options: ClassVar[Mapping[str, Option]] = {
        "backend": Option(
            _backend, "wasm", "wasm, or for JavaScript js: a guest that is QuickJS alone"
        ),
        "parallel": Option(
            _count, 8, "microVMs of one session at the same time; further executions wait"
        ),
        "tools": Option(
            _names,
            (),
            "names of host functions the code may call, out of those that the "
            "program registered with stockade_hyperlight.allow_tool",
        ),
    }
    capabilities = Capabilities(
        {
            "argv": ("unsupported", "there are no programs inside"),
            "shell": ("unsupported", "there is no shell inside"),
            "code": ("native", "Python or JavaScript, as the target says"),
            "stateful": ("emulated", "a microVM for each named interpreter; Python alone"),
            "notebook": ("unsupported", "print what you need"),
            "watch": ("unsupported", "nobody reports changes of the two folders"),
            "files": ("native", "two folders, /input (read-only inside) and /output"),
            "snapshot": ("emulated", "the files; the guest itself starts clean each time"),
            "pause": ("native", "the microVMs' processes are stopped"),
            "memory": ("native", "of each microVM, and each running execution has one"),
            "cpu": ("native", "a microVM has one cpu; less than 1 is refused"),
            "processes": ("native", "there are none but the guest"),
            "disk": ("native", "of each of the two folders"),
            "network-off": ("native", "a guest has no network"),
            "network": ("unsupported", "only to named hosts: network_allow"),
            "allow-list": ("native", "HTTP and HTTPS by http_get, http_post and fetch alone"),
            "read-only-root": ("native", "there is none to write"),
            "background": ("unsupported", "nothing inside outlives its execution"),
            "process-hardening": ("unsupported", "there are no processes to harden"),
            "durable": ("unsupported", "a session ends with the process that opened it"),
        }
    )

    def __init__(self, target: str | None = None, options: Mapping[str, object] | None = None):
        super().__init__(target, options)
        self._place = ""
        self.language = target or "python"
        if self.language not in _LANGUAGES:
            raise ConfigError(
                f"hyperlight:{target} is not known; the target is a language: "
                f"{' or '.join(_LANGUAGES)}."
            )
        if self.language == "python" and self.chosen["backend"] == "js":
            raise ConfigError("backend=js runs JavaScript alone; leave it out for Python.")

    def probe(self) -> Availability:
        found = [self._packages()]
        if found[0].ok:
            found += kvm.checks()
        return Availability(tuple(found))

    def _packages(self) -> Check:
        needed = ("hyperlight_sandbox", *_PACKAGES[self.language, self.chosen["backend"]])
        missing = [name for name in needed if importlib.util.find_spec(name) is None]
        if missing:
            detail = f"{', '.join(missing)} is not installed"
            return Check("hyperlight-sandbox", False, detail, install("stockade-hyperlight"))
        machine = platform.machine()
        return Check("hyperlight-sandbox", True, f"installed, for {machine}")

    def open(self, request: OpenRequest) -> Sandbox:
        config = request.config
        memory = _MEMORY_MB if config.memory_mb is None else config.memory_mb
        if memory < MIN_MEMORY_MB:
            raise ConfigError(
                f"memory_mb={memory} is too little for hyperlight's guests: at least "
                f"{MIN_MEMORY_MB}."
            )
        if config.cpu_limit is not None and config.cpu_limit < 1:
            raise UnsupportedError(
                f"hyperlight does not support cpu below 1 (cpu_limit={config.cpu_limit}): a "
                "microVM has one cpu, whole; set cpu_limit=1 or None."
            )
        spec = guest_spec(self.language, self.chosen["backend"], memory, config.disk_mb)
        spec["tools"] = list(tools.chosen(self.chosen["tools"]))
        # By name, at the two usual ports; the guest's requests are checked by host and port.
        for host in config.network_allow:
            spec["allow"] += [f"https://{host}", f"http://{host}"]
        return HyperlightSandbox(
            request, self.language, spec, parallel=self.chosen["parallel"], place=self.place().word
        )

    def place(self) -> Place:
        return Place.here(self._place or tempfile.gettempdir())

    def look_at(self, place: Place) -> None:
        self._place = place.word

    def leftovers(self) -> Sequence[Leftover]:
        return leftovers.all_of(self.place().word)

    def remove(self, leftover: Leftover) -> None:
        leftovers.remove(leftover.handle)
