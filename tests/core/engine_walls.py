"""Walls whose sandboxes stand on an engine beside all processes, for the tests of gc."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import attrs

from core.walls import ScriptedWall
from stockade.wall import Leftover


@attrs.define
class Engine:
    """Where sandboxes are, beside all processes."""

    there: list[Leftover] = attrs.field(factory=list)
    fails: int = 0  #: removals that fail before one works
    away: bool = False
    removed: list[str] = attrs.field(factory=list)


_engine = threading.Lock()


class EngineWall(ScriptedWall):
    engine: Engine

    def leftovers(self) -> Sequence[Leftover]:
        if self.engine.away:
            raise ConnectionError("the engine is away")
        return list(self.engine.there)

    def remove(self, leftover: Leftover) -> None:
        if self.engine.fails:
            self.engine.fails -= 1
            raise RuntimeError("it is stuck")
        with _engine:  # several are removed at a time, and lists take one change at a time
            self.engine.removed.append(leftover.session_id)
            self.engine.there.remove(leftover)


class OtherWall(ScriptedWall):
    """A second provider, which has nothing."""
