"""A warm pool whose calls are awaited."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING

from stockade.aio.calls import Call, in_thread
from stockade.aio.opening import opened, start, take_permit
from stockade.aio.session import AsyncSession
from stockade.errors import SessionStateError
from stockade.session import DEFAULT_AGENT, Session
from stockade.session._pool import Pool
from stockade.sessions._pool import MAX_AGE_SECONDS

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from stockade.capabilities import Feature
    from stockade.config import ConfigOptions
    from stockade.selection._spec import PreferenceLike
    from stockade.sessions._providers import WallProvider
    from stockade.sessions._registry import SessionRecord
    from stockade.sessions._runtime import Runtime

__all__ = ["AsyncPool"]


class AsyncPool:
    """See :class:`stockade.Pool`; it begins to fill where its block is entered.

    async with stockade.aio.AsyncPool("landlock", size=4) as pool:
        async with pool.open(agent_id="researcher") as session:
            await session.run(["echo", "hi"])
    """

    def __init__(
        self,
        preference: PreferenceLike | None = None,
        *,
        size: int = 2,
        runtime: Runtime | None = None,
        max_age_seconds: float = MAX_AGE_SECONDS,
        needs: Iterable[Feature | str] = (),
        **config: Unpack[ConfigOptions],
    ) -> None:
        self._runtime = runtime
        self._make = functools.partial(
            Pool,
            preference,
            size=size,
            max_age_seconds=max_age_seconds,
            needs=needs,
            **config,
        )
        self._pool: Pool | None = None

    @property
    def sync(self) -> Pool:
        """The same pool, with blocking calls; there once the pool was entered."""
        if self._pool is None:
            raise SessionStateError("the pool is used inside of its `async with` block.")
        return self._pool

    @property
    def runtime(self) -> Runtime:
        """The runtime whose sessions these are."""
        return self.sync.runtime

    @property
    def provider(self) -> WallProvider:
        """The provider that a session is opened with when none is ready."""
        return self.sync.provider

    @property
    def ready(self) -> int:
        """How many sessions wait to be handed out."""
        return self.sync.ready

    @property
    def hits(self) -> int:
        """Sessions that were handed out ready."""
        return self.sync.hits

    @property
    def misses(self) -> int:
        """Sessions that had to be started cold."""
        return self.sync.misses

    async def wait_ready(self, timeout: float | None = None) -> bool:
        """Wait until the pool is full; False when ``timeout`` seconds pass first."""
        return await in_thread(self.runtime, functools.partial(self.sync.wait_ready, timeout))

    def open(self, agent_id: str = DEFAULT_AGENT) -> Call[AsyncSession]:
        """As ``Pool.open``: await it, or enter it; a session that comes after a cancelled
        await is closed."""
        return Call(self._open(agent_id))

    async def _open(self, agent_id: str) -> AsyncSession:
        pool = self.sync
        runtime = pool.runtime

        def give_back(record: SessionRecord | None) -> None:
            if record is not None:
                pool.warm.take_back(record, agent_id, asyncio.CancelledError())

        offer = functools.partial(pool.warm.offer, agent_id)
        record = await in_thread(runtime, offer, runtime.preparing, undo=give_back)
        if record is None:
            return await start(pool.provider, agent_id)
        try:
            await take_permit(runtime, agent_id, record.permit)
        except BaseException as error:
            back = functools.partial(pool.warm.take_back, record, agent_id, error)
            await in_thread(runtime, back)
            raise

        def hand_over() -> Session:
            pool.warm.hand_over(record, agent_id)
            return Session(pool.provider, record)

        return await opened(runtime, hand_over)

    async def close(self) -> None:
        """End every session that still waits, and those being started; may be called again."""
        await in_thread(self.runtime, self.sync.close)

    async def __aenter__(self) -> AsyncPool:
        from stockade.sessions._runtime import default_runtime

        runtime = self._runtime or default_runtime()
        make = functools.partial(self._make, runtime=runtime)
        self._pool = await in_thread(runtime, make, undo=Pool.close)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
