"""One lane: a supervisor in the sandbox that runs one program at a time."""

from __future__ import annotations

import contextlib
import logging
import math
import secrets
import threading
import time
from collections.abc import Callable, Iterator

import attrs

from stockade.resident.channel import Channel
from stockade.resident.script import Job
from stockade.results import Stream
from stockade.wall import Output

__all__ = ["Ended", "Hello", "Lane", "LaneLostError"]

_log = logging.getLogger(__name__)

#: Payload past this is written by a thread of its own: the program may print meanwhile,
#: and a supervisor that was stopped must not keep the caller. It fits into an empty pipe.
_INLINE_BYTES = 32 * 1024
#: How long a lane may take to answer what needs no program.
ANSWER_SECONDS = 20.0
#: After this much silence it is asked whether the sandbox still lives.
_SILENCE_SECONDS = 1.0
#: By then a zygote that was woken should be up, and can be given its lane.
_ZYGOTE_SECONDS = 0.3
#: Between two reads of what nobody wants, so that an endless print costs little here.
_DRAIN_PAUSE = 0.005
#: An answer is one line, and shorter.
_MAX_ANSWER = 4096


class LaneLostError(Exception):
    """The supervisor is gone or makes no sense any more."""


@attrs.frozen
class Hello:
    """What a lane tells of its sandbox."""

    processes: int  #: with nothing running
    zygote: int  #: its process id inside; 0: there is no Python
    python: str | None
    marked: bool  #: whether its programs carry a mark that none of them can take off
    kernel: str  #: the kernel's version, as /proc/version has it


@attrs.frozen
class Ended:
    """How a program ended, as the supervisor tells."""

    status: int
    signalled: bool
    nowhere: bool  #: its working folder could not be entered
    kills_before: int  #: out-of-memory kills in the sandbox when it started
    kills_after: int
    processes: int  #: how many there are in the sandbox now


class _Scanner:
    """Finds the token that ends a stream, holding back no more than could begin it."""

    def __init__(self, token: bytes) -> None:
        self._token = token
        self._held = b""
        self.rest: bytes | None = None  # what follows the token, once found

    def feed(self, data: bytes) -> bytes:
        """What of it belongs to the program."""
        if self.rest is not None:  # no more of it than tells that it makes no sense
            self.rest = (self.rest + data[: _MAX_ANSWER + 1])[: _MAX_ANSWER + 1]
            return b""
        if self._held:
            data = self._held + data
        at = data.find(self._token)
        if at >= 0:
            self.rest = data[at + len(self._token) :]
            self._held = b""
            return data[:at]
        keep = self._could_begin(data)
        self._held = data[len(data) - keep :] if keep else b""
        return data[: len(data) - keep] if keep else data

    def _could_begin(self, data: bytes) -> int:
        tail = data[-(len(self._token) - 1) :]
        at = tail.find(self._token[:1])
        while at >= 0:
            if self._token.startswith(tail[at:]):
                return len(tail) - at
            at = tail.find(self._token[:1], at + 1)
        return 0


