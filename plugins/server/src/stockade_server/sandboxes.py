"""The sandboxes of a server: whose they are, how long they last, and their ends."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any

import attrs

import stockade
from stockade import Snapshot
from stockade.aio import AsyncSession
from stockade.config import Limits, SandboxConfig
from stockade.errors import SandboxLostError, StockadeError
from stockade.results import SessionStatus
from stockade_server.code import Contexts
from stockade_server.errors import Refused, was_not_found
from stockade_server.filesystem import Filesystem
from stockade_server.journal import Journal
from stockade_server.network import Rules
from stockade_server.pools import Pools
from stockade_server.process import Processes
from stockade_server.settings import Settings, Template
from stockade_server.usage import Meter

if TYPE_CHECKING:
    from stockade.config import ConfigOptions

__all__ = ["DEFAULT_SECONDS", "Sandbox", "Sandboxes", "Wanted"]

_log = logging.getLogger("stockade.server")

DEFAULT_SECONDS = 300  #: How long a sandbox lasts whose caller says nothing.
_LONGEST_SECONDS = 86_400.0  #: where the template states no lifetime
_PAUSE_TRIES, _PAUSE_AGAIN = 4, 0.25  #: seconds between them
_GONE = (SessionStatus.DESTROYED, SessionStatus.FAILED, SessionStatus.DESTROYING)


@attrs.frozen(kw_only=True)
class Wanted:
    """What a caller asks for when a sandbox is made."""

    seconds: float  #: that it lasts
    metadata: Mapping[str, str] = attrs.field(factory=dict)
    env: Mapping[str, str] = attrs.field(factory=dict, repr=lambda env: f"<{len(env)}>")
    rules: Rules = Rules()
    pauses: bool = False  #: at its timeout, in place of ending
    resumes: bool = False  #: by itself, when somebody asks it for something
    snapshot: Snapshot | None = None  #: whose files it begins with

    @property
    def is_plain(self) -> bool:
        """Whether any sandbox of the template will do: variables are each command's."""
        limited = self.rules.offline or self.rules.hosts is not None
        return not limited and not self.pauses and self.snapshot is None


