"""From a request to an execution: by a warm interpreter where one may, else cold."""

from __future__ import annotations

import contextlib
import threading
import time

from stockade.results import Stream
from stockade.toolkit.supervised.ends import FailedToStart, Failure, LinkLost
from stockade.toolkit.supervised.execution import LinkExecution
from stockade.toolkit.supervised.link import Link
from stockade.toolkit.supervised.lowering import LoweredRequest, lower_request
from stockade.toolkit.supervised.request import Flag, StartRequest
from stockade.toolkit.supervised.warm import BOOT, warm_source
from stockade.wall import ExecRequest, Output

__all__ = ["Start", "Starter"]


#: Code that is to be ended.
_WAIT = b"import time\nwhile True: time.sleep(9)"


class Nothing:
    """A sink for what nobody reads."""

    def write(self, stream: Stream, data: bytes) -> None:
        return

    def room(self, stream: Stream) -> int:
        return 0

    def full(self, stream: Stream) -> bool:
        return True

    def drop(self, stream: Stream, count: int) -> None:
        return


class Starter:
    """One sandbox's: it knows which interpreters can be warm there. Safe from any thread."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._lock = threading.Lock()
        #: Interpreters that were asked for, that have run code warm, and that never could.
        self._known: set[str] = set()
        self._warm: set[str] = set()
        self._cold: set[str] = set()
        self._source_is_there = False

    def start(self, request: ExecRequest, output: Output) -> Start:
        """Start a request. Raises ConfigError, LanguageError, LinkLost."""
        return Start(self, lower_request(request), output)

    def may_be_warm(self, lowered: LoweredRequest) -> bool:
        with self._lock:
            return lowered.warm and (
                lowered.state is not None or lowered.interpreter not in self._cold
            )

    def is_first(self, lowered: LoweredRequest) -> bool:
        """Whether this is the first code for its interpreter: it starts cold, which takes half
        the time of making one that waits. That is made when the code has ended (``ahead``), by
        when the session has shown that it runs code."""
        with self._lock:
            first = (
                lowered.warm and lowered.state is None and lowered.interpreter not in self._known
            )
            self._known.add(lowered.interpreter)
            return first

    def ahead(self, lowered: LoweredRequest) -> None:
        """Have an interpreter wait for the next code. Raises LinkLost."""
        self._link.source(BOOT, warm_source())
        self._link.ahead(StartRequest(argv=(lowered.interpreter, "-c", ""), flags=Flag.WARM))

    def restart(self, state: str, interpreter: str | None, seconds: float) -> None:
        """End a named interpreter with all that is below it. Raises LinkLost."""
        if interpreter is None or not self._source_is_there:
            return
        # One that has code may be ended, and whatever it was before ends with it.
        request = StartRequest(
            argv=(interpreter, "-c", ""), flags=Flag.NAMED, blob=_WAIT, name=state
        )
        execution = self._link.start(request, Nothing())
        execution.kill()
        until = time.monotonic() + seconds

        def left() -> float:
            if time.monotonic() > until:
                raise TimeoutError("the interpreter did not end")
            return until - time.monotonic()

        try:
            execution.wait(left)
        finally:
            self._link.forget(execution)

    def learn(self, interpreter: str, *, worked: bool) -> None:
        """One that never worked (a Python without sockets) is not tried again."""
        with self._lock:
            if worked:
                self._warm.add(interpreter)
            elif interpreter not in self._warm:
                self._cold.add(interpreter)

    def launch(self, lowered: LoweredRequest, output: Output, *, warm: bool) -> LinkExecution:
        flags, argv = 0, lowered.argv
        if warm:
            argv = (argv[0], "-c", "", *argv[3:])  # it is made of that text already
            flags = Flag.NAMED if lowered.state is not None else Flag.WARM
            self._link.source(BOOT, warm_source())
            self._source_is_there = True
        flags |= Flag.MERGE if lowered.merge else 0
        flags |= 0 if lowered.user is None else Flag.USER
        uid, gid = lowered.user or (0, 0)
        words = StartRequest(
            argv=argv,
            cwd=lowered.cwd,
            env=lowered.env,
            flags=flags,
            blob=lowered.blob,
            name=lowered.state or "",
            uid=uid,
            gid=gid,
        )
        show = output.show if lowered.state is not None else None
        return self._link.start(words, output, lowered.stdin, show)


class Start:
    """One request that was started, and its execution: a second where the first found none."""

    def __init__(self, starter: Starter, lowered: LoweredRequest, output: Output) -> None:
        self._starter = starter
        self._lowered = lowered
        self._output = output
        self._first = starter.is_first(lowered)
        self._warm = not self._first and starter.may_be_warm(lowered)
        self._tried = False
        self.execution = starter.launch(lowered, output, warm=self._warm)

    def ended(self) -> None:
        """Its program has ended. Never raises."""
        if self._first:
            with contextlib.suppress(LinkLost):
                self._starter.ahead(self._lowered)

    def again(self, outcome: object) -> bool:
        """Whether it was started once more, since nothing of it has run: an interpreter was
        not there, or was ended by some program before it had the code. Raises LinkLost."""
        if not self._warm or self._tried:
            return False
        failed = isinstance(outcome, FailedToStart) and outcome.why == Failure.NO_INTERPRETER
        self._starter.learn(self._lowered.interpreter, worked=not failed)
        if not failed:
            return False
        self._tried = True
        # A cold start has the same result. A named one has none.
        self.execution = self._starter.launch(
            self._lowered, self._output, warm=self._lowered.state is not None
        )
        return True
