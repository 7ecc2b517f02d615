"""The link: one framed connection to the supervisor of a sandbox, used by many executions."""

from __future__ import annotations

import contextlib
import logging
import secrets
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from stockade.toolkit.supervised.builtin import run_builtin
from stockade.toolkit.supervised.ends import LinkLost
from stockade.toolkit.supervised.execution import LinkExecution, Sink
from stockade.toolkit.supervised.frames import VERSION, Decoder, Encoder, Frame, FrameError, Kind
from stockade.toolkit.supervised.request import Flag, StartRequest
from stockade.toolkit.supervised.transport import Transport

__all__ = ["Hello", "Link"]

_log = logging.getLogger(__name__)

_HELLO = struct.Struct("<IIIII")
#: Connections that programs open have numbers from here on.
_OWN_IDS = 0x80000000


@attrs.frozen(kw_only=True)
class Hello:
    """What the supervisor is, and what its kernel gives it."""

    subreaper: bool  #: a keeper adopts what its program leaves behind, so each tree is known
    hidden: bool  #: the kernel says that programs can neither read nor trace it
    apart: bool  #: the kernel keeps executions from each other's memory and descriptors
    alone: bool  #: it is process 1 of a namespace of its own
    pid: int  #: the supervisor's own, as the sandbox numbers it
    uid: int  #: the user that it runs as, inside
    gid: int  #: the group that it runs as, inside
    machine: str  #: as ``uname -m`` shows it
    release: str  #: of the kernel that it runs on
    version: str  #: as ``uname -v`` shows it

    @property
    def kernel(self) -> str:
        """As ``/proc/version`` begins on a Linux without a compiler's name in it."""
        return f"Linux version {self.release} {self.version}"


