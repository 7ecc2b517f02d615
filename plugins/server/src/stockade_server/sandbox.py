"""One sandbox, as the protocol sees it."""

from __future__ import annotations

import asyncio

import attrs

from stockade.aio import AsyncSession
from stockade.config import Limits
from stockade.results import SessionStatus
from stockade_server.code import Contexts
from stockade_server.filesystem import Filesystem
from stockade_server.journal import Journal
from stockade_server.process import Processes
from stockade_server.settings import Template
from stockade_server.state import Record
from stockade_server.usage import Meter
from stockade_server.wanted import Wanted

__all__ = ["Sandbox"]

_GONE = (SessionStatus.DESTROYED, SessionStatus.FAILED, SessionStatus.DESTROYING)


@attrs.define(eq=False)
class Sandbox:
    """A session with all that the server keeps of it."""

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

    @property
    def durable(self) -> bool:
        """Whether it outlives the server."""
        return self.session.provider.config.durable

    def record(self, ends_at: float) -> Record:
        """What is kept of it on disk."""
        return Record(
            sandbox_id=self.sandbox_id,
            owner=self.owner,
            template=self.template.name,
            wanted=self.wanted,
            started_at=self.started_at,
            ends_at=ends_at,
            latest_end=self.latest_end,
            limits=self.limits,
        )
