"""What a look at a sandbox's use asks of its wall."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("starlette", reason="stockade-server is not installed (tox -e server)")

from stockade.config import Limits
from stockade.wall import Leftover, Usage


class Wall:
    """Has two sandboxes, and two things that are left of each: one of them counts."""

    def __init__(self) -> None:
        self.listed, self.asked = 0, list[str]()
        self.gone = False

    def leftovers(self) -> list[Leftover]:
        self.listed += 1
        found = [("a", "folder-a"), ("a", "a"), ("b", "folder-b"), ("b", "b")]
        return [Leftover(handle=handle, session_id=session) for session, handle in found]

    def usage(self, leftover: Leftover) -> Usage | None:
        self.asked.append(leftover.handle)
        if self.gone or leftover.handle.startswith("folder"):
            return None
        return Usage(cpu_seconds=1.0, memory_bytes=1 << 20)


def test_a_wall_lists_its_sandboxes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from stockade_server import usage
    from stockade_server.errors import Refused

    monkeypatch.setattr(usage, "_BETWEEN", 0.0)
    wall = Wall()
    session: Any = SimpleNamespace(provider=SimpleNamespace(wall=wall), session_id="b")

    async def scenario() -> None:
        meter = usage.Meter(session, Limits(), 0.0)
        for number in range(1, 4):
            samples = await meter.between(None, None)
            assert len(samples) == number and samples[-1]["memUsed"] == 1 << 20
        wall.gone = True
        with pytest.raises(Refused):
            await meter.between(None, None)
        assert await meter.latest() is None

    asyncio.run(scenario())
    assert wall.listed == 1
    assert wall.asked == ["folder-b", *["b"] * 5]
