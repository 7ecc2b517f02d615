"""Named interpreters that are no Python: one program for each, which runs code after code (D20).

The interpreter is started once, and given what to run over its standard input. For each code a
small program of the supervisor's lends its standard streams, which the interpreter opens by
their names in /proc: so input, output and their bounds are an execution's own, and what the
interpreter says over its own output is read as words about the code that runs, and no other.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import os
import re
import secrets
import threading
from collections.abc import Mapping
from importlib.resources import files

from stockade.errors import UnsupportedError, WorkingDirectoryError
from stockade.results import Stream
from stockade.system.threads import start_thread
from stockade.toolkit.supervised.ends import FailedToStart, LinkLost
from stockade.toolkit.supervised.execution import LinkExecution
from stockade.toolkit.supervised.holder import KILLED, Holder, exit_of, exit_of_lost
from stockade.toolkit.supervised.request import Flag, StartRequest
from stockade.wall import ExecRequest, Exit, Output, Running

__all__ = ["KEPT", "Kept", "KeptRunning"]

#: The languages, and whether an interrupt leaves the state.
KEPT = {"bash": False, "javascript": True}
_TEXTS = {"bash": "keep_bash.sh", "javascript": "keep_node.js"}
_LENDER = ("/proc/self/exe", "lend")
#: Variables that are read when an interpreter starts.
_READ_AT_START = ("NODE_", "LD_", "LANG", "LC_", "HOME")
#: What bash can have as a variable: to ask it for another one's value ends its loop.
_BASH_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: What an interpreter may say before its line ends: a display in base64.
_MOST_LINE = 4 << 20
#: Linux' numbers, which are the sandbox's.
_INTERRUPT, _LET_GO, _END = 2, 10, 15
#: How often it is seen whether one that is to end before it has started has ended.
_LOOK_SECONDS = 0.1


@functools.cache
def _text(language: str) -> str:
    folder = files("stockade.toolkit.supervised.inside")
    return folder.joinpath(_TEXTS[language]).read_text(encoding="utf-8")


class Kept:
    """One interpreter, and whose turn it is. Safe from any thread."""

    def __init__(self, holder: Holder, language: str, program: str) -> None:
        self._holder = holder
        self.language = language
        self._program = program
        self.turn = threading.Lock()
        self._changed = threading.Condition()
        self._execution: LinkExecution | None = None
        self._job: KeptRunning | None = None
        self._line = bytearray()

    # -- the interpreter -------------------------------------------------------

    def give(self, job: KeptRunning, env: Mapping[str, str], words: bytes) -> None:
        """Have it run a job, and start it where it is not there. Raises LinkLost."""
        self.settle()
        with self._changed:
            self._job = job
            execution = self._execution
        if execution is None:
            execution = self._begin({n: v for n, v in env.items() if n.startswith(_READ_AT_START)})
        execution.feed(words, end=False)

    def _begin(self, env: Mapping[str, str]) -> LinkExecution:
        flag = "-c" if self.language == "bash" else "-e"
        argv = (self._program, flag, _text(self.language))
        start = StartRequest(argv=argv, cwd="/", env=env, flags=Flag.SHOWN)
        with self._changed:
            self._line.clear()
            execution = self._execution = self._holder.link.start(start, self, None)
        thread = threading.Thread(
            target=self._drive, args=(execution,), daemon=True, name="stockade-kept"
        )
        try:
            start_thread(thread)
        except BaseException:
            execution.kill()  # nobody would notice its end
            with self._changed:
                self._execution = None
            raise
        return execution

    def _drive(self, execution: LinkExecution) -> None:
        """Wait for its end, which is its job's."""
        ended: Exit | None = None
        try:
            outcome = execution.wait(lambda: self._holder.left(execution))
            if isinstance(outcome, FailedToStart):
                ended = Exit(code=126)
            else:
                ended = exit_of(self._holder, execution, outcome)
        except LinkLost:
            pass  # the job's own execution is lost, too
        finally:
            self._holder.done(execution)
            with self._changed:
                job, self._job = self._job, None
                self._execution = None
                self._changed.notify_all()
        if job is not None:
            job.ended(ended)

    def settle(self) -> None:
        """Where it has ended or is to end, wait until nothing of it is left (D6): what the next
        job was given would end with it."""
        with self._changed:
            self._changed.wait_for(self._is_settled)

    def _is_settled(self) -> bool:
        execution = self._execution
        return execution is None or (execution.killed_at is None and not execution.over)

    def end(self, job: KeptRunning | None = None) -> LinkExecution | None:
        """End it with all that is below it, of a job alone while it runs that; its execution,
        where there was one."""
        execution = self._running(job)
        if execution is not None:
            self._holder.kill_execution(execution)
        return execution

    def _running(self, job: KeptRunning | None) -> LinkExecution | None:
        with self._changed:
            return self._execution if job in (None, self._job) else None

    def interrupt(self, job: KeptRunning) -> None:
        if not KEPT[self.language]:
            raise UnsupportedError(
                f"an interrupt would end {self.language} with its state; cancel() ends it, and "
                "restart() begins anew."
            )
        execution = self._running(job)
        if execution is not None:
            execution.signal(_INTERRUPT)

    # -- what it says, as the sink of its execution ------------------------------

    def write(self, stream: Stream, data: bytes) -> None:
        if stream is not Stream.STDOUT:
            return
        self._line += data
        while (at := self._line.find(b"\n")) >= 0:
            line = bytes(self._line[:at])
            del self._line[: at + 1]
            self._hear(line)
        if len(self._line) > _MOST_LINE:
            self._line.clear()
            self.end()

    def room(self, stream: Stream) -> int:
        return 1 << 30

    def full(self, stream: Stream) -> bool:
        return stream is not Stream.STDOUT

    def drop(self, stream: Stream, count: int) -> None:
        return

    def _hear(self, line: bytes) -> None:
        secret, _, line = line.partition(b" ")
        word, _, rest = line.partition(b" ")
        with self._changed:
            job = self._job
            if job is not None and job.secret != secret:
                job = None
            if job is not None and word in (b"ended", b"nowhere", b"lost"):
                self._job = None
        if job is None:
            return  # something that was left behind
        if word == b"entered":
            job.entered()
        elif word == b"shown":
            job.shown(rest)
        elif word == b"nowhere":
            job.nowhere()
        elif word == b"ended" and rest.isdigit() and len(rest) < 4:
            job.ended(Exit(code=int(rest) & 255))
        else:
            job.ended(Exit(code=126))


