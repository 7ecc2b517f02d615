"""The ``Sandbox`` of walls that have a supervisor inside: a wall adds how it ends."""

from __future__ import annotations

import abc
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

import attrs

from stockade.errors import ConfigError, SandboxLostError, SandboxStartError
from stockade.file_backend import FileBackend
from stockade.lowering.argv import INTERPRETERS, script_bytes
from stockade.system.threads import in_thread
from stockade.toolkit.supervised.ends import End, LinkLost
from stockade.toolkit.supervised.execution import LinkExecution
from stockade.toolkit.supervised.files import SupervisedFiles
from stockade.toolkit.supervised.kept import KEPT, Kept, KeptRunning
from stockade.toolkit.supervised.link import Hello, Link
from stockade.toolkit.supervised.ports import Published
from stockade.toolkit.supervised.running import Death, SupervisedRunning, lost
from stockade.toolkit.supervised.starting import Starter
from stockade.toolkit.supervised.terminal import SupervisedTerminal
from stockade.toolkit.supervised.transport import Transport
from stockade.wall import ExecRequest, Output, Running, Sandbox, Terminal, TerminalRequest

if TYPE_CHECKING:
    from stockade.toolkit.egress import WayOut
    from stockade.toolkit.supervised.egress import Egress

__all__ = ["SupervisedSandbox"]

_log = logging.getLogger(__name__)

#: The supervisor's own deadline comes this much after the owner's.
_EXPIRY_GRACE_SECONDS = 3.0
_WHICH_SECONDS = 10.0
#: How long the way out to named hosts may take to open.
_EGRESS_SECONDS = 20.0

_Request = TypeVar("_Request", ExecRequest, TerminalRequest)


