"""What a template gives: the limits that are fixed at the service (B6), and whether a network."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from typing import Any

from stockade.system.threads import in_thread
from stockade_e2b.start import measured

__all__ = ["Figures"]

_ASK_SECONDS = 20.0


class Figures:
    """Asked for while the sandbox starts."""

    #: The service says that the sandbox has no network.
    offline = False

    def __init__(self) -> None:
        self._said: dict[str, float] = {}
        self._came = threading.Event()

    @classmethod
    def asked(cls, sandbox: Any) -> Figures:
        """Ask the service what it gave a sandbox, and return at once."""
        figures = cls()
        in_thread(lambda: figures._ask(sandbox), "stockade-e2b-figures")
        return figures

    def _ask(self, sandbox: Any) -> None:
        with contextlib.suppress(Exception):  # then what shows inside is all that is known
            from e2b.api.client.api.sandboxes import get_sandboxes_sandbox_id
            from e2b.api.client.models import SandboxDetail
            from e2b.api.client_sync import get_api_client

            client = get_api_client(sandbox.connection_config)
            found = get_sandboxes_sandbox_id.sync(sandbox.sandbox_id, client=client)
            if isinstance(found, SandboxDetail):
                self._said = _known(found)
                self.offline = found.allow_internet_access is False
        self._came.set()

    def wait(self) -> None:
        """Until the service has answered; not for ever."""
        self._came.wait(_ASK_SECONDS)

    def limits(self, said: bytes) -> Mapping[str, float | None]:
        """By the names of the configuration: the service's words before what ``said`` shows,
        which is what was measured inside."""
        return {**measured(said), **self._said}


def _known(found: Any) -> dict[str, float]:
    """What is 0 is not known; and the last is the word of stockade's own server."""
    figures = {
        "memory_mb": found.memory_mb,
        "cpu_limit": found.cpu_count,
        "disk_mb": found.disk_size_mb,
        "max_processes": found.additional_properties.get("maxProcesses"),
    }
    return {name: float(value) for name, value in figures.items() if value}
