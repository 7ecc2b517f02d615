"""The owner's side of a session: its keeper process, and lanes into the sandbox."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import threading
import time
from typing import Any

from stockade.errors import DestroyError, SandboxLostError, SandboxStartError
from stockade.resident import NEEDS, Channel, Death, PipeChannel, ResidentSandbox, supervisor
from stockade.resident.lane import Ended, Lane, LaneLostError
from stockade.toolkit.local import link
from stockade.toolkit.local.bare import keeper_command
from stockade.toolkit.local.cgroups import Group
from stockade.toolkit.local.leftovers import marks
from stockade.wall import ExecRequest, Output, Running

__all__ = ["BubblewrapSandbox"]

_log = logging.getLogger(__name__)

_ANSWER_SECONDS = 20.0
_REMOVE_SECONDS = 8.0
#: How a shell tells of a program that SIGKILL ended.
_KILLED = 128 + 9
#: How long it may take until the keeper has seen that the sandbox has ended.
_SETTLE_SECONDS = 3.0


class BubblewrapSandbox(ResidentSandbox):
    """Made by :meth:`start_session`; nothing is left of it when that fails (C5)."""

    def __init__(self, keeper: _Keeper, first: Channel, order: dict[str, Any]) -> None:
        self.keeper = keeper
        self._watched = not {"memory", "cpu"} <= set(order["cgroups"])
        self._memory_watched = "memory" not in order["cgroups"]
        super().__init__(first, startup_seconds=order["startup_seconds"])
        #: The sandbox's first process, as this machine numbers it.
        self.init_pid: int = keeper.ask({"op": "settle"})["init"]

    @classmethod
    def start_session(cls, order: dict[str, Any]) -> BubblewrapSandbox:
        """Raises SandboxStartError."""
        script, zygote = supervisor()
        order["shell"] = ["/bin/sh", "-c", script, "sh", "0", zygote]
        keeper = _Keeper(order)
        channel = None
        try:
            channel = PipeChannel(*keeper.descriptors)
            return cls(keeper, channel, order)
        except BaseException as error:
            if channel is not None:
                channel.close()
            with contextlib.suppress(DestroyError):
                keeper.end()
            if isinstance(error, LaneLostError):
                raise SandboxStartError(
                    f"the sandbox did not start: {error}. Its root needs {NEEDS}; see "
                    "`stockade doctor --probe bubblewrap`."
                ) from error
            raise

    # -- what ResidentSandbox asks for -----------------------------------------

    def start(self, request: ExecRequest, output: Output) -> Running:
        if self._watched:
            self.keeper.tell_busy()
        return super().start(request, output)

    def open_channel(self, number: int) -> Channel:
        script, zygote = supervisor()
        argv = ["/bin/sh", "sh", "-c", script, "sh", str(number), zygote]
        answer = self.keeper.ask({"op": "spawn", "argv": argv, "lane": number})
        return PipeChannel(*answer["descriptors"])

    def end_programs(self, lane: Lane) -> bool:
        """From outside, where nothing inside is in the way; the supervisor could, too."""
        try:
            self.keeper.ask({"op": "kill", "lane": lane.number})
        except LaneLostError:
            return super().end_programs(lane)
        return True

    def left_behind(self, lane: Lane) -> int:
        return int(self.keeper.ask({"op": "count", "lane": lane.number})["programs"])

    def out_of_memory(self, lane: Lane, ended: Ended) -> bool:
        """Where the keeper watches, it knows whose program it ended; a kernel only counts."""
        if not self._memory_watched:
            return super().out_of_memory(lane, ended)
        if ended.status != _KILLED:
            return False
        message = {"op": "killed", "lane": lane.number, "after": ended.kills_before}
        try:
            return bool(self.keeper.ask(message)["killed"])
        except LaneLostError:
            return False

    def post_mortem(self, *, settle: bool) -> Death | None:
        until = time.monotonic() + (_SETTLE_SECONDS if settle else 0.0)
        while True:
            try:
                state = self.keeper.ask({"op": "state"})
            except LaneLostError as error:
                return Death(str(error))
            if state["ended"] is not None:
                return _death(state)
            if time.monotonic() > until:
                return None
            time.sleep(0.02)

    def force_end(self) -> None:
        self.keeper.kill()

    def destroy(self) -> None:
        self.keeper.end()

    # -- pausing -----------------------------------------------------------------

    def freeze(self, yes: bool) -> None:
        try:
            self.keeper.ask({"op": "freeze", "yes": yes})
        except LaneLostError as error:
            raise SandboxLostError(f"the session could not be frozen or thawed: {error}") from error


def _death(state: dict[str, Any]) -> Death:
    status = state["ended"]
    code = os.waitstatus_to_exitcode(status)
    how = f"signal {-code}" if code < 0 else f"code {code}"
    # bwrap passes its first program's end on: a supervisor ends by no signal of its own.
    if state["kills"] and code in (-9, 137):
        return Death("its memory limit ended the supervisor", out_of_memory=True)
    return Death(f"bwrap has ended with {how}")


class _Keeper:
    """The keeper process and the link to it; safe from any thread."""

    def __init__(self, order: dict[str, Any]) -> None:
        """Start it with this order. Raises SandboxStartError, and nothing is left."""
        self._order = order
        self._asking = threading.Lock()
        self._ended = False
        self._link, theirs = link.pair()
        with theirs:
            self._process = _start_keeper(theirs, order)
        self._link.settimeout(order["startup_seconds"])
        try:
            #: This side's ends of the pipes to the first supervisor.
            self.descriptors: list[int] = self.ask(order)["descriptors"]
        except LaneLostError as error:
            with contextlib.suppress(DestroyError):
                self.end()
            raise SandboxStartError(f"the bubblewrap keeper did not start: {error}.") from error
        self._link.settimeout(_ANSWER_SECONDS)

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Its answer, with ``descriptors``. Raises LaneLostError."""
        with self._asking:
            return self._ask(message)

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        if self._ended:
            raise LaneLostError("the session is closed")
        try:
            link.send(self._link, message)
            received = link.receive(self._link)
        except TimeoutError:
            self._process.kill()  # its next answer would be taken for another's
            raise LaneLostError("the keeper does not answer") from None
        except OSError as error:
            raise LaneLostError(f"the keeper has ended ({error.strerror})") from error
        if received is None:
            raise LaneLostError("the keeper has ended")
        answer, descriptors = received
        if not answer["ok"]:
            raise LaneLostError(answer["error"])
        return {**answer, "descriptors": descriptors}

    def tell_busy(self) -> None:
        """An execution is about to start; no answer is waited for."""
        with contextlib.suppress(OSError):
            link.send(self._link, {"op": "busy"})

    def kill(self) -> None:
        """End it, at which the kernel ends the sandbox; its cgroup is left for ``end``."""
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
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
        self._link.close()

    def _remove_traces(self) -> None:
        """What a keeper leaves that was killed; mostly there is nothing."""
        order = self._order
        with contextlib.suppress(FileNotFoundError):
            os.unlink(order["counter"])
        if order["cgroups"]:
            Group(order["cgroups"], order["name"]).remove(_REMOVE_SECONDS)

    def _end_by_keeper(self) -> None:
        try:
            self._ask({"op": "end"})
            self._process.wait(_ANSWER_SECONDS)
        except (LaneLostError, subprocess.TimeoutExpired) as error:
            _log.warning("the keeper could not end its session, so it is killed: %s", error)


def _start_keeper(theirs: socket.socket, order: dict[str, Any]) -> subprocess.Popen[bytes]:
    command = keeper_command("stockade_bubblewrap.keeper", theirs.fileno(), ["stockade_bubblewrap"])
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            **marks("bubblewrap", order["session"], order["owner_mark"]),
        },
        cwd="/",
        start_new_session=True,
        pass_fds=(theirs.fileno(),),
    )
