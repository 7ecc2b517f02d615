"""The owner's side of a session: its keeper process, and the link into the sandbox."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence

import attrs

from stockade.errors import DestroyError, SandboxLostError, SandboxStartError
from stockade.toolkit.egress import WayOut
from stockade.toolkit.local import calls
from stockade.toolkit.local.process import KeeperLostError, KeeperProcess, State
from stockade.toolkit.local.root import Root
from stockade.toolkit.local.spec import KeeperSpec
from stockade.toolkit.supervised import Death, LinkLost, SocketTransport, SupervisedSandbox
from stockade.toolkit.supervised.ends import End
from stockade.toolkit.supervised.execution import LinkExecution
from stockade.wall import ExecRequest, Output, Running, Terminal, TerminalRequest

__all__ = ["LocalSandbox", "Plan"]

#: How long it may take until the keeper has seen that the sandbox has ended.
_SETTLE_SECONDS = 3.0
#: How a program ends that was killed, and a shell whose program was.
_KILLED = (-9, 137)


@attrs.frozen(kw_only=True)
class Plan:
    """What a session is made of, whatever the wall makes it with."""

    spec: KeeperSpec  #: without its program
    root: Root  #: the sandbox's files
    inside: tuple[int, int]  #: user and group as programs are to see themselves
    outside: tuple[int, int]  #: what these are on the host
    filter: bytes  #: of system calls
    limits: Sequence[tuple[int, int]]  #: RLIMIT_... that the sandbox's processes get
    settings: Mapping[str, str]  #: of its network and user namespace
    way_out: WayOut | None  #: the hosts that are reached, None for no way out
    network: bool = False  #: whether it is on the host's
    ports: Sequence[int] = ()  #: of the sandbox's loopback, that are published
    #: Files and folders of the sandbox's own, and the modes that the wall's start cannot set.
    modes: Sequence[tuple[Sequence[str], int]] = ()
    #: File systems of the sandbox's own and all their options, for what the wall's start
    #: cannot set.
    remounts: Sequence[tuple[Sequence[str], str]] = ()


class LocalSandbox(SupervisedSandbox):
    """Made by :meth:`begin`; nothing is left of it when that fails (C5)."""

    def __init__(self, keeper: KeeperProcess, plan: Plan) -> None:
        self.keeper = keeper
        spec = plan.spec
        memory, share = spec.watched
        self._watched = memory is not None or share is not None
        self._memory_watched = "memory" not in spec.held
        seconds = spec.startup_seconds
        transport = SocketTransport(keeper.connection)
        super().__init__(transport, startup_seconds=seconds, expires_at=spec.expires_at)
        #: The sandbox's first process, as this machine numbers it.
        self.init_pid: int = keeper.ready(plan.limits, plan.modes, plan.remounts, plan.settings)
        if plan.way_out is not None:
            self.open_egress(plan.way_out)
        if plan.ports:
            self.publish(plan.ports)

    @classmethod
    def begin(cls, plan: Plan, launch: Callable[[Plan], KeeperProcess]) -> LocalSandbox:
        """``launch`` starts the keeper, and with it the supervisor. Raises SandboxStartError."""
        keeper = launch(plan)
        try:
            return cls(keeper, plan)
        except BaseException as error:
            said = calls.explained(keeper.words())
            with contextlib.suppress(DestroyError):
                keeper.end()
            keeper.connection.close()
            if isinstance(error, LinkLost | KeeperLostError):
                raise SandboxStartError(
                    f"the sandbox did not start: {said or error}; see `stockade doctor "
                    f"--probe -p {plan.spec.wall}`."
                ) from error
            raise

    # -- what SupervisedSandbox asks for -----------------------------------------

    def start(self, request: ExecRequest, output: Output) -> Running:
        self._announce()
        return super().start(request, output)

    def terminal(self, request: TerminalRequest) -> Terminal:
        self._announce()
        return super().terminal(request)

    def _announce(self) -> None:
        """The watch looks out for what starts."""
        if self._watched:
            self.keeper.expect()

    def out_of_memory(self, execution: LinkExecution, end: End) -> bool:
        """Where the keeper watches, it knows whose program it ended; a kernel only counts."""
        if not self._memory_watched:
            return super().out_of_memory(execution, end)
        if execution.killed_at is not None or os.waitstatus_to_exitcode(end.status) not in _KILLED:
            return False
        with contextlib.suppress(KeeperLostError):
            return self.keeper.killed(execution.pid)
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
    # A program that stands before the supervisor passes its end on as a code.
    if state.kills and code in _KILLED:
        return Death("its memory limit ended the supervisor", out_of_memory=True)
    how = f"signal {-code}" if code < 0 else f"code {code}"
    return Death(f"its first process has ended with {how}")
