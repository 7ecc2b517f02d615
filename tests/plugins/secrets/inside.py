"""Sessions with secrets, and what policies and observers see of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import pytest

import stockade
from stockade.config import Secret
from stockade.events import Event
from stockade.plugin import Refuse, RequestProposal, hookimpl
from stockade.session import Session

__all__ = ["Observer", "name_of", "opened", "programs"]


def name_of(wall: object) -> str:
    """A wall's own, without what runs behind it."""
    return str(wall).partition(":")[0]


@contextlib.contextmanager
def opened(wall: str, port: int, **more: object) -> Iterator[Session]:
    key = Secret("key", env="API_KEY", hosts=[f"api.example:{port}=loopback"])
    with stockade.open(wall, secrets=[key], **more) as session:  # type: ignore[arg-type]
        yield session


def programs(session: Session, *names: str) -> None:
    for name in names:
        if not session.shell(f"command -v {name}").success:
            pytest.skip(f"there is no {name} in this sandbox")


class Observer:
    """Keeps what it sees; ``refuses``: of all proposals so far, why the last is refused."""

    def __init__(self, refuses: Callable[[Sequence[RequestProposal]], str | None]) -> None:
        self.events: list[Event] = []
        self.proposals: list[RequestProposal] = []
        self._refuses = refuses

    @hookimpl
    def stockade_event(self, event: Event) -> None:
        self.events.append(event)

    @hookimpl
    def stockade_request(self, proposal: RequestProposal) -> Refuse | None:
        self.proposals.append(proposal)
        reason = self._refuses(self.proposals)
        return None if reason is None else Refuse(reason)
