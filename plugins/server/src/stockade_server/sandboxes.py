"""The sandboxes of a server: whose they are, how long they last, and their ends."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

import stockade
from stockade.aio import AsyncSession
from stockade.config import Limits
from stockade.errors import StockadeError
from stockade.results import SessionStatus
from stockade_server.code import Contexts
from stockade_server.errors import Refused, was_not_found
from stockade_server.filesystem import Filesystem
from stockade_server.process import Processes
from stockade_server.settings import Settings, Template

if TYPE_CHECKING:
    from stockade.config import ConfigOptions

__all__ = ["DEFAULT_SECONDS", "Sandbox", "Sandboxes"]

_log = logging.getLogger("stockade.server")

DEFAULT_SECONDS = 300  #: How long a sandbox lasts whose caller says nothing.
_LONGEST_SECONDS = 86_400.0  #: where the template states no lifetime
_GONE = (SessionStatus.DESTROYED, SessionStatus.FAILED, SessionStatus.DESTROYING)


@attrs.define(eq=False)
class Sandbox:
    """One session, as the protocol sees it."""

    session: AsyncSession = attrs.field(repr=False)
    limits: Limits  #: what it may use, whoever fixed it
    owner: str
    template: str
    metadata: Mapping[str, str]
    network: bool  #: whether anything is reached from inside
    access_token: str = attrs.field(repr=False)
    traffic_token: str = attrs.field(repr=False)
    started_at: float  #: Unix time
    ends_at: float  #: Unix time
    latest_end: float  #: past which it cannot be kept
    processes: Processes = attrs.field(repr=False)
    filesystem: Filesystem = attrs.field(repr=False)
    contexts: Contexts = attrs.field(repr=False)
    timer: asyncio.TimerHandle | None = None
    #: A form that is being read takes this machine's disk: so many of one sandbox at one time.
    forms: asyncio.Semaphore = attrs.field(factory=lambda: asyncio.Semaphore(2), repr=False)

    @property
    def sandbox_id(self) -> str:
        return self.session.session_id

    @property
    def state(self) -> str:
        return "paused" if self.session.paused else "running"

    @property
    def alive(self) -> bool:
        return self.session.status not in _GONE


class Sandboxes:
    """All of one server. For one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known: dict[str, Sandbox] = {}
        self._opening: Counter[str] = Counter()
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    # -- which one -----------------------------------------------------------------

    def reached(self, sandbox_id: str) -> Sandbox:
        """The running one of that id. Raises Refused, as the protocol's proxy answers."""
        sandbox = self._living(sandbox_id)
        if sandbox is None or sandbox.session.paused:
            raise was_not_found(sandbox_id)
        return sandbox

    def owned(self, sandbox_id: str, owner: str) -> Sandbox:
        """That of a caller's own. Another's is as unknown as one that never was."""
        sandbox = self._living(sandbox_id)
        if sandbox is None or sandbox.owner != owner:
            raise Refused(404, f"the sandbox {sandbox_id:.64} was not found")
        return sandbox

    def all_of(self, owner: str) -> list[Sandbox]:
        """A caller's own, the oldest first."""
        found = [one for one in list(self._known) if self._living(one) is not None]
        own = [self._known[one] for one in found if self._known[one].owner == owner]
        return sorted(own, key=lambda one: (one.started_at, one.sandbox_id))

    def _living(self, sandbox_id: str) -> Sandbox | None:
        sandbox = self._known.get(sandbox_id)
        if sandbox is not None and not sandbox.alive:  # it died, or its lifetime is over
            self._end_soon(sandbox)
            return None
        return sandbox

    # -- from its start to its end ----------------------------------------------------

    async def create(
        self,
        owner: str,
        template: Template,
        *,
        seconds: float,
        metadata: Mapping[str, str],
        env: Mapping[str, str],
        offline: bool,
    ) -> Sandbox:
        """Open a session behind the template's wall; ``offline`` takes its network away."""
        key = self._settings.keys.get(owner)
        most = self._settings.max_sandboxes
        if key is not None and key.max_sandboxes is not None:
            most = key.max_sandboxes
        if len(self.all_of(owner)) + self._opening[owner] >= most:
            raise Refused(429, f"this key has {most} sandboxes, which is its limit; end one first")
        self._opening[owner] += 1
        try:
            session = await self._opened(owner, template, env, offline)
            try:
                limits = await asyncio.to_thread(lambda: session.limits)
                return self._add(session, limits, owner, template, seconds, metadata)
            except BaseException:
                await session.close()
                raise
        finally:
            self._opening[owner] -= 1

    async def _opened(
        self, owner: str, template: Template, env: Mapping[str, str], offline: bool
    ) -> AsyncSession:
        options: ConfigOptions = {}
        variables = {**template.env, **env}
        if variables:
            options["env_vars"] = variables
        if offline:
            options["network_enabled"] = False
            options["network_allow"] = ()
        return await stockade.aio.open(template.provider, agent_id=owner, **options)

    def _add(
        self,
        session: AsyncSession,
        limits: Limits,
        owner: str,
        template: Template,
        seconds: float,
        metadata: Mapping[str, str],
    ) -> Sandbox:
        config = session.provider.config
        if self._closed:
            raise Refused(503, "the server is ending")
        now = time.time()
        sandbox = Sandbox(
            session=session,
            limits=limits,
            owner=owner,
            template=template.name,
            metadata=metadata,
            network=config.network_enabled or bool(config.network_allow),
            access_token=secrets.token_hex(32),
            traffic_token=secrets.token_hex(32),
            started_at=now,
            ends_at=now,
            latest_end=now + (config.lifetime_seconds or _LONGEST_SECONDS),
            processes=Processes(session, self._settings.max_commands),
            filesystem=Filesystem(session, config.working_dir),
            contexts=Contexts(session, config.working_dir),
        )
        self.last_until(sandbox, now + seconds)
        self._known[sandbox.sandbox_id] = sandbox
        return sandbox

    def last_until(self, sandbox: Sandbox, ends_at: float) -> None:
        """Set when it ends. Raises Refused past what the template allows."""
        if ends_at > sandbox.latest_end:
            left = max(0, int(sandbox.latest_end - time.time()))
            raise Refused(400, f"the template lets this sandbox last {left} seconds more, at most")
        if sandbox.timer is not None:
            sandbox.timer.cancel()
        sandbox.ends_at = ends_at
        loop = asyncio.get_running_loop()
        delay = max(0.0, ends_at - time.time())
        sandbox.timer = loop.call_later(delay, self._end_soon, sandbox)

    def _end_soon(self, sandbox: Sandbox) -> None:
        task = asyncio.ensure_future(self._ended(sandbox))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _ended(self, sandbox: Sandbox) -> None:
        try:
            await self.end(sandbox)
        except StockadeError as error:
            _log.error("the sandbox %s could not be ended: %s", sandbox.sandbox_id, error)

    async def end(self, sandbox: Sandbox) -> None:
        """End it with all that runs in it. Raises DestroyError; call it again then."""
        if sandbox.timer is not None:
            sandbox.timer.cancel()
        self._known.pop(sandbox.sandbox_id, None)
        try:
            await sandbox.session.close()
        except StockadeError:
            if sandbox.alive or sandbox.session.status is SessionStatus.FAILED:
                self._known[sandbox.sandbox_id] = sandbox
            raise

    async def close(self) -> None:
        """End all of them, and have none begin: the server ends. May be called again."""
        self._closed = True
        await asyncio.gather(*(self._ended(one) for one in list(self._known.values())))
        if self._ending:
            await asyncio.wait(set(self._ending))
