"""The client by which the SDK makes, resumes and deletes sandboxes."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from agents.sandbox import Manifest, SnapshotSpec, resolve_snapshot
from agents.sandbox.session import (
    BaseSandboxClient,
    Dependencies,
    Instrumentation,
    SandboxSession,
    SandboxSessionState,
)
from agents.sandbox.snapshot import SnapshotBase

import stockade
from stockade.aio import AsyncSession
from stockade.errors import ConfigError, SandboxLostError, SessionNotFoundError
from stockade_openai_agents.opening import AGENT, opened
from stockade_openai_agents.options import (
    StockadeSandboxClientOptions,
    StockadeSandboxSessionState,
)
from stockade_openai_agents.session import StockadeSandboxSession

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from stockade.config import ConfigOptions

__all__ = ["StockadeSandboxClient"]


class StockadeSandboxClient(BaseSandboxClient[StockadeSandboxClientOptions | None]):
    """Sandboxes behind a wall that its owner chose, for ``SandboxRunConfig(client=…)``."""

    backend_id = "stockade"
    supports_default_options = True

    def __init__(
        self,
        provider: str | None = None,
        *,
        instrumentation: Instrumentation | None = None,
        dependencies: Dependencies | None = None,
        **config: Unpack[ConfigOptions],
    ) -> None:
        """``provider`` and ``config`` are as ``stockade.open`` takes them; what the manifest
        says (its root, paths of the host that it grants) stands over them."""
        self._provider = provider
        self._config: dict[str, Any] = dict(config)
        self._instrumentation = instrumentation or Instrumentation()
        self._dependencies = dependencies

    async def create(
        self,
        *,
        snapshot: SnapshotSpec | SnapshotBase | None = None,
        manifest: Manifest | None = None,
        options: StockadeSandboxClientOptions | None = None,
    ) -> SandboxSession:
        """Open a sandbox. Raises StockadeError, with provider strings that can serve where the
        named one cannot; ConfigError for what of the manifest is not held."""
        asked = options or StockadeSandboxClientOptions()
        plan = self._validate_manifest_for_create(manifest or Manifest())
        wall = asked.provider or self._provider
        session = await opened(wall, self._config, plan, asked.exposed_ports)
        session_id = uuid.uuid4()
        state = StockadeSandboxSessionState(
            session_id=session_id,
            manifest=plan,
            snapshot=resolve_snapshot(snapshot, str(session_id)),
            exposed_ports=asked.exposed_ports,
            provider=wall,
        )
        return self._wrapped(state, session)

    async def resume(self, state: SandboxSessionState) -> SandboxSession:
        """Go on in the sandbox of that state, or in a new one with the files of its snapshot.

        A new one is opened behind the client's wall alone. Raises ConfigError where the state
        was made behind another one that is gone, TypeError for another client's state, and
        StockadeError.
        """
        if not isinstance(state, StockadeSandboxSessionState):
            raise TypeError(f"a state of type stockade is wanted, and {state.type!r} came.")
        state.assert_path_grants_rebound()
        found = await _attached(state)
        if found is not None:
            return self._wrapped(state, found, preserved=True)
        if state.provider != self._provider:
            raise ConfigError(
                f"sandbox {state.sandbox_id} is gone, it was opened as {state.provider!r}, and "
                f"this client opens {self._provider!r}: give StockadeSandboxClient the wall that "
                "it is to go on behind."
            )
        state.workspace_root_ready = False
        session = await opened(self._provider, self._config, state.manifest, state.exposed_ports)
        return self._wrapped(state, session)

    async def delete(self, session: SandboxSession) -> SandboxSession:
        """End its sandbox, with what runs in it; may be called again. Raises DestroyError."""
        inner = session._inner
        if not isinstance(inner, StockadeSandboxSession):
            raise TypeError("StockadeSandboxClient.delete wants a session of its own.")
        await inner.end()
        found = await _attached(inner.state)
        if found is not None:
            await found.close()
        return session

    def deserialize_session_state(self, payload: dict[str, object]) -> SandboxSessionState:
        """The state that ``serialize_session_state`` wrote."""
        return self._deserialize_session_state_payload(payload, StockadeSandboxSessionState)

    def _wrapped(
        self, state: StockadeSandboxSessionState, session: AsyncSession, preserved: bool = False
    ) -> SandboxSession:
        state.sandbox_id = session.session_id
        state.durable = session.provider.config.durable
        inner = StockadeSandboxSession(state, session)
        inner._set_start_state_preserved(preserved)
        return self._wrap_session(inner, instrumentation=self._instrumentation)


async def _attached(state: StockadeSandboxSessionState) -> AsyncSession | None:
    """The sandbox of a state, where another process reaches it and it is still there."""
    if not state.durable:
        return None
    try:
        return await stockade.aio.attach(state.sandbox_id, agent_id=AGENT)
    except (SessionNotFoundError, SandboxLostError):
        return None
