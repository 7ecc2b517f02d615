"""What a ledger is to the registry of sessions: where records are kept beyond memory (C9)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from stockade._place import Place
    from stockade.config import SandboxConfig
    from stockade.results import SessionStatus
    from stockade.wall import Sandbox

__all__ = ["Ledger", "MemoryLedger", "Recorded"]


class Recorded(Protocol):
    """A session, as a ledger sees it; its lock guards all that changes."""

    session_id: str
    agent_id: str
    provider: str
    string: str  #: the provider string that opens one like it, without secrets
    place: Place | None
    config: SandboxConfig
    sandbox: Sandbox | None  #: None until it is made, and once it is gone
    status: SessionStatus
    paused: bool
    attached: bool  #: another process made it (C10)
    created_at: float
    ends: str | None  #: when its lifetime is over, whatever the clock is set to later (C11)
    last_used: float  #: monotonic
    reason: str  #: why it failed
    noted: bool | None  #: the ledger's own mark: ``paused``, as it was written last

    @property
    def lock(self) -> threading.RLock: ...


class Ledger(Protocol):
    """Where records are kept beyond this process's memory (C9).

    ``intend`` is called before a sandbox is made, ``change`` at each move (with the
    record's lock held), and ``forget`` once nothing of the session is left. What
    ``intend`` raises prevents the sandbox; the others raise nothing. The one that
    keeps records on disk is :class:`stockade.SqliteLedger`.
    """

    def intend(self, record: Recorded) -> None: ...
    def change(self, record: Recorded) -> None: ...
    def forget(self, record: Recorded) -> None: ...


class MemoryLedger:
    """Keeps nothing: sessions end with their process."""

    def intend(self, record: Recorded) -> None:
        return None

    def change(self, record: Recorded) -> None:
        return None

    def forget(self, record: Recorded) -> None:
        return None