class SupervisedSandbox(Sandbox):
    """Executions, terminals, files and deadlines over one link.

    A wall starts the program of :func:`stockade_supervisor.path` inside with ``serve`` and
    hands over its standard streams as a transport; it gives ``destroy`` and, where it can,
    ``post_mortem``, ``force_end`` and ``freeze``.
    """

    #: Seconds that a program may take to end once it is killed; then its sandbox is ended (D6).
    kill_seconds: float = 0.9
    #: Whether its kernel sends no SIGWINCH when a terminal's size changes: then this side does.
    resizes_silently: bool = False
    #: How long a paused sandbox is let go on to end one program.
    thaw_seconds: float = 0.2

    def __init__(
        self,
        transport: Transport | Link,
        *,
        startup_seconds: float,
        expires_at: float | None = None,
    ) -> None:
        """Wait for the supervisor's handshake. Raises LinkLost, and leaves the rest to the
        caller, who made the sandbox."""
        begun = isinstance(transport, Link)
        self.link = transport if isinstance(transport, Link) else Link(transport)
        self._starter = Starter(self.link)
        self._lock = threading.Lock()
        self._freezing = threading.RLock()
        self._death: Death | None = None
        self._paused = False
        self._interpreters: dict[str, str] | None = None
        self._published: Published | None = None
        self._egress: Egress | None = None
        #: What leads programs to the named hosts, and is in the environment of each.
        self._way_out: dict[str, str] = {}
        self._kept: dict[tuple[str, str], Kept] = {}
        self.link.on_broken = self._broken
        self.hello: Hello = self.link.handshake(startup_seconds, begun=begun)
        if expires_at is not None:
            self.expire_at(expires_at)

    # -- what the wall gives ---------------------------------------------------

    @abc.abstractmethod
    def destroy(self) -> None:
        """End the sandbox itself and remove all that it made; may be called again."""

    def force_end(self) -> None:
        """Kill the sandbox, since it obeys no more; bounded in time, never raises.

        By default nothing: the link is closed after it, at which a supervisor ends.
        """

    def post_mortem(self, *, settle: bool) -> Death | None:
        """Why the sandbox has died, or None if it seems to live.

        Called from any thread when the link broke. ``settle``: wait a few seconds for the
        engine or the kernel to notice. By default nothing is known.
        """
        return None

    def freeze(self, yes: bool) -> None:
        """Stop everything inside, or let it go on (G2): of walls that claim the capability.
        Raises SandboxLostError."""
        raise NotImplementedError("this wall cannot freeze its sandboxes")

    def out_of_memory(self, execution: LinkExecution, end: End) -> bool:
        """Whether the memory limit ended an execution's program (E5).

        Called once for each, in its own thread, when it has ended. The supervisor goes by its
        sandbox's count of kills; a wall that knows whom the limit ended overrides this.
        """
        return end.out_of_memory

    def publish(self, ports: Sequence[int]) -> None:
        """Have these ports of the sandbox's loopback reached from this machine's, over the
        link, whatever network the sandbox has; ``address_of`` says where.

        Called once by a wall that claims ``ports``. Raises SandboxStartError.
        """
        published = Published(self.link)
        published.open(ports)
        self._published = published

    def open_egress(self, way_out: WayOut) -> None:
        """Let programs reach these hosts and nothing else, over the link (E10); with the
        secrets of some (E11).

        Called once by a wall that claims an allow-list, before anything of the caller's runs.
        Raises SandboxStartError.
        """
        # Most sessions have none.
        from stockade.toolkit.supervised.egress import Egress

        self._egress = Egress(self.link, way_out)
        try:
            self._way_out = self._egress.open(_EGRESS_SECONDS, self.files())
        except LinkLost as error:
            raise SandboxStartError(
                f"the way out to named hosts could not be opened: {error}; try again."
            ) from error

    def _led(self, request: _Request) -> _Request:
        """The request with the way out in its environment; what the caller set stands."""
        if not self._way_out:
            return request
        return attrs.evolve(request, env={**self._way_out, **request.env})

    # -- the Sandbox interface -------------------------------------------------

    @property
    def stateful_languages(self) -> Sequence[str]:  # type: ignore[override]
        return ("python", *KEPT)

    def start(self, request: ExecRequest, output: Output) -> Running:
        request = self._led(request)
        if request.state is not None and request.language in KEPT:
            text = script_bytes(request, request.language)
            kept = self._kept_of(request.language, request.state, request.interpreter)
            return KeptRunning(self, kept, request, text, output)
        try:
            started = self._starter.start(request, output)
        except LinkLost as error:
            raise self.loss(error) from error
        return SupervisedRunning(self, started, output, request)

    def _kept_of(self, language: str, state: str, program: str | None) -> Kept:
        with self._lock:
            kept = self._kept.get((language, state))
            if kept is None:
                kept = Kept(self, language, program or INTERPRETERS[language][0])
                self._kept[language, state] = kept
            return kept

    def restart(self, state: str, language: str) -> None:
        if language in KEPT:
            with self._lock:
                kept = self._kept.pop((language, state), None)
            execution = kept.end() if kept is not None else None
            if execution is not None and not execution.settled(self.kill_seconds):
                self.left(execution)
            return
        try:
            self._starter.restart(state, self.interpreter(language), self.kill_seconds)
        except LinkLost as error:
            raise self.loss(error) from error

    def terminal(self, request: TerminalRequest) -> Terminal:
        try:
            return SupervisedTerminal(self, self._led(request))
        except LinkLost as error:
            raise self.loss(error) from error

    def address_of(self, port: int) -> tuple[str, int]:
        assert self._published is not None, "the wall claims ports: call publish() in its open()"
        return self._published.address_of(port)

    def forward(self, connection: socket.socket, port: int) -> None:
        if self._egress is not None and port == self._egress.port:
            connection.close()  # a client from outside would be let out as if from inside
            raise ConfigError(f"port {port} is the session's way out, and no program's.")
        with self._lock:
            published = self._published = self._published or Published(self.link)
        try:
            published.carry(connection, port)
        except LinkLost as error:
            raise self.loss(error) from error

    def languages(self) -> Sequence[str] | None:
        return tuple(self._known_interpreters())

    def interpreter(self, language: str) -> str | None:
        return self._known_interpreters().get(language)

    def _known_interpreters(self) -> dict[str, str]:
        """Language to the program that runs it, looked for once."""
        if self._interpreters is None:
            names = [name for group in INTERPRETERS.values() for name in group]
            found = bytearray()
            try:
                self.link.builtin(["which", *names], receive=found.extend, timeout=_WHICH_SECONDS)
            except LinkLost as error:
                raise self.loss(error) from error
            present = set(found.decode("utf-8", "replace").split())
            self._interpreters = {
                language: next(name for name in group if name in present)
                for language, group in INTERPRETERS.items()
                if present.intersection(group)
            }
        return self._interpreters

    def files(self) -> FileBackend:
        return SupervisedFiles(self._builtin)

    def _builtin(
        self,
        argv: Sequence[str | bytes],
        *,
        stdin: Iterable[bytes] = (),
        receive: Callable[[bytes], None],
        timeout: float | None,
        cancelled: Callable[[], bool] | None = None,
    ) -> tuple[int, bytes]:
        """A command of the supervisor's own, as ``SupervisedFiles`` needs it."""
        try:
            return self.link.builtin(
                argv, stdin=stdin, receive=receive, timeout=timeout, cancelled=cancelled
            )
        except LinkLost as error:
            raise self.loss(error) from error

    def close(self) -> None:
        # First: a supervisor whose input ends, ends with all it runs, so this holds when
        # the wall cannot be reached, too.
        self.release()
        self.destroy()

    def release(self) -> None:
        """Let go of the link alone, and of what it carries."""
        self.link.close()
        if self._published is not None:
            self._published.close()
        if self._egress is not None:
            self._egress.close()

    def expire_at(self, when: float | None) -> None:
        left = None if when is None else max(1.0, when - time.time() + _EXPIRY_GRACE_SECONDS)
        self.link.expire_in(left)

    def pause(self) -> None:
        with self._freezing:
            self.freeze(True)
            self._paused = True

    def resume(self) -> None:
        with self._freezing:
            self.freeze(False)
            self._paused = False

    # -- ending one execution ----------------------------------------------------

    def kill_execution(self, execution: LinkExecution) -> None:
        """End one execution's tree; a paused sandbox goes on for as long as that needs (D6)."""
        with self._freezing:
            if not self._paused:
                execution.kill()
                return
            with contextlib.suppress(SandboxLostError):
                self.freeze(False)
                execution.kill()
                until = time.monotonic() + self.thaw_seconds
                while not execution.over and time.monotonic() < until:
                    time.sleep(0.005)
                self.freeze(True)

    def done(self, execution: LinkExecution) -> None:
        """An execution has ended, and its end was taken."""
        self.link.forget(execution)

    def left(self, execution: LinkExecution) -> float | None:
        """How long an order to end it may still take; then its sandbox is ended (D6). None
        if none was given."""
        if execution.killed_at is None or execution.given_up:
            return None
        left = execution.killed_at + self.kill_seconds - time.monotonic()
        if left > 0:
            return left
        execution.given_up = True
        self.overdue()
        return None

    def overdue(self) -> None:
        """A program outlived its end: the supervisor is stopped, or worse; called once for
        each, returns at once."""
        _log.warning("a program did not end when it was killed, so its sandbox is ended")
        with self._lock:
            self._death = self._death or Death("a program in it did not end when it was killed")
        in_thread(self._end_it, "stockade-kill")
        self.link.fail(LinkLost("a program in it did not end when it was killed"))

    def _end_it(self) -> None:
        self.force_end()
        self.link.close()

    def _broken(self) -> None:
        """Nobody knows whose processes were left behind, so the whole sandbox ends (D6)."""
        with self._lock:
            self._death = self._death or Death(
                "several executions left processes behind, and this kernel does not say whose "
                "they are"
            )
        in_thread(self._end_it, "stockade-kill")

    # -- the end of the sandbox --------------------------------------------------

    @property
    def died_of_memory(self) -> bool:
        """Whether the sandbox as a whole was ended for its memory (E5)."""
        return self._death is not None and self._death.out_of_memory

    def loss(self, error: BaseException) -> SandboxLostError:
        """The error to raise when the link fails in use; finds out why, once (D14)."""
        with self._lock:
            known = self._death
        if known is None:
            known = self.post_mortem(settle=True) or Death(str(error))
            with self._lock:
                self._death = known = self._death or known
        return lost(known)
