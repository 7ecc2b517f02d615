"""What a sandbox uses, as its wall counts it: looked at when somebody asks."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import time
from collections import deque
from typing import Any

import attrs

from stockade.aio import AsyncSession
from stockade.config import MIB, Limits
from stockade.errors import StockadeError
from stockade.wall import Leftover
from stockade_server.errors import Refused, not_served

__all__ = ["Meter"]

_MOST_SAMPLES = 720
_SECONDS = 10.0  #: that the wall may take to look
_BETWEEN = 1.0  #: seconds: who asks more often gets what is known


@attrs.frozen
class _Sample:
    at: float  #: Unix time
    cpu_percent: float  #: since the sample before; 100 is one cpu
    memory_bytes: int


class Meter:
    """The samples of one sandbox, the latest of them."""

    def __init__(self, session: AsyncSession, limits: Limits, started_at: float) -> None:
        self._session = session
        self._limits = limits
        self._samples: deque[_Sample] = deque(maxlen=_MOST_SAMPLES)
        self._before = (started_at, 0.0)  # when, and the seconds of cpu until then
        self._counted: Leftover | None = None  #: as its wall lists it: asked for once
        self._turn = asyncio.Lock()

    async def between(self, start: float | None, end: float | None) -> list[dict[str, Any]]:
        """The samples of a span, after one more look. Raises Refused where the wall counts
        nothing."""
        async with self._turn:
            if time.time() - self._before[0] >= _BETWEEN or not self._samples:
                await self._look()
        return [
            self._described(one)
            for one in self._samples
            if (start is None or one.at >= start) and (end is None or one.at <= end)
        ]

    async def latest(self) -> dict[str, Any] | None:
        """One look; None where the wall counts nothing, or the sandbox ends meanwhile."""
        try:
            return (await self.between(None, None))[-1]
        except (Refused, StockadeError, TimeoutError, asyncio.TimeoutError):
            return None

    async def _look(self) -> None:
        wall, session_id = self._session.provider.wall, self._session.session_id

        def look() -> tuple[float, int] | None:
            # A list of all is dear: with many sandboxes each look would be at every one.
            listed = wall.leftovers() if self._counted is None else [self._counted]
            for leftover in listed:
                if leftover.session_id == session_id:
                    usage = wall.usage(leftover)
                    if usage is not None:
                        self._counted = leftover
                        return usage.cpu_seconds or 0.0, usage.memory_bytes or 0
            return None

        found = await asyncio.wait_for(asyncio.to_thread(look), _SECONDS)
        if found is None:
            raise not_served("metrics of this wall", "run a command that prints them")
        now, (then, before) = time.time(), self._before
        percent = 100 * max(0.0, found[0] - before) / max(now - then, 1e-3)
        self._before = (now, found[0])
        self._samples.append(_Sample(now, round(percent, 2), found[1]))

    def _described(self, sample: _Sample) -> dict[str, Any]:
        """Of a disk nothing is counted: 0, which the protocol wants where nothing is known."""
        limits = self._limits
        when = dt.datetime.fromtimestamp(sample.at, dt.timezone.utc)
        return {
            "timestamp": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "timestampUnix": int(sample.at),
            "cpuCount": max(1, round(limits.cpu_limit or os.cpu_count() or 1)),
            "cpuUsedPct": sample.cpu_percent,
            "memUsed": sample.memory_bytes,
            "memTotal": int((limits.memory_mb or 0) * MIB),
            "memCache": 0,
            "diskUsed": 0,
            "diskTotal": int((limits.disk_mb or 0) * MIB),
        }
