"""Durable sandboxes: what is written while one is made, and how a restarted server finds it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping

import stockade
from stockade.aio import AsyncSession
from stockade.errors import (
    SandboxLostError,
    SessionNotFoundError,
    SessionStateError,
    StockadeError,
    UnsupportedError,
)
from stockade.plugin import Event, EventKind, hookimpl
from stockade_server.errors import Refused
from stockade_server.settings import Template
from stockade_server.state import Record, State

__all__ = ["Finder", "Intents", "may_be_durable"]

_log = logging.getLogger("stockade.server")

_FIRST_PAUSE, _LAST_PAUSE = 1.0, 30.0  #: seconds until one that was not reached is tried again
_PATIENCE = 10.0  #: seconds that the start waits for what is not reached at once
#: There is no such sandbox any more.
_GONE = (SessionNotFoundError, SessionStateError, SandboxLostError, UnsupportedError)


def may_be_durable(template: Template) -> bool:
    """Whether a provider string of the template says so. Raises what ``provider`` raises."""
    strings = (template.provider,) if isinstance(template.provider, str) else template.provider
    return any(map(_is_durable, strings))


@functools.cache
def _is_durable(string: str) -> bool:
    """Kept, since each creation asks: for ``local`` the machine may be looked at for it."""
    return stockade.provider(string).config.durable


class Intents:
    """Writes down that a sandbox is being made before there is one: a server that is killed
    in between leaves none that nobody looks for."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._note: contextvars.ContextVar[Callable[[str], None] | None] = contextvars.ContextVar(
            "stockade_server_note", default=None
        )
        if state.keeps:
            stockade.default_runtime().hooks.add(self)

    @hookimpl
    def stockade_event(self, event: Event) -> None:
        """Core's observers are called where a session is opened, in its opener's context."""
        note, session_id = self._note.get(), event.session_id
        if session_id is None:
            return
        if event.kind is EventKind.SESSION_DESTROYED:
            self._state.remove(session_id)
        elif note is not None and event.kind is EventKind.SESSION_CREATING:
            note(session_id)
        elif note is not None and event.kind is EventKind.SESSION_FAILED:  # one alternative, say
            self._state.remove(session_id)

    @contextlib.contextmanager
    def noted(self, record: Callable[[str], Record]) -> Iterator[None]:
        """Whatever session is opened inside is noted as the record of its id says."""
        token = self._note.set(lambda session_id: self._state.write(record(session_id)))
        try:
            yield
        finally:
            self._note.reset(token)

    def close(self) -> None:
        """Observe no more."""
        if self._state.keeps:
            stockade.default_runtime().hooks.remove(self)


class Finder:
    """Finds the sandboxes of the server before. For one event loop."""

    def __init__(
        self,
        state: State,
        templates: Mapping[str, Template],
        found: Callable[[AsyncSession, Record], Awaitable[None]],
    ) -> None:
        """``found`` takes one that was reached."""
        self._state = state
        self._templates = templates
        self._found = found
        self._looking: set[asyncio.Task[None]] = set()

    async def look(self, records: list[Record]) -> None:
        """Reach them; what is not reached at once is looked for in the background."""
        self._looking = {asyncio.ensure_future(self._sought(one)) for one in records}
        if self._looking:
            await asyncio.wait(self._looking, timeout=_PATIENCE)

    async def _sought(self, record: Record) -> None:
        """Until it is reached, or is gone, or its time is over."""
        pause, env = _FIRST_PAUSE, dict(self._templates[record.template].env)
        while True:
            try:
                session = await stockade.aio.attach(
                    record.sandbox_id, agent_id=record.owner, env_vars=env
                )
                await self._reached(session, record)
                return
            except _GONE as error:
                _log.warning("the sandbox %s is gone: %s", record.sandbox_id, error)
                self._state.remove(record.sandbox_id)
                return
            except (StockadeError, Refused) as error:
                _log.warning("the sandbox %s is not reached yet: %s", record.sandbox_id, error)
            if time.time() > record.latest_end:  # whatever is left of it, `gc` finds
                self._state.remove(record.sandbox_id)
                return
            await asyncio.sleep(pause)
            pause = min(_LAST_PAUSE, 2 * pause)

    async def _reached(self, session: AsyncSession, record: Record) -> None:
        if record.handed:
            await self._found(session, record)
        else:  # the server died while it made it, and nobody knows its id
            await session.close()
            self._state.remove(record.sandbox_id)

    async def close(self) -> None:
        """Look no more; what was not reached is the next server's."""
        for task in self._looking:
            task.cancel()
        if self._looking:
            await asyncio.wait(self._looking)
