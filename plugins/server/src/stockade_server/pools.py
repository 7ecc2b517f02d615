"""Sandboxes that are started ahead, by template: core's pools, filled in the background."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Mapping

from stockade.aio import AsyncPool, AsyncSession
from stockade.errors import StockadeError
from stockade_server.settings import Settings, Template

__all__ = ["Pools"]

_log = logging.getLogger("stockade.server")

_FIRST_PAUSE, _LAST_PAUSE = 1.0, 60.0  #: seconds until a pool that did not begin is tried again


class Pools:
    """Those of one server: one for each template that states a size. For one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._templates: Mapping[str, Template] = {
            name: one for name, one in settings.templates.items() if one.pool
        }
        self._filled: dict[str, AsyncPool] = {}
        self._beginning: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """Start to fill them; nobody waits for it. Called once, when the server starts."""
        for template in self._templates.values():
            self._beginning.add(asyncio.ensure_future(self._begun(template)))

    async def _begun(self, template: Template) -> None:
        """A wall that is not there yet is asked again: sandboxes start cold meanwhile."""
        pause = _FIRST_PAUSE
        while True:
            pool = AsyncPool(template.provider, size=template.pool, env_vars=dict(template.env))
            try:
                self._filled[template.name] = await pool.__aenter__()
                return
            except StockadeError as error:
                _log.warning("the pool of the template %s does not fill: %s", template.name, error)
            await asyncio.sleep(pause)
            pause = min(_LAST_PAUSE, 2 * pause)

    async def open(self, template: Template, owner: str) -> AsyncSession | None:
        """A session of the template as it is, ready or started cold; None where it has no pool.

        Raises what ``AsyncPool.open`` raises.
        """
        pool = self._filled.get(template.name)
        return None if pool is None else await pool.open(agent_id=owner)

    def figures(self) -> Iterator[tuple[str, int, int, int, int]]:
        """Of each: the template, its size, how many are ready, how many were handed out ready,
        and how many had to be started cold because none was."""
        for name, template in self._templates.items():
            pool = self._filled.get(name)
            if pool is None:
                yield name, template.pool, 0, 0, 0
            else:
                yield name, template.pool, pool.ready, pool.hits, pool.misses

    async def close(self) -> None:
        """End what waits in them, and have none begin. May be called again."""
        for task in self._beginning:
            task.cancel()
        if self._beginning:
            await asyncio.wait(self._beginning)
        self._beginning.clear()
        pools = list(self._filled.values())
        self._filled.clear()
        for pool in pools:
            with contextlib.suppress(StockadeError):
                await pool.close()
