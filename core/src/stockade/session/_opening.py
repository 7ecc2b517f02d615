"""Opening a session (``stockade.open``), from a snapshot where one is given."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from stockade.capabilities import Feature
from stockade.session._session import DEFAULT_AGENT, Session
from stockade.sessions._providers import provider as select

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from stockade.config import ConfigOptions
    from stockade.files._snapshots import Snapshot
    from stockade.selection._spec import PreferenceLike
    from stockade.sessions._runtime import Runtime

__all__ = ["needed", "open_session", "restored"]


def open_session(
    preference: PreferenceLike | None = None,
    *,
    agent_id: str = DEFAULT_AGENT,
    runtime: Runtime | None = None,
    snapshot: Snapshot | None = None,
    needs: Iterable[Feature | str] = (),
    **config: Unpack[ConfigOptions],
) -> Session:
    """Open a session behind the wall that ``preference`` names.

    ``preference`` is ``name[:target][?option=value&…]``, or several of these in the order in
    which they are tried, as a sequence or separated by ``|`` (A7); None is STOCKADE_PROVIDER,
    else ``local``. ``snapshot`` is one to start from (G1); ``needs`` are features that the
    wall must have, such as "terminal"; ``config`` sets fields of :class:`SandboxConfig` and
    overrides the string's options. ``session.provider`` says which wall was taken. Raises
    ProviderStringError, ProviderNotFoundError, PluginError, ConfigError, UnsupportedError,
    ProviderUnavailableError, PolicyRefusedError, CapacityError, SandboxStartError.

        with stockade.open("gvisor:python:3.12-slim | local?memory_mb=256") as session:
            print(session.run(["echo", "hi"]).stdout)
    """
    chosen = select(
        preference,
        runtime=runtime,
        check_available=True,
        needs=needed(needs, snapshot),
        **config,
    )
    return restored(Session(chosen, chosen.open_record(agent_id)), snapshot)


def needed(needs: Iterable[Feature | str], snapshot: Snapshot | None) -> tuple[Feature | str, ...]:
    """What the wall must have, a snapshot to start from counted."""
    return (*needs, *(() if snapshot is None else (Feature.SNAPSHOT,)))


def restored(session: Session, snapshot: Snapshot | None) -> Session:
    """The session with a snapshot's files in it; closed when that fails."""
    if snapshot is not None:
        try:
            session._restore(snapshot)
        except BaseException:
            session.close()
            raise
    return session
