"""The owner's side of a session: its keeper process, and the link into the sandbox."""

from __future__ import annotations

import contextlib
import os
import time

import attrs

from stockade.errors import DestroyError, SandboxLostError, SandboxStartError
from stockade.toolkit.egress import Names
from stockade.toolkit.local import KeeperLostError, KeeperProcess, Order, State
from stockade.toolkit.supervised import Death, LinkLost, SocketTransport, SupervisedSandbox
from stockade.toolkit.supervised.call import Call, End
from stockade.toolkit.supervised.egress import Egress
from stockade.wall import ExecRequest, Output, Running, Terminal, TerminalRequest
from stockade_landlock import supervisor
from stockade_landlock.keeper import PROGRAM

__all__ = ["LandlockSandbox"]

#: How long it may take until the keeper has seen that the sandbox has ended.
_SETTLE_SECONDS = 3.0
#: How a program ends that was killed, and a shell whose program was.
_KILLED = (-9, 137)


class LandlockSandbox(SupervisedSandbox):
    """Made by :meth:`start_session`; nothing is left of it when that fails (C5)."""

    def __init__(self, keeper: KeeperProcess, order: Order, names: Names | None) -> None:
        self.keeper = keeper
        self._watched = not {"memory", "cpu"} <= order.held
        self._memory_watched = "memory" not in order.held
        self._egress: Egress | None = None
        self._way_out: dict[str, str] = {}
        seconds = order.startup_seconds
        transport = SocketTransport(keeper.connection)
        super().__init__(transport, startup_seconds=seconds, expires_at=order.expires_at)
        #: The sandbox's first process, as this machine numbers it.
        self.init_pid: int = keeper.ready()
        if names is not None:
            self._egress = Egress(self.link, names)
            self._way_out = self._egress.open(seconds)

    @classmethod
    def start_session(cls, order: Order, names: Names | None) -> LandlockSandbox:
        """``names`` are the hosts that are reached, None for no way out.

        Raises SandboxStartError.
        """
        keeper = KeeperProcess(
            order,
            {PROGRAM: supervisor.descriptor()},
            module="stockade_landlock.keeper",
            packages=["stockade_landlock"],
        )
        try:
            return cls(keeper, order, names)
        except BaseException as error:
            said = keeper.words()
            with contextlib.suppress(DestroyError):
                keeper.end()
            keeper.connection.close()
            if isinstance(error, LinkLost | KeeperLostError):
                raise SandboxStartError(
                    f"the sandbox did not start: {said or error}; see `stockade doctor "
                    "--probe landlock`."
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
        # Programs may use up what a supervisor needs; nothing inside reaches the keeper.
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
    if state.kills and code == -9:
        return Death("its memory limit ended the supervisor", out_of_memory=True)
    how = f"signal {-code}" if code < 0 else f"code {code}"
    return Death(f"its first process has ended with {how}")
