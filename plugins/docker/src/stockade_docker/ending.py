"""Noticing that a container has ended where the connection into it stays open."""

from __future__ import annotations

import threading
from collections.abc import Callable

import docker

from stockade.system.threads import start_thread
from stockade_docker.streams import hang_up

__all__ = ["ContainerEnd"]

_READ_BYTES = 4096
#: The first program's output, from now on: it ends when the container does.
_OUTPUT = {"stdout": 1, "stream": 1}


class ContainerEnd:
    """Waits for a container's end, in a thread of its own, until it is closed.

    An engine holds an exec's connection open for good where the runtime went down with the
    program, as gVisor and virtual machines do. The connection to the container's first program
    is ended then.
    """

    def __init__(self, api: docker.APIClient, container: str, ended: Callable[[], None]) -> None:
        """``ended`` is called once, in that thread, unless ``close`` came before. Raises what
        the engine's client does where the engine does not answer, and CapacityError."""
        self._connection = api.attach_socket(container, params=_OUTPUT)
        self._ended = ended
        self._closed = threading.Event()
        name = f"stockade-end-{container[:12]}"
        try:
            start_thread(threading.Thread(target=self._wait, daemon=True, name=name))
        except BaseException:
            self.close()
            raise

    def _wait(self) -> None:
        carrier = getattr(self._connection, "_sock", self._connection)
        try:
            carrier.settimeout(None)
            while carrier.recv(_READ_BYTES):
                pass  # what it prints is nobody's
        except (OSError, ValueError):
            pass  # broken off: the engine has gone, and the container's end cannot be seen
        if not self._closed.is_set():
            self._ended()
        self.close()

    def close(self) -> None:
        """Wait no more; may be called again, and from any thread."""
        if not self._closed.is_set():
            self._closed.set()
            hang_up(self._connection)
