"""Walls whose sandboxes outlive their processes, or do not, for the tests of attaching."""

from __future__ import annotations

import time
from collections.abc import Sequence

import attrs

from core.walls import ScriptedRunning, ScriptedSandbox, ScriptedWall, until_killed
from stockade import SandboxLostError
from stockade.capabilities import Capabilities
from stockade.wall import (
    AttachRequest,
    ExecRequest,
    Leftover,
    OpenRequest,
    Output,
    Running,
    Sandbox,
)


@attrs.define(eq=False)
class Held(ScriptedSandbox):
    """One process's view of a sandbox that outlives it."""

    name: str = ""
    paused: bool = False
    detached: int = 0

    def detach(self) -> None:
        self.detached += 1

    def is_paused(self) -> bool:
        return self.paused

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def close(self) -> None:
        super().close()
        DurableWall.there.discard(self.name)

    def start(self, request: ExecRequest, output: Output) -> Running:
        if request.argv[:1] == ("sleep",):
            return ScriptedRunning(until_killed, output)
        return super().start(request, output)


class DurableWall(ScriptedWall):
    there: set[str] = set()
    attached: list[AttachRequest] = []
    held: list[Held] = []
    fails: Exception | None = None
    slow = 0.0

    def open(self, request: OpenRequest) -> Sandbox:
        self.there.add(request.session_id)
        held = Held(name=request.session_id)
        self.held.append(held)
        return held

    def leftovers(self) -> Sequence[Leftover]:
        return [Leftover(session_id=name, handle=name, durable=True) for name in self.there]

    def attach(self, request: AttachRequest) -> Sandbox:
        if DurableWall.fails is not None:
            raise DurableWall.fails
        if request.session_id not in self.there:
            raise SandboxLostError("it is gone; open a new session.")
        time.sleep(DurableWall.slow)
        self.attached.append(request)
        held = Held(name=request.session_id, paused=self.held[0].paused if self.held else False)
        self.held.append(held)
        return held


class MortalWall(ScriptedWall):
    capabilities = Capabilities({**ScriptedWall.capabilities, "durable": "unsupported"})
