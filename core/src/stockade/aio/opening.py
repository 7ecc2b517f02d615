"""Opening sessions, and attaching to them, with the waits awaited."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from stockade.aio.calls import Call, in_thread
from stockade.aio.session import AsyncSession
from stockade.errors import CapacityError
from stockade.selection._alternatives import PASSED_OVER
from stockade.session import DEFAULT_AGENT, Session
from stockade.session._attaching import attach as attach_session
from stockade.session._opening import needed, restored
from stockade.sessions._providers import provider as select

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from stockade.capabilities import Feature
    from stockade.config import ConfigOptions
    from stockade.files._snapshots import Snapshot
    from stockade.selection._spec import PreferenceLike
    from stockade.sessions._capacity import Permit
    from stockade.sessions._providers import WallProvider
    from stockade.sessions._runtime import Runtime

__all__ = ["attach", "open", "opened", "start", "take_permit"]


def open(
    preference: PreferenceLike | None = None,
    *,
    agent_id: str = DEFAULT_AGENT,
    runtime: Runtime | None = None,
    snapshot: Snapshot | None = None,
    needs: Iterable[Feature | str] = (),
    **config: Unpack[ConfigOptions],
) -> Call[AsyncSession]:
    """As :func:`stockade.open`: await it, or enter it (``async with``), which closes it.

    Where it waits for its turn it takes no thread. A session that comes up after a
    cancelled await is closed.
    """
    call = functools.partial(
        select, preference, check_available=True, needs=needed(needs, snapshot), **config
    )
    return Call(_open(call, agent_id, runtime, snapshot))


async def _open(
    choose: Callable[..., WallProvider],
    agent_id: str,
    runtime: Runtime | None,
    snapshot: Snapshot | None,
) -> AsyncSession:
    from stockade.sessions._runtime import default_runtime

    runtime = runtime or default_runtime()
    choose = functools.partial(choose, runtime=runtime)
    chosen = await in_thread(runtime, choose, runtime.preparing)
    while True:
        try:
            return await start(chosen, agent_id, snapshot)
        except PASSED_OVER as error:  # one of several, whose sandbox did not start (A7)
            next_one = functools.partial(chosen.go_on, error)
            if not await in_thread(runtime, next_one, runtime.preparing):
                raise


def attach(
    session_id: str,
    *,
    agent_id: str = DEFAULT_AGENT,
    runtime: Runtime | None = None,
    env_vars: Mapping[str, str] | None = None,
) -> Call[AsyncSession]:
    """As :func:`stockade.attach`; a session that comes after a cancelled await is let go of."""
    return Call(_attach(session_id, agent_id, runtime, env_vars))


async def _attach(
    session_id: str,
    agent_id: str,
    runtime: Runtime | None,
    env_vars: Mapping[str, str] | None,
) -> AsyncSession:
    from stockade.sessions._runtime import default_runtime

    runtime = runtime or default_runtime()
    held = {record.session_id for record in runtime.registry.records()}
    call = functools.partial(
        attach_session, session_id, agent_id=agent_id, runtime=runtime, env_vars=env_vars
    )
    let_go = None if session_id in held else Session.detach
    return AsyncSession(await in_thread(runtime, call, undo=let_go))


async def start(
    chosen: WallProvider, agent_id: str, snapshot: Snapshot | None = None
) -> AsyncSession:
    """What ``Runtime.create`` does, the wait in line awaited; called by pools, too."""
    runtime, name, wall = chosen.runtime, chosen.name, chosen.wall
    prepare = functools.partial(runtime.prepare, name, wall, agent_id, chosen.config)
    config = await in_thread(runtime, prepare, runtime.preparing)
    try:
        permit = await take_permit(runtime, agent_id)
    except CapacityError as error:
        runtime.reporter.refused(name, agent_id, error)
        raise

    def begin() -> Session:
        record = runtime.start(name, wall, agent_id, config, permit)
        return restored(Session(chosen, record), snapshot)

    return await opened(runtime, begin)


async def take_permit(runtime: Runtime, agent_id: str, permit: Permit | None = None) -> Permit:
    """As ``Capacity.take``; cancelling the await leaves the line."""
    capacity = runtime.capacity
    waiter = capacity.ask(agent_id, permit=permit)
    if waiter.future.done():
        return waiter.future.result()
    future = asyncio.wrap_future(waiter.future)
    try:
        done, _ = await asyncio.wait([future], timeout=capacity.patience)
    except asyncio.CancelledError:
        capacity.abandon(waiter)
        raise
    return future.result() if done else capacity.give_up(waiter)


async def opened(runtime: Runtime, call: Callable[[], Session]) -> AsyncSession:
    """The session that ``call`` gives; closed when nobody awaits it any more."""
    return AsyncSession(await in_thread(runtime, call, undo=Session.close))
