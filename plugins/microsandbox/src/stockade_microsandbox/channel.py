"""A lane's streams over a program that the package holds open in the VM."""

from __future__ import annotations

import contextlib
import functools
import queue
import threading
import time
from typing import Any

from stockade.resident import Channel
from stockade.results import Stream
from stockade_microsandbox.loop import call, submit

__all__ = ["ProgramChannel"]

#: Written at a time; the package sends each as one message.
_PIECE = 32 * 1024
#: Pieces that wait to be received: past that the program is left to wait, as on a pipe.
_WAITING = 16
_SEND_SECONDS = 300.0
_KILL_SECONDS = 10.0


class ProgramChannel(Channel):
    """Made from a handle of ``exec_stream`` with its input piped."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._sink = handle.take_stdin()
        self._pieces: queue.Queue[tuple[Stream, bytes] | None] = queue.Queue()
        self._room = threading.Semaphore(_WAITING)
        self._over = threading.Event()
        self._closed = threading.Event()
        self._reader = threading.Thread(
            target=self._read, daemon=True, name="stockade-microsandbox-lane"
        )
        self._reader.start()

    def _read(self) -> None:
        """Move its output into the queue, one piece for each place there."""
        from microsandbox import ExecEventType

        try:
            while not self._closed.is_set():
                event = call(self._handle.recv)
                if event is None or event.event_type in (ExecEventType.EXITED, "failed"):
                    return
                if event.data:
                    while not self._room.acquire(timeout=0.5):
                        if self._closed.is_set():
                            return
                    error = event.event_type == ExecEventType.STDERR
                    stream = Stream.STDERR if error else Stream.STDOUT
                    self._pieces.put((stream, bytes(event.data)))
        except Exception:
            return  # the VM is gone, or the program: its end is told below
        finally:
            self._over.set()
            self._pieces.put(None)

    def send(self, data: bytes) -> None:
        for at in range(0, len(data), _PIECE):
            if self._closed.is_set() or self._over.is_set():
                raise BrokenPipeError("the program has ended")
            try:
                piece = data[at : at + _PIECE]
                call(functools.partial(self._sink.write, piece), _SEND_SECONDS)
            except TimeoutError:
                raise
            except Exception as error:
                raise BrokenPipeError(f"the VM takes no input: {error}") from error

    def receive(self, seconds: float | None = None) -> list[tuple[Stream, bytes]]:
        until = None if seconds is None else time.monotonic() + seconds
        left = None if until is None else max(0.0, until - time.monotonic())
        try:
            piece = self._pieces.get(timeout=left)
        except queue.Empty:
            raise TimeoutError from None
        found = []
        while piece is not None:
            self._room.release()
            found.append(piece)
            try:
                piece = self._pieces.get_nowait()
            except queue.Empty:
                return found
        self._pieces.put(None)  # for whoever asks again
        return found

    def ended(self) -> bool:
        return self._over.is_set()

    def close(self) -> None:
        if self._closed.is_set():
            return
        self._closed.set()
        self._over.set()
        self._pieces.put(None)
        with contextlib.suppress(Exception):
            submit(self._end)

    async def _end(self) -> None:
        """The supervisor ends with its input; the kill is for one that is stopped."""
        with contextlib.suppress(Exception):
            await self._sink.close()
        with contextlib.suppress(Exception):
            await self._handle.kill()
