"""A warm pool: started sessions, ready to be handed out (``stockade.Pool``)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from stockade.session._session import DEFAULT_AGENT, Session
from stockade.sessions._pool import MAX_AGE_SECONDS, WarmPool, check_size
from stockade.sessions._providers import provider as select

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Unpack

    from stockade.capabilities import Feature
    from stockade.config import ConfigOptions
    from stockade.selection._spec import PreferenceLike
    from stockade.sessions._providers import WallProvider
    from stockade.sessions._runtime import Runtime

__all__ = ["Pool"]


class Pool:
    """Keeps ``size`` sessions started; hands each out once, and starts another in its place.

        with stockade.Pool("gvisor:python:3.12-slim", size=4) as pool:
            with pool.open(agent_id="researcher") as session:
                session.run(["echo", "hi"])

    Safe from any thread. When it is empty, ``open`` starts a session cold.
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
        """``preference``, ``needs`` and ``config`` as for ``stockade.open``; starting begins at
        once, in the background. If there are several alternatives, the first session starts before
        this returns, so that all come from a wall that has started one (A7). A session that
        waited ``max_age_seconds`` is replaced unused. Raises what selecting the provider
        raises, and ConfigError."""
        check_size(size, max_age_seconds)
        chosen = select(preference, runtime=runtime, check_available=True, needs=needs, **config)
        self._pid = os.getpid()
        #: The sessions that wait; for the awaitable face, and for nobody else.
        self.warm = WarmPool(chosen, size, max_age_seconds)

    @property
    def runtime(self) -> Runtime:
        """The runtime whose sessions these are."""
        return self.warm.runtime

    @property
    def provider(self) -> WallProvider:
        """The provider that a session is opened with when none is ready."""
        return self.warm.provider

    @property
    def ready(self) -> int:
        """How many sessions wait to be handed out."""
        return self.warm.ready

    @property
    def hits(self) -> int:
        """Sessions that were handed out ready."""
        return self.warm.hits

    @property
    def misses(self) -> int:
        """Sessions that had to be started cold."""
        return self.warm.misses

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Wait until the pool is full; False when ``timeout`` seconds pass first."""
        return self.warm.wait_ready(timeout)

    def open(self, agent_id: str = DEFAULT_AGENT) -> Session:
        """A session of ``agent_id`` that nobody used before; the caller closes it.

        Policies are asked as for any session; where one changes the configuration, or
        none is ready, the session is started cold. Raises what ``stockade.open`` raises
        (CapacityError if the agent has all it may have), and SessionStateError when
        the pool is closed.
        """
        record = self.warm.offer(agent_id)
        if record is None:
            return Session(self.provider, self.provider.open_record(agent_id))
        capacity = self.runtime.capacity
        try:
            capacity.wait(capacity.ask(agent_id, permit=record.permit))
        except BaseException as error:
            self.warm.take_back(record, agent_id, error)
            raise
        self.warm.hand_over(record, agent_id)
        return Session(self.provider, record)

    def close(self) -> None:
        """End every session that still waits, and those being started; may be called again.

        Sessions that were handed out stay their callers'. Raises ForkedSessionError.
        """
        self.warm.close()

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._pid == os.getpid():  # in a forked child the block's end is the parent's, too
            self.close()