class Link:
    """Safe from any thread. Its maker calls ``handshake`` first and ``close`` last."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._encoder = Encoder()
        self._secret = secrets.randbits(64)
        self._decoder = Decoder(self._secret)
        self._sending = threading.Lock()
        self._lock = threading.Lock()
        self._executions: dict[int, LinkExecution] = {}
        self._last = 0
        self._answers: dict[int, tuple[threading.Event, list[bytes]]] = {}
        self._handshaken = threading.Event()
        self._hello: Hello | None = None
        self._error: LinkLost | None = None
        self._source_sent = False
        self._reader: threading.Thread | None = None
        #: The user (uid, gid) of programs whose request names none; None: the supervisor's own.
        self.user: tuple[int, int] | None = None
        #: Called in the reader's thread with a stream that a program has opened.
        self.on_opened: Callable[[int, int], None] | None = None
        #: Called in the reader's thread when the supervisor cannot keep a promise (D6).
        self.on_broken: Callable[[], None] | None = None

    # -- the start -------------------------------------------------------------

    def begin_handshake(self) -> None:
        """Send this side's HELLO; may be called before the other side has started."""
        body = struct.pack("<IQI", VERSION, self._secret, int(self._transport.one_line))
        self.send(Kind.HELLO, 0, body)

    def handshake(self, seconds: float, *, begun: bool = False) -> Hello:
        """Wait up to ``seconds`` for the supervisor's HELLO, and return it. Raises LinkLost.

        ``begun``: :meth:`begin_handshake` was called already.
        """
        if not begun:
            self.begin_handshake()
        self._reader = threading.Thread(target=self._read, daemon=True, name="stockade-link")
        self._reader.start()
        if not self._handshaken.wait(seconds):
            self.fail(LinkLost(f"the supervisor did not answer within {seconds:g} s"))
        if self._error is not None:
            raise self._error
        assert self._hello is not None
        return self._hello

    # -- executions --------------------------------------------------------------

    def start(
        self,
        request: StartRequest,
        output: Sink,
        stdin: bytes | None = b"",
        show: Callable[[bytes], None] | None = None,
    ) -> LinkExecution:
        """Start a program, without waiting for it. ``stdin`` None: it stays open. ``show`` is
        given what code in a named interpreter shows beside its streams.

        Raises LinkLost, and ValueError for a word that holds NUL.
        """
        request = self._as_user(request)
        flags = request.flags
        if (stdin is None or stdin) and not flags & Flag.PTY:
            flags |= Flag.INPUT
        packed = attrs.evolve(request, flags=flags).packed()
        with self._lock:
            if self._error is not None:
                raise self._error
            execution = LinkExecution(self, self._number(), output, show)
            self._executions[execution.id] = execution
        self._send_start(execution.id, request.blob, packed)
        if stdin:
            execution.feed(stdin, end=True)
        return execution

    def ahead(self, request: StartRequest) -> None:
        """Have an interpreter wait for code like this request's, if none does.

        Raises LinkLost.
        """
        request = self._as_user(attrs.evolve(request, flags=request.flags | Flag.AHEAD))
        with self._lock:
            if self._error is not None:
                raise self._error
            number = self._number()
        self._send_start(number, None, request.packed())

    def _send_start(self, number: int, blob: bytes | None, packed: bytes) -> None:
        with self._sending:
            frames: list[bytes] = []
            if blob is not None:
                frames += self._encoder.pieces(Kind.BLOB, number, blob)
            frames += self._encoder.pieces(Kind.START, number, packed, more=True)
            self._put(b"".join(frames))

    def _number(self) -> int:
        """One that no call has; called under the lock."""
        self._last = (self._last % (_OWN_IDS - 1)) + 1
        while self._last in self._executions:
            self._last += 1
        return self._last

    def _as_user(self, request: StartRequest) -> StartRequest:
        if self.user is None or request.flags & Flag.USER:
            return request
        flags = request.flags | Flag.USER
        return attrs.evolve(request, flags=flags, uid=self.user[0], gid=self.user[1])

    def builtin(
        self,
        argv: Sequence[str | bytes],
        *,
        stdin: Iterable[bytes] = (),
        receive: Callable[[bytes], None],
        timeout: float | None,
        cwd: str = "/",
        env: Mapping[str, str] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> tuple[int, bytes]:
        """Run a command of the supervisor's own to its end: exit code and standard error.

        ``receive`` gets its output in the caller's thread. Raises LinkLost, TimeoutError, and
        CancelledError when ``cancelled``, asked now and then, says so.
        """
        request = StartRequest(argv=argv, cwd=cwd, env=env or {}, flags=Flag.BUILTIN)
        return run_builtin(self, request, stdin, receive, timeout, cancelled)

    def forget(self, execution: LinkExecution) -> None:
        """Its end has been taken; the waiter calls it."""
        with self._lock:
            self._executions.pop(execution.id, None)

    def source(self, boot: str, text: str) -> None:
        """Hand over, once, what warm interpreters are made of."""
        with self._sending:
            if self._source_sent:
                return
            self._source_sent = True
            data = boot.encode() + b"\0" + text.encode()
            self._put(b"".join(self._encoder.pieces(Kind.SOURCE, 0, data, more=True)))

    def expire_in(self, seconds: float | None) -> None:
        """Have the supervisor end after this time, and its sandbox with it; None: never (C11)."""
        left = 0 if seconds is None else max(1, int(seconds * 1000))
        self.send(Kind.DEADLINE, 0, struct.pack("<Q", left))

    def listen(self, seconds: float, address: str = "127.0.0.1", port: int = 0) -> int:
        """Have a port of the sandbox's loopback listened on; its number, which is ``port`` if
        that is to be had. ``on_opened`` counts what is listened on, from 0. Raises LinkLost."""
        place = struct.pack("<II", int.from_bytes(socket.inet_aton(address), "big"), port)
        return self._listen(place, seconds)

    def listen_at(self, path: str, seconds: float) -> None:
        """Have a socket at that path of the sandbox listened on. Raises LinkLost."""
        self._listen(path.encode(), seconds, arg=1)

    def _listen(self, place: bytes, seconds: float, arg: int = 0) -> int:
        port, error = struct.unpack("<II", self._ask(Kind.LISTEN, seconds, place, arg))
        if not port:
            raise LinkLost(f"nothing could be listened on inside (error {error})")
        return int(port)

    def counts(self, seconds: float) -> tuple[int, int, int]:
        """Processes there are, executions that run, kills for memory so far. Raises LinkLost."""
        return struct.unpack("<IIQ", self._ask(Kind.COUNTS, seconds))

    def open_port(self, port: int, output: Sink) -> LinkExecution:
        """Connect to a port of the sandbox's loopback: an execution without a program."""
        with self._lock:
            if self._error is not None:
                raise self._error
            execution = LinkExecution(self, self._number(), output)
            self._executions[execution.id] = execution
        self.send(Kind.CONNECT, execution.id, struct.pack("<I", port))
        return execution

    def adopt(self, number: int, output: Sink) -> LinkExecution:
        """Take a connection that a program has opened; called from ``on_opened``."""
        execution = LinkExecution(self, number, output)
        with self._lock:
            self._executions[number] = execution
            error = self._error
        if error is not None:
            execution.lose(error)
        return execution

    def _ask(self, kind: Kind, seconds: float, body: bytes = b"", arg: int = 0) -> bytes:
        with self._lock:
            if self._error is not None:
                raise self._error
            self._last += 1
            number = self._last
            waiting = (threading.Event(), list[bytes]())
            self._answers[number] = waiting
        self.send(kind, number, body, arg)
        came = waiting[0].wait(seconds)
        with self._lock:
            self._answers.pop(number, None)
        if self._error is not None:
            raise self._error
        if not came:
            raise LinkLost(f"the supervisor did not answer within {seconds:g} s")
        return waiting[1][0]

    # -- bytes -----------------------------------------------------------------

    def send(self, kind: Kind, id: int = 0, body: bytes | memoryview = b"", arg: int = 0) -> None:
        """Send one frame; what fails is noticed by the reader, so it raises nothing."""
        with self._sending:
            self._put(self._encoder.frame(kind, id, body, arg))

    def _put(self, data: bytes) -> None:
        try:
            self._transport.send(data)
        except OSError as error:
            self.fail(LinkLost(f"the link broke: {error}"))

    def _read(self) -> None:
        error = LinkLost("the supervisor has ended")
        try:
            while data := self._transport.receive():
                for frame in self._decoder.feed(data):
                    self._take(frame)
        except FrameError as found:
            error = LinkLost(str(found))
        except OSError as found:
            error = LinkLost(f"the link broke: {found}")
        except BaseException as found:
            error = LinkLost(f"the link failed: {type(found).__name__}: {found}")
            _log.exception("a supervisor's frame could not be taken")
        finally:
            self.fail(error)

    def _take(self, frame: Frame) -> None:
        if frame.kind == Kind.HELLO_BACK:
            self._take_hello(frame.body)
        elif frame.kind == Kind.ANSWER:
            with self._lock:
                waiting = self._answers.get(frame.id)
            if waiting is not None:
                waiting[1].append(frame.body)
                waiting[0].set()
        elif frame.kind == Kind.OPENED:
            if self.on_opened is not None:
                self.on_opened(frame.id, frame.arg)
        elif frame.kind == Kind.LOST:
            if self.on_broken is not None:
                self.on_broken()
        else:
            with self._lock:
                execution = self._executions.get(frame.id)
            if execution is not None:
                execution.take(frame)

    def _take_hello(self, body: bytes) -> None:
        version, flags, pid, uid, gid = _HELLO.unpack_from(body)
        words = body[_HELLO.size :].decode("utf-8", "replace").split("\n")
        if version != VERSION:
            raise FrameError(f"the supervisor speaks version {version}, this is {VERSION}")
        self._hello = Hello(
            subreaper=bool(flags & 1),
            hidden=bool(flags & 2),
            apart=bool(flags & 8),
            alone=bool(flags & 4),
            pid=pid,
            uid=uid,
            gid=gid,
            machine=words[0],
            release=words[1] if len(words) > 1 else "",
            version=words[2] if len(words) > 2 else "",
        )
        self._handshaken.set()

    # -- the end ---------------------------------------------------------------

    @property
    def lost(self) -> bool:
        """Whether nothing can be started over it any more."""
        return self._error is not None

    def fail(self, error: LinkLost) -> None:
        """Nothing comes over it any more, and waiters get this error. The first reason stays."""
        with self._lock:
            if self._error is None:
                self._error = error
            executions = list(self._executions.values())
            answers = list(self._answers.values())
        for execution in executions:
            execution.lose(self._error)
        for event, _ in answers:
            event.set()
        self._handshaken.set()
        with contextlib.suppress(OSError):
            self._transport.close()

    def wind_down(self, seconds: float) -> None:
        """End the input, at which the supervisor ends, and wait up to ``seconds`` for that."""
        self._transport.wind_down(seconds)

    def close(self) -> None:
        """Let go of it; a supervisor whose input ends, ends with all that it runs."""
        self.fail(LinkLost("the session is closed"))
