"""The ledger: every session of a user on disk, in SQLite, for several processes at once (C9).

The intent to make a sandbox is written before the sandbox is made, so that a
death at any instant leaves nothing or a record. What follows is written as it
happens; a write that fails then is tried again in the background and prevents
nothing, since a record too many is all that can come of it, and ``gc`` finds that.
"""

from __future__ import annotations

import itertools
import logging
import os
import sqlite3
import time
from collections.abc import Callable

import attrs

from stockade.errors import LedgerError
from stockade.ledger._errors import kept
from stockade.ledger._file import COLUMNS, LedgerFile, LedgerRecord
from stockade.ledger._interface import Recorded
from stockade.ledger._later import RETRY_SECONDS, LaterWrites
from stockade.ledger._log import ExecutionLog
from stockade.results import SessionStatus
from stockade.system.moments import moment
from stockade.system.owner import Life, Owner, life_of
from stockade.values.ids import agent_hash

__all__ = ["LedgerRecord", "SqliteLedger", "default_ledger", "default_ledger_path"]

_log = logging.getLogger(__name__)

_S = SessionStatus
#: How long a write waits for other processes.
_WAIT_SECONDS = 10.0
#: A ledger that nobody asked for holds nobody up; after a failure it is left alone for a while.
_OPTIONAL_WAIT_SECONDS, _PAUSE_SECONDS = 2.0, 30.0


def default_ledger_path() -> str:
    """``STOCKADE_LEDGER``, else ``stockade/ledger.sqlite`` in the user's state folder."""
    setting = os.environ.get("STOCKADE_LEDGER")
    if setting:
        return os.path.abspath(os.path.expanduser(setting))
    state = os.environ.get("XDG_STATE_HOME") or ""
    if not os.path.isabs(state):
        state = os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(state, "stockade", "ledger.sqlite")


def default_ledger() -> SqliteLedger | None:
    """The ledger of a process's default runtime: None where ``STOCKADE_LEDGER`` is ``off``,
    strict where it names a place, else one that no session fails for."""
    setting = os.environ.get("STOCKADE_LEDGER")
    return None if setting == "off" else SqliteLedger(optional=not setting)


@attrs.frozen
class _State:
    """What of a session changes, as it was at a change. It is little: each execution makes two."""

    status: SessionStatus
    paused: bool
    ends: str | None
    last_used: float
    reason: str

    @classmethod
    def of(cls, record: Recorded) -> _State:
        with record.lock:
            return cls(record.status, record.paused, record.ends, record.last_used, record.reason)


