"""Freezing a session's sandbox and letting it go on (G2)."""

from __future__ import annotations

from collections.abc import Callable

from stockade.capabilities import Feature
from stockade.errors import SessionNotFoundError, StockadeError, WallError
from stockade.sessions import _ending
from stockade.sessions._registry import SessionRecord
from stockade.system.threads import Workers, bounded
from stockade.values.shown import named
from stockade.wall import Sandbox, Wall

__all__ = ["pause", "resume"]


def pause(workers: Workers, wall: Wall, record: SessionRecord) -> None:
    """Freeze everything in it; nothing happens if it is paused already."""
    wall.capabilities.require(Feature.PAUSE, record.provider, "end the session instead.")
    with record.pausing:
        if record.paused:
            return
        _freeze(workers, record, lambda sandbox: sandbox.pause())
        record.set_paused(True)


def resume(workers: Workers, record: SessionRecord) -> None:
    """Thaw it; nothing happens if it is not paused."""
    with record.pausing:
        if record.paused:
            _freeze(workers, record, lambda sandbox: sandbox.resume())
            record.set_paused(False)


def _freeze(workers: Workers, record: SessionRecord, act: Callable[[Sandbox], None]) -> None:
    sandbox = record.sandbox
    if sandbox is None:
        raise SessionNotFoundError(record.session_id)
    try:
        bounded(workers, lambda: act(sandbox), _ending.CLOSE_SECONDS)
    except StockadeError:
        raise
    except Exception as error:
        raise WallError(
            f"{record.provider} failed at pausing or resuming session {record.session_id}: "
            f"{named(error)}. Destroy the session."
        ) from error
