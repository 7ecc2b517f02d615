"""Connections between requests: held for a while, and not too many of them.

Whoever has no key can connect, too. uvicorn waits for a request's head for ever, counts such a
connection among those that it serves, and keeps an answer that nobody reads.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["bounded"]


class _Bounded(H11Protocol):
    """A connection that is broken off where no request's head comes in time, or an answer is not
    read. Where more wait than may, it is the one that has waited longest."""

    seconds: ClassVar[float]
    most: ClassVar[int]
    waiting: ClassVar[dict[_Bounded, asyncio.TimerHandle]]  #: in the order of their beginning

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._go_on()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    def _look(self) -> None:
        """Whether it waits: for a head, or for somebody who takes an answer."""
        given_up = self.transport.get_protocol() is not self  # to a WebSocket, which has pings
        if given_up or (self.cycle is not None and not self.cycle.response_complete):
            self._go_on()
        elif self not in self.waiting:  # a head that comes by the byte gets no more time
            self.waiting[self] = self.loop.call_later(self.seconds, self._break_off)
            if len(self.waiting) > self.most:
                next(iter(self.waiting))._break_off()

    def _go_on(self) -> None:
        timer = self.waiting.pop(self, None)
        if timer is not None:
            timer.cancel()

    def _break_off(self) -> None:
        self._go_on()
        self.transport.abort()


def bounded(most: int, seconds: float) -> type[H11Protocol]:
    """The protocol of one server: ``most`` connections may wait, each for so many seconds."""
    more: dict[str, Any] = {"most": most, "seconds": seconds, "waiting": {}}
    return type("Bounded", (_Bounded,), more)
