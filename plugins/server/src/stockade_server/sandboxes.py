"""The sandboxes of a server: whose they are, how long they last, and their ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import stockade
from stockade.aio import AsyncSession
from stockade.config import SandboxConfig
from stockade.errors import SandboxLostError, StockadeError
from stockade.results import SessionStatus
from stockade_server.code import Contexts
from stockade_server.errors import Refused, was_not_found
from stockade_server.filesystem import Filesystem
from stockade_server.journal import Journal
from stockade_server.keeping import Finder, Intents, may_be_durable
from stockade_server.pools import Pools
from stockade_server.process import Processes
from stockade_server.sandbox import Sandbox
from stockade_server.settings import Settings, Template
from stockade_server.state import Record, State
from stockade_server.usage import Meter
from stockade_server.wanted import Wanted

if TYPE_CHECKING:
    from stockade.config import ConfigOptions

__all__ = ["INSECURE_OWNER", "Sandboxes"]

_log = logging.getLogger("stockade.server")

INSECURE_OWNER = "insecure"  #: the agent id of everybody where no key is needed
_LONGEST_SECONDS = 86_400.0  #: where the template states no lifetime
#: At the server's end: an engine that is to remove hundreds at once fails at some.
_ENDS_AT_ONCE, _END_TRIES = 8, 2
_PAUSE_TRIES, _PAUSE_AGAIN = 4, 0.25  #: seconds between them


class Sandboxes:
    """All of one server. For one event loop."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError where the state cannot be kept."""
        self._settings = settings
        self._state = State(settings.state)
        self._intents = Intents(self._state)
        self._finder = Finder(self._state, settings.templates, self._found)
        self.pools = Pools(settings)
        self._known: dict[str, Sandbox] = {}
        self._opening: Counter[str] = Counter()
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the server is ending."""
        return self._closed

    # -- what was before -------------------------------------------------------------

    async def begin(self) -> None:
        """Find the durable ones of the server before, and start to fill the pools. Called once,
        before anybody is answered."""
        self.pools.begin()
        known = []
        for record in await asyncio.to_thread(self._state.records):
            if self._knows(record):
                known.append(record)
            else:
                _log.warning(
                    "the sandbox %s is left alone: its key %s or its template %s is not served",
                    *(record.sandbox_id, record.owner, record.template),
                )
        await self._finder.look(known)

    def _knows(self, record: Record) -> bool:
        settings = self._settings
        owners = {INSECURE_OWNER} if settings.insecure else set(settings.keys)
        return record.owner in owners and record.template in settings.templates

    async def _found(self, session: AsyncSession, record: Record) -> None:
        sandbox = await self._made(session, record)
        sandbox.journal.note("the server was started again")
        self.last_until(sandbox, record.ends_at)
        self._known[sandbox.sandbox_id] = sandbox

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
                return await self._add(session, owner, template, wanted)
            except BaseException:
                await session.close()
                self._state.remove(session.session_id)
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
        opening = stockade.aio.open(
            template.provider,
            agent_id=owner,
            snapshot=wanted.snapshot,
            needs=("pause",) if wanted.pauses else (),
            **options,
        )
        if not self._state.keeps or not await asyncio.to_thread(may_be_durable, template):
            return await opening
        with self._intents.noted(lambda one: _intended(one, owner, template, wanted, handed=False)):
            return await opening

    async def _add(
        self, session: AsyncSession, owner: str, template: Template, wanted: Wanted
    ) -> Sandbox:
        if self._closed:
            raise Refused(503, "the server is ending")
        lifetime = session.provider.config.lifetime_seconds or _LONGEST_SECONDS
        record = _intended(session.session_id, owner, template, wanted, lifetime)
        sandbox = await self._made(session, record)
        sandbox.journal.note(f"sandbox made of the template {template.name}")
        self.last_until(sandbox, record.ends_at)
        self._known[sandbox.sandbox_id] = sandbox
        return sandbox

    async def _made(self, session: AsyncSession, record: Record) -> Sandbox:
        config, journal = session.provider.config, Journal()
        limits = record.limits  # of one that is paused its wall says nothing
        if limits is None:
            limits = await asyncio.to_thread(lambda: session.limits)
        env, most = record.wanted.env, self._settings.max_commands
        template = self._settings.templates[record.template]
        return Sandbox(
            session=session,
            limits=limits,
            owner=record.owner,
            template=template,
            wanted=record.wanted,
            network=config.network_enabled or bool(config.network_allow),
            access_token=self._state.token("access", session.session_id),
            traffic_token=self._state.token("traffic", session.session_id),
            started_at=record.started_at,
            ends_at=record.started_at,
            latest_end=record.latest_end,
            processes=Processes(session, env, most, journal),
            filesystem=Filesystem(session, config.working_dir),
            contexts=Contexts(session, env, config.working_dir),
            meter=Meter(session, limits, record.started_at),
            journal=journal,
        )

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
        if sandbox.durable:
            self._state.write(sandbox.record(ends_at))
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
        self._state.remove(sandbox.sandbox_id)

    async def close(self) -> None:
        """The server ends: all of them end but the durable ones, which stay, and none begins.
        May be called again."""
        first, self._closed = not self._closed, True
        await self._finder.close()
        await self.pools.close()
        gate = asyncio.Semaphore(_ENDS_AT_ONCE)

        async def left(sandbox: Sandbox) -> None:
            async with gate:
                await self._left(sandbox)

        for _ in range(_END_TRIES):  # what could not be ended is known still
            await asyncio.gather(*(left(one) for one in list(self._known.values())))
        if self._ending:
            await asyncio.wait(set(self._ending))
        if first:
            self._intents.close()
            self._state.close()

    async def _left(self, sandbox: Sandbox) -> None:
        """Let go of a durable one; end another."""
        if not sandbox.durable or not self._state.keeps:
            await self._ended(sandbox)
            return
        if sandbox.timer is not None:
            sandbox.timer.cancel()
        self._known.pop(sandbox.sandbox_id, None)
        try:
            await sandbox.session.detach()
        except StockadeError as error:
            _log.error("the sandbox %s was not let go of: %s", sandbox.sandbox_id, error)


def _intended(
    sandbox_id: str,
    owner: str,
    template: Template,
    wanted: Wanted,
    lifetime: float = _LONGEST_SECONDS,
    *,
    handed: bool = True,
) -> Record:
    now = time.time()
    return Record(
        sandbox_id=sandbox_id,
        owner=owner,
        template=template.name,
        wanted=wanted,
        started_at=now,
        ends_at=now + wanted.seconds,
        latest_end=now + lifetime,
        handed=handed,
    )


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
