"""What is left over and what is somebody's: the rules of ``gc`` (C9, C11).

In doubt it is somebody's. An owner that lives on this machine, in this namespace,
is seen; all others are unknown, and of those only the lifetime is held.
"""

from __future__ import annotations

import time
from enum import Enum

from stockade._leftover import Leftover
from stockade.ledger._sqlite import LedgerRecord, SqliteLedger
from stockade.system.owner import Life, life_of

__all__ = ["Look", "why_forget", "why_remove"]

#: An owner that may live ends its own sessions; this much later somebody else does.
_GRACE_SECONDS = 60.0
_OVER = "its lifetime is over"


class Look(Enum):
    """What a pass can say of a record's sandbox that it did not find."""

    SEEN = "the place where it was made was looked at, and it is not there"
    MUTE = "its wall lists nothing, whatever is there"
    FAR = "this process cannot surely look at the place where it was made"
    AWAY = "the place where it was made could not be looked at this time"


def why_remove(
    leftover: Leftover, record: LedgerRecord | None, ledger: SqliteLedger | None
) -> str | None:
    """Why a sandbox is left over, or None if it is somebody's.

    ``record`` is the ledger's, where it has one. Raises LedgerError.
    """
    if record is None:
        return _unrecorded(leftover)
    life = _life(record, ledger)
    if _past(record.expires_at, life):
        return _OVER
    if record.durable:
        return _durable(leftover.running, record, life, ledger)
    return "its process is dead" if life is Life.DEAD else None


def _life(record: LedgerRecord, ledger: SqliteLedger | None) -> Life:
    """Whether the session's owner lives, or any process that holds a durable one."""
    if not record.durable or ledger is None:
        return life_of(record.owner)
    lives = {life_of(owner) for owner, _ in ledger.users(record.session_id)}
    return next((life for life in (Life.ALIVE, Life.UNKNOWN) if life in lives), Life.DEAD)


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
    """Why a session that needs no owner is of no use any more."""
    users = ledger.users(record.session_id) if ledger is not None else []
    idle = time.time() - record.last_used - (_GRACE_SECONDS if users else 0.0)
    busy = any(executes for _, executes in users)
    if record.idle_seconds is not None and not busy and idle > record.idle_seconds:
        return "it was idle for too long"
    if life is not Life.DEAD:
        return None
    if record.state == "provisioning":
        return "its process died while making it"
    if record.state in ("destroying", "failed"):
        return f"it is {record.state}, and nobody has it"
    return None if running else "it has ended, and nobody has it"


def why_forget(record: LedgerRecord, look: Look, ledger: SqliteLedger | None) -> str | None:
    """Why a record may go whose sandbox nobody listed, or None. Raises LedgerError.

    What stands on a sandbox (its owner, its end) is enough to find it later. But of a
    durable one that may still exist, the record is the last that is known.
    """
    if look is Look.AWAY:
        return None
    life = _life(record, ledger)
    over = life is not Life.ALIVE and _past(record.expires_at, life)
    if look is Look.SEEN:
        return "nothing of it is left" if over or life is Life.DEAD else None
    if look is Look.FAR:
        return _OVER if over else None
    mortal = not record.durable and life is Life.DEAD
    return "its process is dead, and its wall's sandboxes end with theirs" if mortal else None


def _past(expires_at: float | None, life: Life) -> bool:
    grace = 0.0 if life is Life.DEAD else _GRACE_SECONDS
    return expires_at is not None and time.time() > expires_at + grace
