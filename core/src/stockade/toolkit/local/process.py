"""A keeper as its owner has it: a process, and questions over a control socket."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from stockade.errors import DestroyError, SandboxStartError
from stockade.toolkit.local import messages, supervisor
from stockade.toolkit.local.cgroups import Group, group_name
from stockade.toolkit.local.forked import ForkError, fork
from stockade.toolkit.local.keeper import KEEP
from stockade.toolkit.local.marks import marks
from stockade.toolkit.local.spec import KeeperSpec, milliseconds_until

__all__ = ["KeeperLostError", "KeeperProcess", "State"]

_log = logging.getLogger(__name__)
_Given = TypeVar("_Given")

_ANSWER_SECONDS = 20.0
_REMOVE_SECONDS = 8.0
#: What the program may say on its standard error; a pipe holds 16 pages at first.
_WORDS_BYTES = 65536


class KeeperLostError(Exception):
    """The keeper has ended, does not answer, or could not do what it was asked; the message
    says which. ``passing``: the same may work in a moment."""

    def __init__(self, message: str, *, passing: bool = True) -> None:
        super().__init__(message)
        self.passing = passing


@dataclasses.dataclass(frozen=True)
class State:
    """How the program that a keeper holds stands."""

    ended: int | None  #: its wait status, once it has ended
    kills: int  #: how many processes of the sandbox were ended for memory so far


class KeeperProcess:
    """A keeper and the program that it holds; started when made, safe from any thread."""

    def __init__(
        self,
        spec: KeeperSpec,
        passed: Mapping[int, int] | None = None,
        *,
        module: str = "stockade.toolkit.local.keeper",
        packages: Sequence[str] = (),
    ) -> None:
        """Start it. ``passed``: descriptors that the program gets, its number and this
        process's; they stay the caller's to close. 0, 1 and 2 are taken. ``module``: where
        the ``main`` of the keeper is, and ``packages``: those of the wall's own that it
        needs, as :func:`~stockade.toolkit.local.bare.keeper_command` has them.

        Raises SandboxStartError, and then nothing is left (C5).
        """
        self._spec = spec
        name = group_name(spec.wall, spec.session)
        self._group = Group(spec.cgroups, name) if spec.cgroups else None
        self._module, self._packages = module, packages
        self._asking = threading.Lock()
        self._ended = False
        try:
            ours, theirs, self._said, said = _streams()
        except OSError as error:
            raise _not_started(spec, error, retryable=messages.is_passing(error)) from error
        #: The other end of the program's standard input and output; the caller's to close.
        self.connection = ours
        try:
            with theirs:
                places = {0: theirs.fileno(), 1: theirs.fileno(), 2: said, **(passed or {})}
                places |= _own_program()
                self._start(places)
        except BaseException:
            self._close_words()
            self.connection.close()
            raise
        finally:
            os.close(said)

    def _start(self, places: Mapping[int, int]) -> None:
        try:
            self._control, theirs = messages.pair()
        except OSError as error:
            retryable = messages.is_passing(error)
            raise _not_started(self._spec, error, retryable=retryable) from error
        spec = self._spec
        try:
            with theirs:
                found = marks(spec.wall, spec.session, spec.owner)
                seconds = spec.startup_seconds
                try:
                    self._process = fork(self._module, self._packages, found, theirs, seconds)
                except ForkError as error:
                    raise _not_started(spec, error, retryable=error.passing) from error
            self._control.settimeout(spec.startup_seconds)
            message = {
                "spec": self._spec.to_message(),
                "places": list(places),
                "owner": os.getpid(),
            }
            try:
                self._ask(message, list(places.values()))
            except KeeperLostError as error:
                over = False
                with contextlib.suppress(DestroyError):
                    self.end()
                    over = True
                raise SandboxStartError(
                    f"the {self._spec.wall} keeper did not start: {error}.",
                    retryable=error.passing,
                    nothing_began=over,
                ) from error
            self._control.settimeout(_ANSWER_SECONDS)
        except BaseException:
            self._control.close()
            raise

    @property
    def pid(self) -> int:
        """The keeper's own."""
        return self._process.pid

    def ready(
        self,
        limits: Sequence[tuple[int, int]] = (),
        modes: Sequence[tuple[Sequence[str], int]] = (),
        remounts: Sequence[tuple[Sequence[str], str]] = (),
        settings: Mapping[str, str] | None = None,
    ) -> int:
        """The supervisor has answered and nothing of the user's has run: from now on limits
        are watched, and the counter's file has no name any more. Call it once.

        ``limits``: resources and their values for everything inside, such as RLIMIT_NPROC,
        which is counted in the sandbox's own user namespace. ``modes``: files and folders of
        the sandbox's own, and the modes that they get. ``remounts``: places inside that are
        file systems of the sandbox's own, and all their options, such as nr_inodes and
        nodev, in this order. ``settings``: of the sandbox's own network and user namespace,
        paths below /proc/sys/net and /proc/sys/user, and values.
        Returns the supervisor's process id, as this machine numbers it.
        Raises KeeperLostError.
        """
        message = {
            "limits": list(limits),
            "modes": list(modes),
            "remounts": list(remounts),
            "settings": dict(settings or {}),
        }
        with self._asking:
            if self._ended:
                raise KeeperLostError("the session is closed")
            return int(self._ask(message)["first"])

    def state(self) -> State:
        """Raises KeeperLostError."""
        answer = self._answer(messages.STATE)
        kills = answer.number + self._kernels_kills()
        return State(None if answer.ended < 0 else answer.ended, kills)

    def _kernels_kills(self) -> int:
        return 0 if self._group is None else self._group.kills()

    def killed(self, pid: int) -> bool:
        """Whether the watch ended an execution's program, or another process of it, for
        memory. ``pid``: the program's, as it is numbered inside. A cgroup's kills are the
        kernel's, which only counts them. Raises KeeperLostError."""
        return bool(self._answer(messages.KILLED, pid).number)

    def freeze(self, yes: bool) -> None:
        """Stop everything inside, or let it go on; needs the cgroup controller ``freezer``.
        Raises KeeperLostError."""
        with self._asking:
            if self._ended:
                raise KeeperLostError("the session is closed")
            if self._group is None or "freezer" not in self._spec.held:
                raise KeeperLostError("there is no cgroup that freezes", passing=False)
            try:
                self._group.freeze(yes)
            except OSError as error:
                raise KeeperLostError(str(error)) from error

    def expire_at(self, when: float | None) -> None:
        """A new end of its lifetime, in seconds since the epoch. Raises KeeperLostError."""
        self._answer(messages.EXPIRE, milliseconds_until(when))

    def expect(self) -> None:
        """An execution is about to start: the watch looks more often. Never waits or raises."""
        with contextlib.suppress(OSError):
            self._control.send(messages.question(messages.EXPECT), socket.MSG_NOSIGNAL)

    def words(self) -> str:
        """What the program said on its standard error since the last call; at most 64 KiB
        are kept until then, and what comes after the end is lost."""
        with contextlib.suppress(OSError):
            return os.read(self._said, _WORDS_BYTES).decode(errors="replace").strip()
        return ""

    def _answer(self, what: int, value: int = 0) -> messages.Answer:
        """To a question. Raises KeeperLostError."""
        with self._asking:
            if self._ended:
                raise KeeperLostError("the session is closed")
            return self._question(what, value)

    def _question(self, what: int, value: int = 0) -> messages.Answer:
        def exchange() -> messages.Answer | None:
            self._control.send(messages.question(what, value), socket.MSG_NOSIGNAL)
            return messages.receive_answer(self._control)

        answer = self._exchanged(exchange)
        if not answer.ok:
            raise KeeperLostError(answer.words)
        return answer

    def _ask(self, message: Mapping[str, Any], passed: Sequence[int] = ()) -> dict[str, Any]:
        """While the sandbox is made; the answer. Raises KeeperLostError."""

        def exchange() -> tuple[dict[str, Any], list[int]] | None:
            messages.send(self._control, message, passed)
            return messages.receive(self._control)

        answer, descriptors = self._exchanged(exchange)
        for descriptor in descriptors:
            os.close(descriptor)
        if not answer["ok"]:
            raise KeeperLostError(answer["error"], passing=answer["passing"])
        return answer

    def _exchanged(self, exchange: Callable[[], _Given | None]) -> _Given:
        try:
            given = exchange()
        except TimeoutError:
            self._process.kill()  # its next answer would be taken for another's
            raise KeeperLostError("the keeper does not answer") from None
        except OSError as error:
            raise KeeperLostError(f"the keeper has ended ({error.strerror})") from error
        if given is None:
            raise KeeperLostError("the keeper has ended")
        return given

    def kill(self) -> None:
        """End the keeper by force. Where the program asked for that, the kernel ends it
        with the keeper; its cgroup is left for ``end``."""
        self._process.kill()
        self._process.wait(_ANSWER_SECONDS)

    def end(self) -> None:
        """End the sandbox and remove all of it; may be called again. Raises DestroyError."""
        with self._asking:
            if self._ended:
                return
            if self._process.poll() is None:
                self._end_by_keeper()
            self.kill()
            try:
                self._remove_traces()
            except OSError as error:
                raise DestroyError(
                    f"the session's cgroup could not be removed: {error}; close it again."
                ) from error
            self._ended = True
            self._close_words()
        self._control.close()

    def _close_words(self) -> None:
        said, self._said = self._said, -1
        if said >= 0:
            os.close(said)

    def _remove_traces(self) -> None:
        """What a keeper leaves that was killed; mostly there is nothing."""
        spec = self._spec
        if spec.counter is not None and "memory" not in spec.held:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(spec.counter)
        if self._group is not None:
            self._group.remove(_REMOVE_SECONDS)

    def _end_by_keeper(self) -> None:
        try:
            self._question(messages.END)
            self._process.wait(_ANSWER_SECONDS)
        except KeeperLostError as error:
            _log.warning("the keeper could not end its session, so it is killed: %s", error)


def _own_program() -> dict[int, int]:
    """The supervisor's file, for the keeper to become; without one it stays as it is."""
    with contextlib.suppress(ImportError, LookupError, OSError):
        return {KEEP: supervisor.descriptor()}
    return {}


def _not_started(spec: KeeperSpec, error: Exception, *, retryable: bool) -> SandboxStartError:
    return SandboxStartError(
        f"the {spec.wall} keeper did not start: {error}.",
        retryable=retryable,
        nothing_began=True,
    )


def _streams() -> tuple[socket.socket, socket.socket, int, int]:
    """Both ends of the program's connection, and of the pipe for its words. Raises OSError."""
    ours, theirs = socket.socketpair()
    try:
        said, say = os.pipe()
    except BaseException:
        ours.close()
        theirs.close()
        raise
    for end in (said, say):
        os.set_blocking(end, False)  # nobody waits for words that nobody reads
    return ours, theirs, said, say
