"""The owner's side of a session: lanes in one sandboxed process tree, and their keeper."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import Any

from stockade.errors import SandboxStartError
from stockade.resident import Channel, Death, PipeChannel, ResidentSandbox
from stockade.resident.lane import Ended, Lane, LaneLostError
from stockade.wall import ExecRequest, Output, Running
from stockade_landlock.process import KeeperProcess

__all__ = ["LandlockSandbox"]

#: How long the keeper may take to see that the session's first program has ended.
_SETTLE_SECONDS = 1.0
#: How often the keeper is told that programs start; it watches longer than that.
_EXPECT_SECONDS = 1.0
_KILLED = 137
_STREAMS = 3


class LandlockSandbox(ResidentSandbox):
    """A session: its folders and its programs live as long as its keeper."""

    counts_processes = False  # the keeper does
    hides_missing = True

    def __init__(self, order: dict[str, Any]) -> None:
        """Raises SandboxStartError."""
        self._keeper = KeeperProcess(order)
        self._told = 0.0
        self._counting = threading.Lock()
        self._kills: dict[int, int] = {}  # those for memory that are accounted for, by lane
        try:
            super().__init__(self.open_channel(0), startup_seconds=order["startup_seconds"])
        except LaneLostError as error:
            self._keeper.close()
            raise SandboxStartError(
                f"nothing could be started inside: {error}; see `stockade doctor landlock`."
            ) from error
        except BaseException:
            self._keeper.close()
            raise

    @property
    def keeper_pid(self) -> int:
        return self._keeper.pid

    # -- what ResidentSandbox asks for -----------------------------------------

    def start(self, request: ExecRequest, output: Output) -> Running:
        now = time.monotonic()
        if now - self._told > _EXPECT_SECONDS:
            self._told = now
            with contextlib.suppress(LaneLostError):  # the lane will tell as well
                self._keeper.tell(op="expect")
        return super().start(request, output)

    def open_channel(self, number: int) -> Channel:
        answer, pipes = self._keeper.ask(op="lane", lane=number)
        if answer["op"] != "lane":
            raise LaneLostError(answer["detail"])
        if len(pipes) != _STREAMS:  # the kernel drops what finds no place
            for descriptor in pipes:
                os.close(descriptor)
            raise LaneLostError("this process may open no more files")
        return PipeChannel(*pipes)

    def post_mortem(self, *, settle: bool) -> Death | None:
        ended = self._keeper.ended.wait(_SETTLE_SECONDS if settle else 0)
        return Death(self._keeper.reason) if ended else None

    def force_end(self) -> None:
        with contextlib.suppress(LaneLostError):
            self._keeper.tell(op="end")

    def expire_at(self, when: float | None) -> None:
        with contextlib.suppress(LaneLostError):  # the keeper's, whom no program reaches
            self._keeper.tell(op="expire", at=when)

    def destroy(self) -> None:
        self._keeper.close()

    # -- what the keeper does better, since no program reaches it ----------------

    def end_programs(self, lane: Lane) -> bool:
        with contextlib.suppress(LaneLostError):  # then nothing is left to end
            self._keeper.tell(op="kill", lane=lane.number)
        return True

    def left_behind(self, lane: Lane) -> int:
        left, _ = self._seen(lane, self._keeper.ask(op="look", lane=lane.number)[0])
        return left

    def tidy(self, lane: Lane, ended: Ended) -> None:
        if lane.dirty:
            super().tidy(lane, ended)
            return

        def judge(answer: dict[str, Any] | None) -> None:
            if answer is None:
                self.forget(lane)
            elif self._seen(lane, answer)[0]:
                self.retire(lane)
            else:
                self.make_idle(lane)
            self.tidying(-1)

        self.tidying(1)
        self._keeper.ask_for(judge, op="look", lane=lane.number)

    def out_of_memory(self, lane: Lane, ended: Ended) -> bool:
        if ended.status != _KILLED:
            return False
        try:
            return self._seen(lane, self._keeper.ask(op="look", lane=lane.number)[0])[1]
        except LaneLostError:
            return False

    def _seen(self, lane: Lane, answer: dict[str, Any]) -> tuple[int, bool]:
        """How many programs of the lane live, and whether one was ended for memory lately.

        The keeper counts a kill before it makes it, and answers when it is done.
        """
        with self._counting:
            new = answer["kills"] > self._kills.get(lane.number, 0)
            self._kills[lane.number] = answer["kills"]
        return answer["left"], new