class Lane:
    """Used by one execution at a time; ``kill`` may come from any thread."""

    def __init__(self, number: int, channel: Channel) -> None:
        self.number = number
        self.hello: Hello | None = None
        self.served = False  # whether its zygote has the lane for itself
        self.awake = False  # whether its zygote was woken
        self._due: float | None = None  # when the zygote can be given the lane; None: never
        self.dirty = False  # whether output of an ended program may still come
        self._channel = channel
        self._sending = threading.Lock()
        self._gone = threading.Event()
        self._hailed: bytes | None = None  # the token of a greeting under way

    @property
    def processes(self) -> int:
        """How many processes it is made of: the shell, the worker and the control, and a
        zygote beside; or the shell and the zygote, when that serves it alone."""
        if self.served:
            return 2
        return 3 + bool(self.hello and self.hello.zygote)

    @property
    def lost(self) -> bool:
        return self._gone.is_set()

    def close(self) -> None:
        """Leave it; the supervisor ends with its input."""
        self._gone.set()
        self._channel.close()

    def wind_down(self, seconds: float) -> None:
        """Have an idle supervisor end, and wait for that no longer than ``seconds``."""
        self._gone.set()
        self._channel.wind_down(seconds)

    # -- small orders --------------------------------------------------------

    def hail(self, before: bytes = b"") -> None:
        """Send the greeting ahead, over a channel that holds it until the supervisor is up;
        then ``greet`` only waits. ``before`` is what the supervisor is made of, where it
        comes by its input. Raises LaneLostError."""
        self._hailed = _token()
        self._send(b"%sy %s 0 0\n" % (before, self._hailed))

    def greet(self, seconds: float) -> Hello:
        """Wait until the supervisor is up. Raises LaneLostError with what it said instead."""
        if self._hailed is None:
            said = self._ask(b"y", seconds)
        else:
            token, self._hailed = self._hailed, None
            said = self._answer_to(token, seconds)
        words = said.split(b" ", 4)
        if len(words) != 5:
            raise LaneLostError("the supervisor's greeting makes no sense")
        python = words[2].decode("utf-8", "replace")
        self.hello = Hello(
            _number(words[0]), _number(words[1]), None if python == "-" else python,
            words[3] != b"-", words[4].decode("utf-8", "replace").strip(),
        )  # fmt: skip
        return self.hello

    def count(self) -> int:
        """How many of its programs still live."""
        return _number(self._ask(b"c", ANSWER_SECONDS))

    def clean(self) -> int:
        """Drop what ended programs printed late; how many processes there are."""
        count = _number(self._ask(b"y", ANSWER_SECONDS).partition(b" ")[0])
        self.dirty = False
        return count

    def wake(self) -> None:
        """Start the zygote; it costs nothing here and some 15 ms in the background inside."""
        self.awake = True
        if self.hello is not None and not self.hello.marked:  # where forks are dear
            self._due = time.monotonic() + _ZYGOTE_SECONDS
        self._send(b"z - 0 0\n")

    @property
    def due(self) -> bool:
        """Whether its zygote should be up by now, and be given the lane."""
        return self.due_in == 0

    @property
    def due_in(self) -> float | None:
        """In how many seconds it will be ``due``; None: never."""
        return None if self._due is None else max(0.0, self._due - time.monotonic())

    def hand_over(self) -> None:
        """Give an idle lane to its zygote, unless that has ended. Raises LaneLostError."""
        self._due = None
        self.served = self._ask(b"h", ANSWER_SECONDS) == b"1"

    def none_ahead(self) -> None:
        """Have it keep no process ready for the next program, until there was one. A lane
        that is lost keeps none, and is found out when it is used."""
        if self.served:
            with contextlib.suppress(LaneLostError):
                self._send(b"n - 0 0\n")

    def expire_in(self, seconds: float) -> None:
        """Have the supervisor, and the sandbox with it, end itself then; 0 takes that back."""
        self._send(b"d %d 0 0\n" % math.ceil(seconds))

    def end_other(self, lane: Lane) -> None:
        """End the programs of another lane that cannot take the order itself."""
        zygote = lane.hello.zygote if lane.hello else 0
        self._send(b"K %d %d 0\n" % (lane.number, zygote))

    def _ask(self, operation: bytes, seconds: float) -> bytes:
        """The line that answers; other output is dropped."""
        token = _token()
        self._send(b"%s %s 0 0\n" % (operation, token))
        return self._answer_to(token, seconds)

    def _answer_to(self, token: bytes, seconds: float) -> bytes:
        said = b""
        try:
            for _, data in self._read(token, seconds):
                said = (said + data)[-500:]
        except TimeoutError:
            raise LaneLostError(f"no answer within {seconds:g} s; it said: {said!r}") from None
        except LaneLostError as error:  # such as the engine's word on why it does not start
            words = said.decode("utf-8", "replace").strip()
            raise LaneLostError(f"{error}; it said: {words}" if words else str(error)) from None
        return self._answer

    # -- a program -----------------------------------------------------------

    def begin(self, job: Job) -> None:
        """Hand over a job; its end is awaited by ``finish``."""
        self._token = _token()
        head, stdin = job.order(self._token, served=self.served)
        if len(head) + len(stdin) <= _INLINE_BYTES:
            self._sender = None
            self._send(head + stdin)
            return
        # Held from the start, so that no other order gets between.
        self._sending.acquire()
        sender = threading.Thread(
            target=self._send_large, args=(head, stdin), daemon=True, name="stockade-stdin"
        )
        self._sender = sender
        sender.start()

    def _send_large(self, head: bytes, stdin: bytes) -> None:
        try:
            self._channel.send(head)
            self._channel.send(stdin)
        except OSError:
            self._gone.set()
        finally:
            self._sending.release()

    def ended(self) -> bool:
        """Whether its supervisor is known to be gone; asked of an idle lane."""
        return self.lost or self._channel.ended()

    def finish(self, output: Output, alive: Callable[[], bool]) -> Ended:
        """Pass output on until the program's end; asks ``alive`` in long silences, since
        an engine may leave a connection open whose sandbox is dead. Raises LaneLostError."""
        for stream, data in self._read(self._token, None, alive):
            if output.full(stream):
                output.drop(stream, len(data))
            else:
                output.write(stream, data)
        if self._sender is not None:
            self._sender.join()
        self._send(b"e\n")
        words = self._answer.split()
        if len(words) != 5:
            raise LaneLostError("the supervisor's report makes no sense")
        return Ended(
            _number(words[0]) & 255, words[1] == b"1", words[1] == b"N",
            _number(words[2]), _number(words[3]), _number(words[4]),
        )  # fmt: skip

    def kill(self) -> bool:
        """End the program's tree; False when the lane cannot take the order now."""
        if not self._sending.acquire(timeout=0.2):
            return False  # a large input stands in the way, which the program may never read
        try:
            self._channel.send(b"k\n")
        except OSError:
            self._gone.set()
        finally:
            self._sending.release()
        return True

    # -- the wire ------------------------------------------------------------

    def _send(self, data: bytes) -> None:
        try:
            with self._sending:
                self._channel.send(data)
        except OSError as error:
            self._gone.set()
            raise LaneLostError(str(error)) from error

    def _read(
        self, token: bytes, seconds: float | None, alive: Callable[[], bool] | None = None
    ) -> Iterator[tuple[Stream, bytes]]:
        """What comes before the token on either stream; then ``_answer`` holds its line.

        Raises TimeoutError after ``seconds`` for the whole of it, however much is said.
        """
        until = None if seconds is None else time.monotonic() + seconds
        scanners = {stream: _Scanner(token) for stream in Stream}
        out, err = scanners[Stream.STDOUT], scanners[Stream.STDERR]
        while not (out.rest is not None and b"\n" in out.rest and err.rest is not None):
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError
            for stream, data in self._pieces(left, alive):
                own = scanners[stream].feed(data)
                if own:
                    yield stream, own
            if out.rest is not None and len(out.rest.partition(b"\n")[0]) > _MAX_ANSWER:
                raise LaneLostError("the supervisor's answer makes no sense")
        self._answer: bytes = out.rest.partition(b"\n")[0]

    def _pieces(
        self, seconds: float | None, alive: Callable[[], bool] | None
    ) -> list[tuple[Stream, bytes]]:
        try:
            pieces = self._channel.receive(_SILENCE_SECONDS if alive else seconds)
        except TimeoutError:
            if alive is None:
                raise
            if alive():
                return []
            raise LaneLostError("the sandbox has ended") from None
        except OSError as error:
            self._gone.set()
            raise LaneLostError(str(error)) from error
        if not pieces:  # the end
            self._gone.set()
            raise LaneLostError("the supervisor has ended")
        return pieces

    def drain(self, seconds: float) -> None:
        """Read and forget for so long what programs left behind print (D7).

        Raises LaneLostError.
        """
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            try:
                self._pieces(left, None)
            except TimeoutError:
                return
            time.sleep(_DRAIN_PAUSE)


def _token() -> bytes:
    """What no program can foresee: 72 bits, and for one order; the first byte is rare in
    output. Short, because a shell reads it byte by byte, which under gVisor is dear."""
    return b"\x1d" + secrets.token_urlsafe(9).encode()


def _number(word: bytes) -> int:
    try:
        return int(word)
    except ValueError:
        raise LaneLostError(f"the supervisor said {word!r:.40} where a number belongs") from None
