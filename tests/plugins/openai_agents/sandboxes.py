"""Sandboxes for one piece of work each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from agents.sandbox import Manifest
from agents.sandbox.session import SandboxSession

from conftest import need
from stockade_openai_agents import StockadeSandboxClient, StockadeSandboxClientOptions

__all__ = ["BEATING", "IMAGE", "WALLS", "beats", "within"]

IMAGE = "docker:stockade-test/work?pull=never"
#: A line of a program that writes again and again.
BEATING = "while :; do echo >> beat; sleep 0.05; done"
WALLS = {"landlock": "landlock", IMAGE: "docker"}


def within(
    wall: str,
    work: Callable[[SandboxSession], Awaitable[None]],
    *,
    manifest: Manifest | None = None,
    options: StockadeSandboxClientOptions | None = None,
    **config: Any,
) -> None:
    """Do it in a sandbox of its own, which is deleted then."""
    need(WALLS.get(wall, wall))

    async def whole() -> None:
        client = StockadeSandboxClient(wall, **config)
        session = await client.create(manifest=manifest, options=options)
        try:
            async with session:
                await work(session)
        finally:
            await client.delete(session)

    asyncio.run(whole())


async def beats(session: SandboxSession, seconds: float = 30) -> bool:
    """Whether such a program writes within that time."""
    until, first = time.monotonic() + seconds, None
    while time.monotonic() < until:
        size = (await session.exec("cat beat | wc -c")).stdout
        if first is not None and size != first:
            return True
        first = size
        await asyncio.sleep(0.2)
    return False
