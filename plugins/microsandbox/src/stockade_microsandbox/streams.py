"""A supervisor's streams over a program that the package holds open in the VM."""

from __future__ import annotations

import contextlib
import functools
import threading
from typing import Any

from stockade.toolkit.supervised import Transport
from stockade_microsandbox.loop import call, submit

__all__ = ["ProgramTransport"]

#: Written at a time; the package sends each as one message.
_PIECE = 32 * 1024
_SEND_SECONDS = 300.0


class ProgramTransport(Transport):
    """Made from a handle of ``exec_stream`` with its input piped."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._sink = handle.take_stdin()
        self._over = threading.Event()
        self._closed = threading.Event()

    def receive(self) -> bytes:
        from microsandbox import ExecEventType

        try:
            while not self._closed.is_set():
                event = call(self._handle.recv)
                if event is None or event.event_type in (ExecEventType.EXITED, "failed"):
                    break
                if event.data and event.event_type != ExecEventType.STDERR:
                    return bytes(event.data)
        except Exception as error:
            raise OSError(f"the VM gives no output: {error}") from error
        self._over.set()
        return b""

    def send(self, data: bytes) -> None:
        for at in range(0, len(data), _PIECE):
            if self._closed.is_set() or self._over.is_set():
                raise BrokenPipeError("the supervisor has ended")
            try:
                piece = data[at : at + _PIECE]
                call(functools.partial(self._sink.write, piece), _SEND_SECONDS)
            except Exception as error:
                raise BrokenPipeError(f"the VM takes no input: {error}") from error

    def close(self) -> None:
        if self._closed.is_set():
            return
        self._closed.set()
        with contextlib.suppress(Exception):
            submit(self._end)

    async def _end(self) -> None:
        """The supervisor ends with its input; the kill is for one that does not."""
        with contextlib.suppress(Exception):
            await self._sink.close()
        with contextlib.suppress(Exception):
            await self._handle.kill()
