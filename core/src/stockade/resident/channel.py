"""The way to one lane: its three standard streams, whatever carries them."""

from __future__ import annotations

import abc
import os
import select
import subprocess
import threading
import time

from stockade.pump import Waker
from stockade.results import Stream

__all__ = ["Channel", "PipeChannel"]

_READ_BYTES = 256 * 1024


class Channel(abc.ABC):
    """One supervisor's standard streams. ``send`` and ``receive`` may run in two threads."""

    @abc.abstractmethod
    def send(self, data: bytes) -> None:
        """Write everything to its standard input; blocks. Raises OSError when it is gone."""

    @abc.abstractmethod
    def receive(self, seconds: float | None = None) -> list[tuple[Stream, bytes]]:
        """The next pieces of output, waiting for them; empty when it is gone.

        Raises TimeoutError when ``seconds`` pass first, OSError when the way breaks.
        """

    def ended(self) -> bool:
        """Whether the other end is known to be gone; asked while nobody receives."""
        return False

    def wind_down(self, seconds: float) -> None:
        """End the input and wait, no longer than ``seconds``, until the other end is gone;
        asked of an idle lane before its sandbox is removed. Never raises. Optional: where
        removing costs the same either way, there is nothing to do."""
        return

    @abc.abstractmethod
    def close(self) -> None:
        """End both directions; wakes whoever waits in ``receive``. May be called again."""


class PipeChannel(Channel):
    """Over three pipes of this machine."""

    def __init__(self, stdin: int, stdout: int, stderr: int) -> None:
        """Takes the descriptors over and closes them in the end."""
        self._stdin = stdin
        self._streams = {stdout: Stream.STDOUT, stderr: Stream.STDERR}
        self._all = (stdin, stdout, stderr)
        self._woken = Waker()
        self._lock = threading.Lock()
        self._users = 0
        self._closed = False
        os.set_blocking(stdin, False)

    @classmethod
    def over(cls, process: subprocess.Popen[bytes]) -> PipeChannel:
        """To a process that was started with pipes for all three streams: takes them over,
        so that they are the channel's to close; the process stays its starter's to reap."""
        files = (process.stdin, process.stdout, process.stderr)
        ends = []
        for file in files:
            assert file is not None, "start it with PIPE for stdin, stdout and stderr"
            ends.append(os.dup(file.fileno()))
            file.close()
        return cls(*ends)

    def _enter(self) -> None:
        with self._lock:
            if self._closed:
                raise BrokenPipeError("the channel is closed")
            self._users += 1

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            last = self._closed and not self._users
        if last:
            self._release()

    def _release(self) -> None:
        self._woken.close()
        for descriptor in self._all:
            os.close(descriptor)

    def send(self, data: bytes) -> None:
        self._enter()
        try:
            left = memoryview(data)
            poll = select.poll()
            poll.register(self._stdin, select.POLLOUT)
            poll.register(self._woken.fileno(), select.POLLIN)
            while left:
                try:
                    left = left[os.write(self._stdin, left[: 1 << 20]) :]
                except BlockingIOError:
                    if any(ready == self._woken.fileno() for ready, _ in poll.poll()):
                        raise BrokenPipeError("the channel is closed") from None
        finally:
            self._leave()

    def receive(self, seconds: float | None = None) -> list[tuple[Stream, bytes]]:
        self._enter()
        try:
            return self._receive(seconds)
        finally:
            self._leave()

    def _receive(self, seconds: float | None) -> list[tuple[Stream, bytes]]:
        until = None if seconds is None else time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._woken.fileno(), select.POLLIN)
        for descriptor in self._streams:
            poll.register(descriptor, select.POLLIN)
        while self._streams:
            left = None if until is None else max(0.0, until - time.monotonic()) * 1000
            ready = [descriptor for descriptor, _ in poll.poll(left)]
            if not ready:
                raise TimeoutError
            if self._woken.fileno() in ready:
                return []
            found = []
            for descriptor in ready:
                data = os.read(descriptor, _READ_BYTES)
                if data:
                    found.append((self._streams[descriptor], data))
                else:
                    poll.unregister(descriptor)
                    del self._streams[descriptor]
            if found:
                return found
        return []

    def ended(self) -> bool:
        try:
            self._enter()
        except BrokenPipeError:
            return True
        try:
            poll = select.poll()
            for descriptor in list(self._streams):
                poll.register(descriptor, 0)
            hung_up = select.POLLHUP | select.POLLERR
            return not self._streams or any(event & hung_up for _, event in poll.poll(0))
        finally:
            self._leave()

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            last = not self._users
        self._woken.set()
        if last:
            self._release()