class KeptRunning(Running):
    """One code in such an interpreter."""

    def __init__(
        self, holder: Holder, kept: Kept, request: ExecRequest, text: bytes, output: Output
    ) -> None:
        """Raises UnsupportedError for variables that the interpreter cannot have."""
        if kept.language == "bash":
            _check_names(request.env)
        self._holder = holder
        self._kept = kept
        self._request = request
        self._text = text
        self._output = output
        #: What the interpreter's words about it begin with: programs of earlier code, which may
        #: have the way on which these come, do not know it.
        self.secret = secrets.token_hex(16).encode()
        self._killed = threading.Event()
        self._lock = threading.Lock()
        self._lent: LinkExecution | None = None
        self._exit: Exit | None = None
        self._nowhere = False

    def wait(self) -> Exit:
        while not self._kept.turn.acquire(timeout=0.05):
            if self._killed.is_set():
                return Exit(signal=KILLED)
        try:
            return self._run()
        except LinkLost as error:
            if self._killed.is_set():
                return Exit(signal=KILLED)
            return exit_of_lost(self._holder, error)
        finally:
            self._kept.turn.release()

    def _run(self) -> Exit:
        if self._killed.is_set():
            return Exit(signal=KILLED)
        request = self._request
        start = StartRequest(argv=_LENDER, cwd="/", flags=Flag.SHOWN)
        lent = self._holder.link.start(start, self._output, request.stdin)
        try:
            with self._lock:
                self._lent = lent
                killed = self._killed.is_set()
            if killed:
                self._holder.kill_execution(lent)
            while not lent.started(_LOOK_SECONDS):
                self._holder.left(lent)
            if lent.pid and not self._killed.is_set():
                self._kept.give(self, request.env, self._words(lent.pid))
                if self._killed.is_set():  # perhaps while there was no interpreter to end
                    self._kept.end(self)
            outcome = lent.wait(lambda: self._holder.left(lent))
        finally:
            self._holder.done(lent)
        if self._killed.is_set():
            self._kept.settle()
            return Exit(signal=KILLED)
        if self._nowhere:
            raise WorkingDirectoryError(request.working_dir)
        if isinstance(outcome, FailedToStart):
            reason = os.strerror(outcome.errno) if outcome.errno else "it was refused"
            self._output.write(Stream.STDERR, f"stockade: it does not start: {reason}\n".encode())
            return Exit(code=126)
        return self._exit or Exit(signal=KILLED)

    def _words(self, lender: int) -> bytes:
        request = self._request
        if self._kept.language == "bash":
            env = [f"{name}={value}" for name, value in request.env.items()]
            head = [self.secret.decode(), str(lender), request.working_dir, str(len(env)), *env]
            words = [word.encode("utf-8", "surrogateescape") for word in head]
            return b"".join(word + b"\0" for word in (*words, self._text))
        job = {
            "secret": self.secret.decode(),
            "lender": lender,
            "folder": request.working_dir,
            "env": dict(request.env),
            "code": self._text.decode("utf-8", "replace").removeprefix("\ufeff"),
        }
        return json.dumps(job).encode() + b"\0"

    # -- what the interpreter says of it ---------------------------------------

    def entered(self) -> None:
        """It has opened the streams: now they end when it closes them."""
        self._signal(_LET_GO)

    def shown(self, text: bytes) -> None:
        try:
            self._output.show(base64.b64decode(text, validate=True))
        except binascii.Error:
            return

    def nowhere(self) -> None:
        self._nowhere = True
        self._signal(_END)

    def ended(self, how: Exit | None) -> None:
        self._exit = self._exit or how
        self._signal(_END)

    def _signal(self, number: int) -> None:
        with self._lock:
            lent = self._lent
        if lent is not None:
            lent.signal(number)

    # -- core's ------------------------------------------------------------------

    def interrupt(self) -> None:
        self._kept.interrupt(self)

    def kill(self) -> None:
        with self._lock:
            self._killed.set()
            lent = self._lent
        self._kept.end(self)
        if lent is not None:
            self._holder.kill_execution(lent)


def _check_names(env: Mapping[str, str]) -> None:
    for name in env:
        if not _BASH_NAME.fullmatch(name):
            raise UnsupportedError(
                f"a named bash cannot be given the variable {name!r}, which is no name in a shell: "
                "leave it out of env, or run the code without state."
            )
