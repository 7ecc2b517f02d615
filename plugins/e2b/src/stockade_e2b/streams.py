"""A supervisor's streams over a process that the service holds open.

Its output comes in one answer of the service that stays open; its input goes by one call at a
time, which carries all that waits. The SDK's commands decode what a program prints as text: so
this reads by its generated client, in which bytes stay bytes (JSON carries them as base64).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from stockade.errors import CapacityError
from stockade.system.threads import start_thread
from stockade.toolkit.supervised import LinkLost, Transport
from stockade_e2b.service import words_of

__all__ = ["ProcessTransport"]

#: Bytes of input that may wait for the service.
_MOST_WAITING = 512 * 1024
_SEND_SECONDS = 60.0
_KEPT_STDERR = 4096
#: As the SDK asks for it, for proxies that end what is silent.
_KEEPALIVE = {"Keepalive-Ping-Interval": "50"}


class ProcessTransport(Transport):
    """Made by :meth:`start`."""

    def __init__(self, sandbox: Any, rpc: Any, events: Iterator[Any], pid: int) -> None:
        self._commands = sandbox.commands
        self._rpc = rpc
        self._events = events
        self._pid = pid
        self._lock = threading.Condition()
        self._waiting = bytearray()
        self._error: BaseException | None = None
        self._closed = False
        self._done = threading.Event()
        self._held = False
        self._breaks = False
        #: What came on the standard error, such as a shell's last words; for messages.
        self.stderr = b""
        #: Its exit code, once the service has said it.
        self.exit_code: int | None = None
        #: Called in the sending thread when input can no longer be sent.
        self.on_failure: Callable[[LinkLost], None] | None = None
        start_thread(threading.Thread(target=self._serve, daemon=True, name="stockade-e2b"))

    @classmethod
    def start(cls, sandbox: Any, argv: Sequence[str], user: str | None) -> ProcessTransport:
        """Start a program with its input open. Raises LinkLost, CapacityError."""
        from e2b.envd.client_sync import create_rpc_client
        from e2b.envd.process.process_connect import ProcessClientSync
        from e2b.envd.process.process_pb import ProcessConfig, StartRequest
        from e2b.envd.utils import authentication_header

        rpc = create_rpc_client(ProcessClientSync, sandbox.envd_api_url, sandbox.connection_config)
        program = ProcessConfig(cmd=argv[0], args=list(argv[1:]), cwd="/")
        headers = {**authentication_header(sandbox._envd_version, user), **_KEEPALIVE}
        try:
            events = rpc.start(StartRequest(process=program, stdin=True), headers=headers)
            return cls(sandbox, rpc, events, _started(events))
        except CapacityError:
            raise
        except Exception as error:
            raise LinkLost(f"the service could not start it: {words_of(error)}") from error

    # -- its output ------------------------------------------------------------------

    def receive(self) -> bytes:
        while not self._closed:
            try:
                event = _event(next(self._events))
            except Exception as error:
                if self._joined_again():
                    continue
                raise OSError(f"the service gives no output: {words_of(error)}") from error
            kind = None if event is None else event.field
            if kind == "end":
                self.exit_code = event.value.exit_code
                break
            if kind == "data" and (data := self._taken(event.value.output)):
                return data
        return b""

    def _taken(self, output: Any) -> bytes:
        data = bytes(output.value)
        if output.field == "stdout":
            return data
        self.stderr = (self.stderr + data)[-_KEPT_STDERR:]
        return b""

    # -- its input -------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        with self._lock:
            while len(self._waiting) >= _MOST_WAITING and not self._over():
                self._lock.wait()
            if self._over():
                why = "it is closed" if self._error is None else words_of(self._error)
                raise BrokenPipeError(f"the service takes no input: {why}")
            self._waiting += data
            self._lock.notify_all()

    def _over(self) -> bool:
        return self._closed or self._error is not None

    def _serve(self) -> None:
        """The thread that sends: one call at a time, so that all keeps its order."""
        try:
            while data := self._next():
                self._commands.send_stdin(self._pid, data, request_timeout=_SEND_SECONDS)
        except Exception as error:
            with self._lock:
                self._error = error
                self._lock.notify_all()
            if self.on_failure is not None:
                self.on_failure(LinkLost(f"the service takes no input: {words_of(error)}"))
        else:
            # A supervisor whose input ends, ends with all that it runs.
            with contextlib.suppress(Exception):
                self._commands.close_stdin(self._pid, request_timeout=_SEND_SECONDS)
        self._done.set()

    def _next(self) -> bytes:
        """All that waits, once something does; nothing when it is closed."""
        with self._lock:
            while not self._waiting and not self._closed:
                self._lock.wait()
            if self._closed:
                return b""
            data = bytes(self._waiting)
            self._waiting.clear()
            self._lock.notify_all()
            return data

    # -- pausing ---------------------------------------------------------------------

    def hold(self) -> None:
        """The sandbox is about to be paused: its connections may break, and that is no end."""
        with self._lock:
            self._held = self._breaks = True

    def go_on(self) -> None:
        """It runs again."""
        with self._lock:
            self._held = False
            self._lock.notify_all()

    def _joined_again(self) -> bool:
        """Whether the output goes on in another answer, since a pause broke the first one. What
        the pause lost, the link's count of frames notices."""
        with self._lock:
            if not self._breaks:
                return False
            while self._held and not self._closed:
                self._lock.wait()
            self._breaks = False
            if self._closed:
                return True
        from e2b.envd.process.process_pb import ConnectRequest, ProcessSelector
        from protobuf import Oneof

        pid: Any = Oneof("pid", self._pid)  # its type has the word for the field
        selected = ProcessSelector(selector=pid)
        self._events = self._rpc.connect(ConnectRequest(process=selected), headers=_KEEPALIVE)
        return True

    # -- its end ---------------------------------------------------------------------

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._lock.notify_all()

    def wind_down(self, seconds: float) -> None:
        self.close()
        self._done.wait(seconds)


def _started(events: Iterator[Any]) -> int:
    """The service's number for the process, which its first word says."""
    for message in events:
        event = _event(message)
        if event is not None and event.field == "start":
            return int(event.value.pid)
    raise LinkLost("it ended before it began")


def _event(message: Any) -> Any:
    return message.event.event if message.event is not None else None
