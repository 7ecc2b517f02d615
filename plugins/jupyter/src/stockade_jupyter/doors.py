"""Unix sockets of this user's that lead to a kernel's ports, and no port of this machine."""

from __future__ import annotations

import atexit
import contextlib
import os
import selectors
import shutil
import socket
import tempfile
import threading
from collections.abc import Sequence

from stockade.errors import StockadeError
from stockade.session import Session
from stockade.system.threads import start_thread

__all__ = ["CHANNELS", "Doors"]

#: A kernel's channels, as connection files name them; the number of each is its door's.
CHANNELS = ("shell_port", "iopub_port", "stdin_port", "hb_port", "control_port")


class Doors:
    """One socket for each channel, in a folder that nobody else may enter.

    They stay when a kernel is restarted, so clients stay connected to the same places. Made
    with a kernel's first start; ``lead`` says whose ports are behind them.
    """

    def __init__(self) -> None:
        """Begin to listen. Raises OSError, CapacityError, and leaves nothing then."""
        self._folder = tempfile.mkdtemp(prefix="stockade-jupyter-", dir=_runtime_folder())
        self.base = os.path.join(self._folder, "k")  #: what Jupyter calls the ip
        self._led: tuple[Session, Sequence[int]] | None = None
        self._lock = threading.Lock()
        self._listeners: list[socket.socket] = []
        self._woken, self._wake = socket.socketpair()
        self._closed = False
        atexit.register(self._remove)
        try:
            for number in range(1, len(CHANNELS) + 1):
                listener = socket.socket(socket.AF_UNIX)
                self._listeners.append(listener)
                listener.bind(os.path.join(self._folder, f"door-{number}"))
                listener.listen(64)
                listener.setblocking(False)
            self._thread = threading.Thread(
                target=self._serve, daemon=True, name="stockade-jupyter"
            )
            start_thread(self._thread)
        except BaseException:
            self._end()
            raise

    def lead(self, session: Session, ports: Sequence[int]) -> None:
        """To these ports of this session, from now on. Raises OSError."""
        with self._lock:
            self._led = (session, tuple(ports))
        # Jupyter removes the files of a kernel's sockets when it is shut down for a restart.
        for number in range(1, len(CHANNELS) + 1):
            with contextlib.suppress(FileExistsError):
                os.symlink(f"door-{number}", f"{self.base}-{number}")

    def close(self) -> None:
        """Remove them; may be called again. What is connected ends with its session."""
        with self._lock:
            if self._closed:
                return
            self._closed, self._led = True, None
        self._wake.send(b"!")
        self._thread.join()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            for number, listener in enumerate(self._listeners):
                selector.register(listener, selectors.EVENT_READ, number)
            while not self._closed:
                for key, _ in selector.select():
                    if key.data is not None:
                        self._enter(key.data)
        self._end()

    def _enter(self, number: int) -> None:
        try:
            connection, _ = self._listeners[number].accept()
        except OSError:  # it has gone again
            return
        with self._lock:
            led = self._led
        if led is None:
            connection.close()
            return
        session, ports = led
        # A kernel that is not there (yet, any more) ends the connection: clients try again.
        with contextlib.suppress(StockadeError, OSError):
            session.forward(connection, ports[number])

    def _end(self) -> None:
        for owned in (*self._listeners, self._woken, self._wake):
            owned.close()
        self._remove()
        atexit.unregister(self._remove)

    def _remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _runtime_folder() -> str | None:
    """Where sockets belong that end with the login; a path of theirs is 107 bytes at most."""
    found = os.environ.get("XDG_RUNTIME_DIR", "")
    return found if 0 < len(found) < 60 and os.access(found, os.W_OK) else None
