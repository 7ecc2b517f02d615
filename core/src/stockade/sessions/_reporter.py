"""Reporting to observers what happens to sessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stockade.errors import StockadeError
from stockade.events import Event, EventKind

if TYPE_CHECKING:
    from stockade.sessions._registry import SessionRecord

__all__ = ["Reporter"]


class Reporter:
    """Makes the events of one runtime's sessions and hands them to its observers."""

    def __init__(self, sink: Callable[[Event], None]) -> None:
        self._sink = sink

    def report(
        self,
        kind: EventKind,
        provider: str,
        agent_id: str,
        record: SessionRecord | None,
        **more: Any,
    ) -> None:
        """An event of a session, or of none yet; ``more`` are fields of :class:`Event`."""
        session_id = None if record is None else record.session_id
        self._sink(
            Event(kind=kind, provider=provider, agent_id=agent_id, session_id=session_id, **more)
        )

    def refused(self, provider: str, agent_id: str, error: StockadeError) -> None:
        """A session was refused before anything of it was there."""
        kind = EventKind.SESSION_REFUSED
        self.report(kind, provider, agent_id, None, reason=type(error).__name__)
