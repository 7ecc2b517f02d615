"""The owner's side of a session: its keeper process, and the link into the sandbox."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Mapping, Sequence

import attrs

from stockade.errors import DestroyError, SandboxLostError, SandboxStartError
from stockade.toolkit.egress import Names
from stockade.toolkit.local import KeeperLostError, KeeperProcess, Order, State
from stockade.toolkit.supervised import Death, LinkLost, SocketTransport, SupervisedSandbox
from stockade.toolkit.supervised.call import Call, End
from stockade.toolkit.supervised.egress import Egress
from stockade.wall import (
    ExecRequest,
    Output,
    Running,
    Terminal,
    TerminalRequest,
)
from stockade_bubblewrap.root import SUPERVISOR, Argument, Text

__all__ = ["BubblewrapSandbox", "Plan"]

#: How long it may take until the keeper has seen that the sandbox has ended.
_SETTLE_SECONDS = 3.0
#: Ended by SIGKILL, or as a shell tells of a program that was.
_KILLED = (-9, 128 + 9)
#: Past the standard streams, in the numbers that bwrap is told.
_FIRST_PASSED = 3


@attrs.frozen(kw_only=True)
class Plan:
    """Everything that a session is made of."""

    bwrap: str  #: its path
    arguments: Sequence[Argument]
    filter: bytes  #: of system calls
    order: Order  #: without its program
    limits: Sequence[tuple[int, int]]  #: resources that the sandbox's processes get
    bounds: Sequence[tuple[Sequence[str], str]]  #: writable places, and their options
    settings: Mapping[str, str]  #: of its network and user namespace
    names: Names | None  #: the hosts that are reached, None for no way out


class BubblewrapSandbox(SupervisedSandbox):
    """Made by :meth:`start_session`; nothing is left of it when that fails (C5)."""

    def __init__(self, keeper: KeeperProcess, plan: Plan) -> None:
        self.keeper = keeper
        self._watched = not {"memory", "cpu"} <= plan.order.held
        self._memory_watched = "memory" not in plan.order.held
        self._egress: Egress | None = None
        self._way_out: dict[str, str] = {}
        seconds = plan.order.startup_seconds
        super().__init__(
            SocketTransport(keeper.connection),
            startup_seconds=seconds,
            expires_at=plan.order.expires_at,
        )
        #: The sandbox's first process, as this machine numbers it.
        self.init_pid: int = keeper.ready(plan.limits, plan.bounds, plan.settings)
        if plan.names is not None:
            self._egress = Egress(self.link, plan.names)
            self._way_out = self._egress.open(seconds)

    @classmethod
    def start_session(cls, plan: Plan) -> BubblewrapSandbox:
        """Raises SandboxStartError."""
        with _Passed() as passed:
            words = [*passed.numbered(plan.arguments), "--seccomp", passed.number(plan.filter)]
            # Not on the command line: the sandbox's first process shows it inside (E7).
            listed = "".join(word + "\0" for word in words).encode("utf-8", "surrogateescape")
            argv = [plan.bwrap, "--args", passed.number(listed), "--", SUPERVISOR, "serve"]
            keeper = KeeperProcess(dataclasses.replace(plan.order, argv=argv), passed.places)
        try:
            return cls(keeper, plan)
        except BaseException as error:
            words_of_bwrap = keeper.words()
            with contextlib.suppress(DestroyError):
                keeper.end()
            keeper.connection.close()
            if isinstance(error, LinkLost | KeeperLostError):
                raise SandboxStartError(
                    f"the sandbox did not start: {words_of_bwrap or error}; see `stockade doctor "
                    "--probe bubblewrap`."
                ) from error
            raise

    # -- what SupervisedSandbox asks for -----------------------------------------

    def start(self, request: ExecRequest, output: Output) -> Running:
        if self._watched:
            self.keeper.expect()
        if self._way_out:
            request = attrs.evolve(request, env={**self._way_out, **request.env})
        return super().start(request, output)

    def terminal(self, request: TerminalRequest) -> Terminal:
        if self._watched:
            self.keeper.expect()
        if self._way_out:
            request = attrs.evolve(request, env={**self._way_out, **request.env})
        return super().terminal(request)

    def out_of_memory(self, call: Call, end: End) -> bool:
        """Where the keeper watches, it knows whose program it ended; a kernel only counts."""
        if not self._memory_watched:
            return super().out_of_memory(call, end)
        if call.killed_at is not None or os.waitstatus_to_exitcode(end.status) not in _KILLED:
            return False
        with contextlib.suppress(KeeperLostError):
            return self.keeper.killed(call.pid)
        return False

    def post_mortem(self, *, settle: bool) -> Death | None:
        until = time.monotonic() + (_SETTLE_SECONDS if settle else 0.0)
        while True:
            try:
                state = self.keeper.state()
            except KeeperLostError as error:
                return Death(str(error))
            if state.ended is not None:
                return _death(state)
            if time.monotonic() > until:
                return None
            time.sleep(0.02)

    def force_end(self) -> None:
        self.keeper.kill()

    def destroy(self) -> None:
        if self._egress is not None:
            self._egress.close()
        self.keeper.end()

    def expire_at(self, when: float | None) -> None:
        super().expire_at(when)
        # A supervisor that was stopped keeps no deadline; nothing inside reaches the keeper.
        with contextlib.suppress(KeeperLostError):
            self.keeper.expire_at(when)

    def freeze(self, yes: bool) -> None:
        try:
            self.keeper.freeze(yes)
        except KeeperLostError as error:
            raise SandboxLostError(f"the session could not be frozen or thawed: {error}") from error


def _death(state: State) -> Death:
    assert state.ended is not None
    code = os.waitstatus_to_exitcode(state.ended)
    # bwrap passes its first program's end on: a supervisor ends by no signal of its own.
    if state.kills and code in (-9, 137):
        return Death("its memory limit ended the supervisor", out_of_memory=True)
    return Death(f"bwrap has ended with {f'signal {-code}' if code < 0 else f'code {code}'}")


class _Passed:
    """Texts that bwrap gets as descriptors, each a file of no folder, by their numbers."""

    def __init__(self) -> None:
        self.places: dict[int, int] = {}

    def __enter__(self) -> _Passed:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self.places.values():
            os.close(descriptor)

    def numbered(self, arguments: Sequence[Argument]) -> list[str]:
        return [self.number(word.content) if isinstance(word, Text) else word for word in arguments]

    def number(self, content: bytes) -> str:
        """The number under which a program reads this."""
        descriptor = os.memfd_create("stockade")
        place = _FIRST_PASSED + len(self.places)
        self.places[place] = descriptor
        left = memoryview(content)
        while left:
            left = left[os.write(descriptor, left) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
        return str(place)
