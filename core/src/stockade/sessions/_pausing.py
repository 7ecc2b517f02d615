"""Freezing a session's sandbox and letting it go on (G2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import stockade.sessions._ending
from stockade.capabilities import Feature
from stockade.errors import SessionNotFoundError, StockadeError, WallError
from stockade.sessions._registry import SessionRecord
from stockade.system.threads import bounded
from stockade.values.shown import named
from stockade.wall import Sandbox, Wall

if TYPE_CHECKING:
    from stockade.sessions._runtime import Runtime

__all__ = ["pause", "resume"]


def pause(runtime: Runtime, wall: Wall, record: SessionRecord) -> None:
    """Freeze everything in it; nothing happens where it is paused already."""
    wall.capabilities.require(Feature.PAUSE, record.provider, "end the session instead.")
    with record.pausing:
        if record.paused:
            return
        _freeze(runtime, record, lambda sandbox: sandbox.pause())
        record.set_paused(True)


def resume(runtime: Runtime, record: SessionRecord) -> None:
    """Thaw it; nothing happens where it is not paused."""
    with record.pausing:
        if record.paused:
            _freeze(runtime, record, lambda sandbox: sandbox.resume())
            record.set_paused(False)


def _freeze(runtime: Runtime, record: SessionRecord, act: Callable[[Sandbox], None]) -> None:
    sandbox = record.sandbox
    if sandbox is None:
        raise SessionNotFoundError(record.session_id)
    try:
        bounded(runtime.workers, lambda: act(sandbox), stockade.sessions._ending.CLOSE_SECONDS)
    except StockadeError:
        raise
    except Exception as error:
        raise WallError(
            f"{record.provider} failed at pausing or resuming session {record.session_id}: "
            f"{named(error)}. Destroy the session."
        ) from error