@attrs.define(eq=False)
class Sandbox:
    """One session, as the protocol sees it."""

    session: AsyncSession = attrs.field(repr=False)
    limits: Limits  #: what it may use, whoever fixed it
    owner: str
    template: Template = attrs.field(repr=False)
    wanted: Wanted = attrs.field(repr=False)
    network: bool  #: whether anything is reached from inside
    access_token: str = attrs.field(repr=False)
    traffic_token: str = attrs.field(repr=False)
    started_at: float  #: Unix time
    ends_at: float  #: Unix time
    latest_end: float  #: past which it cannot be kept
    processes: Processes = attrs.field(repr=False)
    filesystem: Filesystem = attrs.field(repr=False)
    contexts: Contexts = attrs.field(repr=False)
    meter: Meter = attrs.field(repr=False)
    journal: Journal = attrs.field(repr=False)
    timer: asyncio.TimerHandle | None = None
    #: One pause or resumption at a time.
    turn: asyncio.Lock = attrs.field(factory=asyncio.Lock, repr=False)
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
        self.pools = Pools(settings)
        self._known: dict[str, Sandbox] = {}
        self._opening: Counter[str] = Counter()
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the server is ending."""
        return self._closed

    # -- which one -----------------------------------------------------------------

    def found(self, sandbox_id: str) -> Sandbox:
        """The one of that id, paused or not. Raises Refused, as the protocol's proxy answers."""
        sandbox = self._living(sandbox_id)
        if sandbox is None:
            raise was_not_found(sandbox_id)
        return sandbox

    def running(self, sandbox_id: str) -> Sandbox:
        """The running one of that id. Raises Refused."""
        sandbox = self.found(sandbox_id)
        if sandbox.session.paused:
            raise was_not_found(sandbox_id)
        return sandbox

    async def woken(self, sandbox: Sandbox) -> Sandbox:
        """It, once it runs: resumed where its creator wants that. Raises Refused."""
        if not sandbox.session.paused:
            return sandbox
        if not sandbox.wanted.resumes:
            raise was_not_found(sandbox.sandbox_id)
        await self.resume(sandbox, sandbox.wanted.seconds)
        return sandbox

    def owned(self, sandbox_id: str, owner: str) -> Sandbox:
        """That of a caller's own. Another's is as unknown as one that never was."""
        sandbox = self._living(sandbox_id)
        if sandbox is None or sandbox.owner != owner:
            raise Refused(404, f"the sandbox {sandbox_id:.64} was not found")
        return sandbox

    def everybodys(self) -> list[Sandbox]:
        """All that live."""
        return [one for each in list(self._known) if (one := self._living(each)) is not None]

    def all_of(self, owner: str) -> list[Sandbox]:
        """A caller's own, the oldest first."""
        own = [one for one in self.everybodys() if one.owner == owner]
        return sorted(own, key=lambda one: (one.started_at, one.sandbox_id))

    def _living(self, sandbox_id: str) -> Sandbox | None:
        sandbox = self._known.get(sandbox_id)
        if sandbox is not None and not sandbox.alive:  # it died, or its lifetime is over
            self._end_soon(sandbox)
            return None
        return sandbox

    # -- from its start to its end ----------------------------------------------------

    async def create(self, owner: str, template: Template, wanted: Wanted) -> Sandbox:
        """Open a session behind the template's wall."""
        key = self._settings.keys.get(owner)
        most = self._settings.max_sandboxes
        if key is not None and key.max_sandboxes is not None:
            most = key.max_sandboxes
        if len(self.all_of(owner)) + self._opening[owner] >= most:
            raise Refused(429, f"this key has {most} sandboxes, which is its limit; end one first")
        self._opening[owner] += 1
        try:
            session = await self._opened(owner, template, wanted)
            try:
                limits = await asyncio.to_thread(lambda: session.limits)
                return self._add(session, limits, owner, template, wanted)
            except BaseException:
                await session.close()
                raise
        finally:
            self._opening[owner] -= 1

    async def _opened(self, owner: str, template: Template, wanted: Wanted) -> AsyncSession:
        SandboxConfig(env_vars=dict(wanted.env))  # refused now, and not by each command
        if wanted.is_plain:
            session = await self.pools.open(template, owner)
            if session is not None:
                return session
        options: ConfigOptions = {"env_vars": dict(template.env)}
        hosts = wanted.rules.hosts
        if hosts is not None:
            await asyncio.to_thread(_check_hosts, template, hosts)
        if hosts is not None or wanted.rules.offline:
            options["network_enabled"] = False
            options["network_allow"] = hosts or ()
        return await stockade.aio.open(
            template.provider,
            agent_id=owner,
            snapshot=wanted.snapshot,
            needs=("pause",) if wanted.pauses else (),
            **options,
        )

    def _add(
        self,
        session: AsyncSession,
        limits: Limits,
        owner: str,
        template: Template,
        wanted: Wanted,
    ) -> Sandbox:
        config = session.provider.config
        if self._closed:
            raise Refused(503, "the server is ending")
        now, journal = time.time(), Journal()
        journal.note(f"sandbox made of the template {template.name}")
        sandbox = Sandbox(
            session=session,
            limits=limits,
            owner=owner,
            template=template,
            wanted=wanted,
            network=config.network_enabled or bool(config.network_allow),
            access_token=secrets.token_hex(32),
            traffic_token=secrets.token_hex(32),
            started_at=now,
            ends_at=now,
            latest_end=now + (config.lifetime_seconds or _LONGEST_SECONDS),
            processes=Processes(session, wanted.env, self._settings.max_commands, journal),
            filesystem=Filesystem(session, config.working_dir),
            contexts=Contexts(session, wanted.env, config.working_dir),
            meter=Meter(session, limits, now),
            journal=journal,
        )
        self.last_until(sandbox, now + wanted.seconds)
        self._known[sandbox.sandbox_id] = sandbox
        return sandbox

    # -- pausing -------------------------------------------------------------------------

    async def pause(self, sandbox: Sandbox) -> None:
        """Stop its processes; they stay in memory. Raises Refused where it is paused."""
        async with sandbox.turn:
            if sandbox.session.paused:
                raise Refused(409, f"the sandbox {sandbox.sandbox_id:.64} is paused already")
            await _freeze(sandbox)
            sandbox.journal.note("sandbox paused")
            if sandbox.wanted.pauses:  # from then on nothing but its longest time ends it
                self.last_until(sandbox, sandbox.latest_end)

    async def resume(self, sandbox: Sandbox, seconds: float) -> bool:
        """Let it go on, for so many seconds; whether it was paused."""
        async with sandbox.turn:
            if not sandbox.session.paused:
                return False
            await sandbox.session.resume()
            sandbox.journal.note("sandbox resumed")
            self.last_until(sandbox, min(time.time() + seconds, sandbox.latest_end))
            return True

    def check_end(self, sandbox: Sandbox, ends_at: float) -> None:
        """Raises Refused past what the template allows."""
        if ends_at > sandbox.latest_end:
            left = max(0, int(sandbox.latest_end - time.time()))
            raise Refused(400, f"the template lets this sandbox last {left} seconds more, at most")

    def last_until(self, sandbox: Sandbox, ends_at: float) -> None:
        """Set when it ends. Raises Refused past what the template allows."""
        self.check_end(sandbox, ends_at)
        if sandbox.timer is not None:
            sandbox.timer.cancel()
        sandbox.ends_at = ends_at
        loop = asyncio.get_running_loop()
        delay = max(0.0, ends_at - time.time())
        sandbox.timer = loop.call_later(delay, self._time_out, sandbox)

    def _time_out(self, sandbox: Sandbox) -> None:
        if sandbox.wanted.pauses and not sandbox.session.paused and sandbox.alive:
            self._soon(self._paused(sandbox))
        else:
            self._end_soon(sandbox)

    async def _paused(self, sandbox: Sandbox) -> None:
        """At its timeout; where that fails it is ended."""
        try:
            await self.pause(sandbox)
        except (StockadeError, Refused) as error:
            if sandbox.alive and not sandbox.session.paused:
                _log.error("the sandbox %s could not be paused: %s", sandbox.sandbox_id, error)
                await self._ended(sandbox)

    def _end_soon(self, sandbox: Sandbox) -> None:
        self._soon(self._ended(sandbox))

    def _soon(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
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
        await self.pools.close()
        await asyncio.gather(*(self._ended(one) for one in list(self._known.values())))
        if self._ending:
            await asyncio.wait(set(self._ending))


async def _freeze(sandbox: Sandbox) -> None:
    """A busy machine's engine may fail at it, and succeed the next time."""
    for _ in range(_PAUSE_TRIES - 1):
        try:
            await sandbox.session.pause()
            return
        except SandboxLostError as error:
            if not sandbox.alive:
                raise
            _log.warning("the sandbox %s is not paused yet: %s", sandbox.sandbox_id, error)
        await asyncio.sleep(_PAUSE_AGAIN)
    await sandbox.session.pause()


def _check_hosts(template: Template, hosts: tuple[str, ...]) -> None:
    """Raises Refused for hosts that the template itself does not let a sandbox reach."""
    strings = (template.provider,) if isinstance(template.provider, str) else template.provider
    for string in strings:
        config = stockade.provider(string).config
        if not config.network_enabled and not set(hosts) <= set(config.network_allow):
            raise Refused(
                403,
                f"the template {template.name} does not let sandboxes reach all of these hosts, "
                "and a caller cannot give them more",
            )
