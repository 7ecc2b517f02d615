"""What is left over and what is somebody's: the rules of ``gc`` (C9, C11).

In doubt it is somebody's. An owner that lives on this machine, in this namespace,
is seen; all others are unknown, and of those only the lifetime is held.
"""

from __future__ import annotations

import time

from stockade.ledger import LedgerRecord, SqliteLedger
from stockade.owner import Life, life_of
from stockade.traces import Leftover

__all__ = ["why_forget", "why_remove"]

#: An owner that may live ends its own sessions; this much later somebody else does.
_GRACE_SECONDS = 60.0
_OVER = "its lifetime is over"


def why_remove(
    leftover: Leftover, record: LedgerRecord | None, ledger: SqliteLedger | None
) -> str | None:
    """Why a sandbox is left over, or None where it is somebody's.

    ``record`` is the ledger's, where it has one. Raises LedgerError.
    """
    if record is None:
        return _unrecorded(leftover)
    life = life_of(record.owner)
    if _past(record.expires_at, life):
        return _OVER
    if life is Life.ALIVE:
        return None
    if not record.durable:
        return "its process is dead" if life is Life.DEAD else None
    return _durable(leftover.running, record, life, ledger)


def _unrecorded(leftover: Leftover) -> str | None:
    """By what stands on it alone."""
    life = life_of(leftover.owner)
    if _past(leftover.expires_at, life):
        return _OVER
    if life is not Life.DEAD:
        return None
    if not leftover.durable:
        return "its process is dead"
    return None if leftover.running else "it has ended, and its process is dead"


def _durable(
    running: bool, record: LedgerRecord, life: Life, ledger: SqliteLedger | None
) -> str | None:
    """Of a session that needs no owner: what makes it of no use to anybody."""
    users = ledger.users(record.session_id) if ledger is not None else []
    grace = _GRACE_SECONDS if users else 0.0
    idle = time.time() - record.last_used - grace
    busy = any(executes for _, executes in users)
    if record.idle_seconds is not None and not busy and idle > record.idle_seconds:
        return "it was idle for too long"
    if life is not Life.DEAD or any(life_of(owner) is Life.ALIVE for owner, _ in users):
        return None
    if record.state == "provisioning":
        return "its process died while making it"
    if record.state in ("destroying", "failed"):
        return f"it is {record.state}, and its process is dead"
    return None if running else "it has ended, and its process is dead"


def why_forget(record: LedgerRecord, looked: bool, ledger: SqliteLedger | None) -> str | None:
    """Why a record may go of which nothing is there, or None.

    ``looked``: its wall did list what is there. Else only what it listed could tell.
    """
    if not looked:
        return None
    life = life_of(record.owner)
    if life is Life.DEAD or (life is Life.UNKNOWN and _past(record.expires_at, life)):
        users = ledger.users(record.session_id) if ledger is not None else []
        alive = any(life_of(owner) is Life.ALIVE for owner, _ in users)
        return None if alive else "nothing of it is left"
    return None


def _past(expires_at: float | None, life: Life) -> bool:
    grace = 0.0 if life is Life.DEAD else _GRACE_SECONDS
    return expires_at is not None and time.time() > expires_at + grace