class SqliteLedger(ExecutionLog):
    """A :class:`stockade.ledger._interface.Ledger` in one SQLite file. Safe from any thread.

    With ``optional`` (the default runtime's, where no place was named) a ledger that
    cannot be written is logged once and sessions open without it; durable ones do not.
    Raises LedgerError from everything that reads, and from ``intend``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        timeout_seconds: float | None = None,
        optional: bool = False,
    ) -> None:
        """``timeout_seconds`` is how long a call waits while other processes write; default 10,
        with ``optional`` 2. The file is made when the first session is."""
        wait = _OPTIONAL_WAIT_SECONDS if optional else _WAIT_SECONDS
        place = os.fspath(path) if path is not None else default_ledger_path()
        self.file = LedgerFile(place, wait if timeout_seconds is None else timeout_seconds)
        self.optional = optional
        self._owner = str(Owner.current())
        self._pid = os.getpid()
        self._warned = False
        self._later = LaterWrites(self._failed)

    @property
    def path(self) -> str:
        """The file, absolute."""
        return self.file.path

    @property
    def owner(self) -> str:
        """This process, as its records name it."""
        self._mine()
        return self._owner

    def _mine(self) -> None:
        """After a fork: nothing of what waits is this process's, nor a lock that was held."""
        if self._pid != os.getpid():
            self._later.reset()
            self._pid, self._owner = os.getpid(), str(Owner.current())

    # -- what the registry calls -----------------------------------------------

    def intend(self, record: Recorded) -> None:
        """Write the intent to make a sandbox. Raises LedgerError, and then none is made."""
        durable = record.config.durable
        if self.optional and not durable and self._later.silent:
            return
        row = self._row(record, _State.of(record))
        marks = ", ".join(f":{name}" for name in row)
        try:
            with self.file.writing() as db:
                db.execute(f"INSERT INTO sessions ({', '.join(row)}) VALUES ({marks})", row)
                db.execute(
                    "INSERT INTO attachments (session_id, owner, slot, busy) VALUES (?, ?, 0, 0)",
                    (record.session_id, self.owner),
                )
        except LedgerError as error:
            if not self.optional or durable:
                raise
            self._without(error)
            self._later.fall_silent(_PAUSE_SECONDS)

    def _without(self, error: LedgerError) -> None:
        """Nobody asked for a ledger by name: say once that there is none, and go on."""
        if not self._warned:
            self._warned = True
            _log.warning(
                "sessions are opened without a ledger: %s Until then `gc` collects only what walls "
                "find after a crash. STOCKADE_LEDGER=off ends this warning.",
                error,
            )

    def change(self, record: Recorded) -> None:
        """Write what changed: at once where another process relies on it, else soon."""
        state = _State.of(record)  # now, under the record's lock: its writer must not wait
        attached = record.attached
        self.put_off(record.session_id, lambda: self._update(self._row(record, state), attached))
        lasting = record.status not in (_S.READY, _S.EXECUTING) or record.noted != record.paused
        if record.config.durable and lasting:
            self.flush()
        if record.status in (_S.READY, _S.EXECUTING):
            record.noted = record.paused

    def forget(self, record: Recorded) -> None:
        """Remove the record of a session of which nothing is left."""
        self.put_off(record.session_id, lambda: self.drop(record.session_id))
        self.flush()

    def _row(self, record: Recorded, state: _State) -> dict[str, object]:
        """What does not change is read from the record, when it is written."""
        return {
            "session_id": record.session_id,
            "provider": record.provider,
            "string": kept(record.string),
            "place": kept(str(record.place)) if record.place is not None else "",
            "agent": agent_hash(record.agent_id),
            "owner": self.owner,
            "durable": int(record.config.durable),
            "state": state.status.value,
            "paused": int(state.paused),
            "created_at": record.created_at,
            "expires": state.ends,  # as of then: the clock may have been set since
            "idle_seconds": record.config.idle_seconds,
            "used": moment(time.time() - (time.monotonic() - state.last_used)),
            "reason": kept(state.reason[:500]),
        }

    def _update(self, row: dict[str, object], attached: bool) -> None:
        busy = int(row["state"] == _S.EXECUTING.value)
        fixed = {"session_id", "owner", "durable", "place"}
        if attached:  # made by another process: its words about the session stand
            fixed |= {"provider", "string", "agent", "created_at", "expires", "idle_seconds"}
        pairs = ", ".join(f"{name} = :{name}" for name in row if name not in fixed)
        with self.file.writing() as db:
            db.execute(f"UPDATE sessions SET {pairs} WHERE session_id = :session_id", row)
            db.execute(
                "UPDATE attachments SET busy = ? WHERE session_id = ? AND owner = ?",
                (busy, row["session_id"], self.owner),
            )

    # -- writing later -----------------------------------------------------------

    def put_off(self, key: str, write: Callable[[], None]) -> None:
        """Have ``write`` called soon, and again where it raises LedgerError, in place of what
        waits under the same key."""
        self._mine()
        self._later.put_off(key, write)

    def flush(self) -> bool:
        """Write all that waits; False where something still waits. Never raises."""
        self._mine()
        return self._later.flush()

    def _failed(self, error: LedgerError) -> float:
        """A write that can wait failed; the seconds for which nothing is tried."""
        if self.optional:
            self._without(error)
            return _PAUSE_SECONDS
        _log.warning("the ledger will be written later: %s", error)
        return RETRY_SECONDS

    # -- what other processes ask --------------------------------------------------

    def sessions(self) -> list[LedgerRecord]:
        """Every session's record, oldest first; empty if there is no file yet.

        Raises LedgerError.
        """
        if not self.file.exists():
            return []
        with self.file.reading() as db:
            rows = db.execute(
                f"SELECT {', '.join(COLUMNS)} FROM sessions ORDER BY created_at"
            ).fetchall()
        return [LedgerRecord.of(row, self.path) for row in rows]

    def session(self, session_id: str) -> LedgerRecord | None:
        """A session's record, by its id; None if there is none. Raises LedgerError."""
        if not self.file.exists():
            return None
        with self.file.reading() as db:
            row = db.execute(
                f"SELECT {', '.join(COLUMNS)} FROM sessions WHERE session_id = ?",
                (kept(session_id),),
            ).fetchone()
        return None if row is None else LedgerRecord.of(row, self.path)

    def attach(self, session_id: str) -> tuple[LedgerRecord, int] | None:
        """Enter this process as one that uses a durable session: its record and a slot, a
        small number that no other process has that may live. None when the session is
        gone or being destroyed.

        Any number of processes may, each in one transaction. If the owner is dead or let
        go of it, the next one becomes the owner.
        """
        with self.file.writing() as db:
            row = db.execute(
                f"SELECT {', '.join(COLUMNS)} FROM sessions WHERE session_id = ? AND durable = 1 "
                "AND state IN ('ready', 'executing')",
                (session_id,),
            ).fetchone()
            if row is None:
                return None
            found = LedgerRecord.of(row, self.path)
            others = self._drop_dead(db, session_id)
            slot = next(n for n in itertools.count() if n not in others.values())
            db.execute(
                "UPDATE sessions SET generation = generation + 1, owner = ? WHERE session_id = ?",
                (found.owner if found.owner in others else self.owner, session_id),
            )
            db.execute(
                "INSERT INTO attachments (session_id, owner, slot, busy) VALUES (?, ?, ?, 0)",
                (session_id, self.owner, slot),
            )
            again = db.execute(
                f"SELECT {', '.join(COLUMNS)} FROM sessions WHERE session_id = ?", (session_id,)
            ).fetchone()
        return LedgerRecord.of(again, self.path), slot

    def _drop_dead(self, db: sqlite3.Connection, session_id: str) -> dict[str, int]:
        """Forget the dead among a session's users, and this process; the others' slots."""
        rows = db.execute(
            "SELECT owner, slot FROM attachments WHERE session_id = ?", (session_id,)
        ).fetchall()
        gone = [o for o, _ in rows if o == self.owner or life_of(str(o)) is Life.DEAD]
        for owner in gone:
            db.execute(
                "DELETE FROM attachments WHERE session_id = ? AND owner = ?", (session_id, owner)
            )
        return {owner: slot for owner, slot in rows if owner not in gone}

    def detach(self, session_id: str) -> None:
        """This process uses the session no more; another that does becomes its owner."""
        self.flush()
        with self.file.writing() as db:
            self._drop_dead(db, session_id)
            db.execute(
                "UPDATE sessions SET generation = generation + 1 WHERE session_id = ?",
                (session_id,),
            )
            db.execute(
                "UPDATE sessions SET owner = coalesce("
                "(SELECT owner FROM attachments WHERE session_id = :id ORDER BY slot LIMIT 1), "
                "owner) WHERE session_id = :id AND owner = :me",
                {"id": session_id, "me": self.owner},
            )
            db.execute(
                "UPDATE sessions SET state = 'ready' WHERE session_id = :id AND state = "
                "'executing' AND NOT EXISTS (SELECT 1 FROM attachments WHERE session_id = :id "
                "AND busy = 1)",
                {"id": session_id},
            )

    def users(self, session_id: str) -> list[tuple[str, bool]]:
        """The processes that use a session and may be alive: (owner, whether it executes)."""
        if not self.file.exists():
            return []
        with self.file.reading() as db:
            rows = db.execute(
                "SELECT owner, busy FROM attachments WHERE session_id = ?", (session_id,)
            ).fetchall()
        return [(str(o), bool(b)) for o, b in rows if life_of(str(o)) is not Life.DEAD]

    def idleness(self, session_id: str) -> tuple[bool, float]:
        """Of a session with an idle limit: whether a process that may live executes in it, and
        the seconds that are left of the limit since its last use by any."""
        seen = self.session(session_id)
        busy = any(executes for owner, executes in self.users(session_id) if owner != self.owner)
        if seen is None or seen.idle_seconds is None:
            return busy, 0.0
        return busy, seen.idle_seconds - (time.time() - seen.last_used)

    # -- what gc does --------------------------------------------------------------

    def claim(self, seen: LedgerRecord) -> bool:
        """Take a record over for its destruction; False where somebody came, left or finished
        making it since it was read."""
        with self.file.writing() as db:
            done = db.execute(
                "UPDATE sessions SET state = 'destroying', owner = ? WHERE session_id = ? "
                "AND owner = ? AND generation = ? AND (state = 'provisioning') = ?",
                (
                    self.owner,
                    seen.session_id,
                    seen.owner,
                    seen.generation,
                    seen.state == "provisioning",
                ),
            )
            return bool(done.rowcount == 1)

    def fail(self, seen: LedgerRecord, reason: str) -> None:
        """Give a claimed record back, since its sandbox could not be removed, with why."""
        with self.file.writing() as db:
            db.execute(
                "UPDATE sessions SET state = 'failed', owner = ?, reason = ? WHERE session_id = ?",
                (seen.owner, kept(reason[:500]), seen.session_id),
            )

    def drop(self, session_id: str) -> None:
        """Remove a session's record, by its id; nothing happens if there is none.

        Called by ``forget`` and by gc. Raises LedgerError.
        """
        with self.file.writing() as db:
            for table in ("executions", "attachments", "sessions"):
                db.execute(f"DELETE FROM {table} WHERE session_id = ?", (session_id,))

    def take_turn(self, seconds: float) -> bool:
        """Whether nobody collected within ``seconds``; if so this process does it now."""
        now = moment(time.time())
        with self.file.writing() as db:
            last = self.file.note(db, "collected")
            if last is not None and 0 <= time.time() - last < seconds:
                return False
            db.execute("INSERT OR REPLACE INTO notes VALUES ('collected', ?)", (now,))
        return True
