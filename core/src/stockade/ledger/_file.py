"""The ledger's file: opened, checked, made, migrated, and read with care."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from typing import Any

import attrs

from stockade._place import Place
from stockade.errors import LedgerError
from stockade.ledger._errors import AWAY, busy, damaged, explained
from stockade.system.forks import held_at_fork
from stockade.system.installing import install
from stockade.system.moments import read_moment

__all__ = ["COLUMNS", "LedgerFile", "LedgerRecord"]

_log = logging.getLogger(__name__)

#: "Stkd", in the place where SQLite lets an application name its files.
_APPLICATION = 0x53746B64
#: No SQLite file is smaller, except an empty one.
_SMALLEST = 512
#: So long a call waits for other processes, also where it waited for another thread before.
_LEAST_SECONDS = 0.05
#: What each version adds to the one before; never changed once published.
_MIGRATIONS = (
    """
    CREATE TABLE sessions (
        session_id TEXT PRIMARY KEY,
        provider TEXT NOT NULL,
        string TEXT NOT NULL,
        agent TEXT NOT NULL,
        owner TEXT NOT NULL,
        durable INTEGER NOT NULL,
        state TEXT NOT NULL,
        paused INTEGER NOT NULL DEFAULT 0,
        created_at REAL NOT NULL,
        expires TEXT,
        idle_seconds REAL,
        used TEXT NOT NULL,
        generation INTEGER NOT NULL DEFAULT 0,
        reason TEXT NOT NULL DEFAULT ''
    );
    CREATE TABLE attachments (
        session_id TEXT NOT NULL,
        owner TEXT NOT NULL,
        slot INTEGER NOT NULL,
        busy INTEGER NOT NULL,
        PRIMARY KEY (session_id, owner)
    );
    CREATE TABLE executions (
        execution_id TEXT PRIMARY KEY,
        session_id TEXT NOT NULL,
        form TEXT,
        started_at REAL,
        ended_at REAL,
        verdict TEXT,
        exit_code INTEGER,
        stdout_bytes INTEGER,
        stderr_bytes INTEGER,
        reason TEXT
    );
    CREATE INDEX executions_of ON executions (session_id);
    CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL);
    """,
    "ALTER TABLE sessions ADD COLUMN place TEXT NOT NULL DEFAULT ''",
)
COLUMNS = (
    "session_id",
    "provider",
    "string",
    "agent",
    "owner",
    "durable",
    "state",
    "paused",
    "created_at",
    "expires",
    "idle_seconds",
    "used",
    "generation",
    "reason",
    "place",
)

#: Connections of a parent process, kept so that a child does not close them.
_inherited: list[sqlite3.Connection] = []


@attrs.frozen(kw_only=True)
class LedgerRecord:
    """One session as the ledger has it."""

    session_id: str
    provider: str  #: the entry-point name
    string: str  #: the provider string that opens one like it, without secrets
    agent: str  #: a hash of the agent's id
    owner: str  #: see :class:`stockade.system.owner.Owner`
    durable: bool
    state: str  #: a :class:`SessionStatus` word; "executing" may lag by a moment
    paused: bool
    created_at: float  #: Unix time
    expires_at: float | None  #: Unix time, by the clock as it is set now
    idle_seconds: float | None
    last_used: float  #: Unix time, by the clock as it is set now
    generation: int  #: how often somebody attached to it or left it
    reason: str  #: why it failed
    #: Where it lives (C9), None if that was not kept: an older stockade wrote it.
    place: Place | None

    @classmethod
    def of(cls, row: tuple[Any, ...], path: str) -> LedgerRecord:
        """A row, checked: a file can be damaged where SQLite does not see it."""
        cells = dict(zip(COLUMNS, row, strict=True))
        for name in (
            "session_id",
            "provider",
            "string",
            "agent",
            "owner",
            "state",
            "used",
            "reason",
            "place",
        ):
            if not isinstance(cells[name], str):
                raise damaged(path, f"{name} of a session is {type(cells[name]).__name__}")
        for name in ("created_at", "idle_seconds"):
            value = cells[name]
            if value is None and name == "idle_seconds":
                continue
            if not isinstance(value, (int, float)) or not math.isfinite(value):
                raise damaged(path, f"{name} of session {cells['session_id']!r:.60}")
        if not isinstance(cells["generation"], int) or cells["generation"] < 0:
            raise damaged(path, f"generation of session {cells['session_id']!r:.60}")
        expires = cells.pop("expires")
        until = read_moment(expires) if isinstance(expires, str) else None
        used = read_moment(cells.pop("used"))
        if used is None or (expires is not None and until is None):
            raise damaged(path, f"a moment of session {cells['session_id']!r:.60}")
        for name in ("durable", "paused"):
            cells[name] = bool(cells[name])
        cells["place"] = Place.parse(cells["place"])
        return cls(**cells, expires_at=until, last_used=used)


class LedgerFile:
    """One connection a process, made when first needed; one transaction at a time in it."""

    def __init__(self, path: str, timeout_seconds: float) -> None:
        self.path = path
        self._timeout = timeout_seconds
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        self._inode: tuple[int, int] | None = None
        held_at_fork(self._at_fork)

    def _at_fork(self) -> threading.Lock | None:
        """No process is forked in a transaction: SQLite remembers in memory what its connections
        have locked, and a child would wait for a thread that it does not have (C12)."""
        return self._lock if self._pid == os.getpid() else None

    def exists(self) -> bool:
        """Whether there is a file at all: reading never makes one."""
        try:
            return os.stat(self.path).st_size >= 0
        except FileNotFoundError:
            return False
        except OSError as error:
            raise LedgerError(
                f"the ledger {self.path!r} cannot be reached: {error.strerror}; name another by "
                "STOCKADE_LEDGER."
            ) from error

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection to read by; errors arrive as LedgerError."""
        with self._held() as left, self._errors_explained():
            yield self._open(left)

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the file against other writers, made durable at its end."""
        with self._held() as left, self._errors_explained():
            connection = self._open(left)
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _held(self) -> Iterator[float]:
        """The connection for this thread alone; the seconds that are left to wait in."""
        if self._pid != os.getpid():  # a fork: the connection and a held lock are the parent's
            if self._connection is not None:
                _inherited.append(self._connection)  # not even closed here
            self._pid = os.getpid()
            self._connection, self._lock = None, threading.Lock()
        # Bounded: another thread may wait for other processes, and so may those before this.
        began = time.monotonic()
        if not self._lock.acquire(timeout=self._timeout + 1):
            raise busy(self.path, self._timeout + 1)
        try:
            yield max(_LEAST_SECONDS, self._timeout - (time.monotonic() - began))
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def _errors_explained(self) -> Iterator[None]:
        """SQLite's errors with what to do about them."""
        try:
            yield
        except sqlite3.Error as error:
            raise explained(self.path, error, self._timeout) from error
        except (UnicodeError, OverflowError) as error:
            raise LedgerError(
                f"a value cannot be kept in the ledger {self.path!r}: {error}; leave it out of "
                "what the session is opened with."
            ) from error
        except OSError as error:
            raise LedgerError(
                f"the ledger {self.path!r} cannot be opened: {error.strerror}; name a place that "
                "this user may write by STOCKADE_LEDGER.",
                retryable=False,
            ) from error

    def close(self) -> None:
        """Let go of the file; the next call opens it again."""
        with self._held():
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def __del__(self) -> None:
        if self._connection is not None and self._pid == os.getpid():
            self._connection.close()

    def note(self, db: sqlite3.Connection, name: str) -> float | None:
        """A moment that was noted under a name."""
        row = db.execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
        return None if row is None else read_moment(str(row[0]))

    # -- opening -----------------------------------------------------------------

    def _open(self, left: float) -> sqlite3.Connection:
        """The connection, which waits ``left`` seconds for other processes: what a call waited
        for another thread it does not wait once more."""
        if self._connection is not None:
            if self._inode == _inode(self.path):
                self._connection.execute(f"PRAGMA busy_timeout = {left * 1000:.0f}")
                return self._connection
            # Moved away or removed under us: what is written there now would be lost.
            self._connection.close()
            self._connection = None
        self._make_room()
        self._refuse_unsafe()
        connection = sqlite3.connect(
            self.path,
            timeout=self._timeout,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=64,
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._connection, self._inode = connection, _inode(self.path)
        return connection

    def _make_room(self) -> None:
        """Folder and file, for this user alone; SQLite gives its other files the same mode."""
        os.makedirs(os.path.dirname(self.path) or ".", mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))

    def _refuse_unsafe(self) -> None:
        """Refuse what the file's size and mode rule out. It must not be opened here: closing it
        would drop the locks that this process's other connections hold on it."""
        found = os.stat(self.path)
        if found.st_mode & 0o002 and self._modes_are_kept():
            raise LedgerError(
                f"the ledger {self.path!r} can be written by every user, so it cannot be trusted; "
                "check it, then: chmod 600 it."
            )
        if 0 < found.st_size < _SMALLEST:  # SQLite would take that for an empty one
            raise self._foreign()

    def _modes_are_kept(self) -> bool:
        """Whether a file for one user alone stays one here: Windows, and file systems without
        modes, show every file as everybody's, whatever was asked."""
        beside = f"{self.path}.{os.urandom(8).hex()}"
        try:
            os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            try:
                kept = not os.stat(beside).st_mode & 0o002
            finally:
                os.unlink(beside)
        except OSError:
            return True  # nothing was found out, so what the mode says stands
        if not kept:
            _log.warning(
                "files beside the ledger %r have no modes of their own: a user who may write "
                "there may change it",
                self.path,
            )
        return kept

    def _foreign(self) -> LedgerError:
        return LedgerError(
            f"{self.path!r} is no ledger of stockade's, or a damaged one; it was left as it is. "
            f"{AWAY}"
        )

    def _prepare(self, connection: sqlite3.Connection) -> None:
        try:
            # In this order: another process may be making the file at this moment.
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            (application,) = connection.execute("PRAGMA application_id").fetchone()
        except sqlite3.DatabaseError as error:
            if "not a database" in str(error):
                raise self._foreign() from error
            raise
        if application != _APPLICATION and pages:
            raise LedgerError(
                f"{self.path!r} is an SQLite file of another program; it was left as it is. "
                "Name another place by STOCKADE_LEDGER."
            )
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > len(_MIGRATIONS):
            raise LedgerError(
                f"the ledger {self.path!r} has version {version}, this stockade knows "
                f"{len(_MIGRATIONS)}; update it: {install('stockade', upgrade=True)}"
            )
        if version < len(_MIGRATIONS):
            self._migrate(connection)
        self._log_ahead(connection)
        # Enough for a process's death at any instant. What a power failure may take is the
        # newest records; the sandboxes of that moment ended with the power too.
        connection.execute("PRAGMA synchronous = NORMAL")

    def _log_ahead(self, connection: sqlite3.Connection) -> None:
        """Write-ahead logging. SQLite does not wait if another process sets it, so this does."""
        until = time.monotonic() + self._timeout
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
            time.sleep(0.01)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN EXCLUSIVE")
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            for script in _MIGRATIONS[version:]:
                for statement in script.split(";"):
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
