"""The ledger's log of executions in durable sessions."""

from __future__ import annotations

import abc
from collections.abc import Callable

from stockade.ledger._errors import kept
from stockade.ledger._file import LedgerFile

__all__ = ["ExecutionLog"]

#: Executions that are remembered of a session.
_KEPT_EXECUTIONS = 500


class ExecutionLog(abc.ABC):
    """What ran when and how it ended; a part of :class:`stockade.SqliteLedger`."""

    file: LedgerFile

    @abc.abstractmethod
    def put_off(self, key: str, write: Callable[[], None]) -> None: ...

    def executions(self, session_id: str) -> list[dict[str, object]]:
        """What ran in a durable session, oldest first: no command, code or output (B4)."""
        if not self.file.exists():
            return []
        names = (
            "execution_id",
            "form",
            "started_at",
            "ended_at",
            "verdict",
            "exit_code",
            "stdout_bytes",
            "stderr_bytes",
            "reason",
        )
        with self.file.reading() as db:
            rows = db.execute(
                f"SELECT {', '.join(names)} FROM executions WHERE session_id = ? "
                "ORDER BY started_at, rowid",
                (session_id,),
            ).fetchall()
        return [dict(zip(names, row, strict=True)) for row in rows]

    def note_execution(self, session_id: str, execution_id: str, **what: object) -> None:
        """Enter an execution, or more about it, soon."""

        def write() -> None:
            with self.file.writing() as db:
                db.execute(
                    "INSERT OR IGNORE INTO executions (session_id, execution_id) "
                    "SELECT session_id, ? FROM sessions WHERE session_id = ?",
                    (execution_id, session_id),
                )
                pairs = ", ".join(f"{name} = ?" for name in what)
                db.execute(
                    f"UPDATE executions SET {pairs} WHERE execution_id = ?",
                    (*map(_kept, what.values()), execution_id),
                )
                db.execute(
                    "DELETE FROM executions WHERE session_id = ? AND rowid NOT IN (SELECT rowid "
                    "FROM executions WHERE session_id = ? ORDER BY rowid DESC LIMIT ?)",
                    (session_id, session_id, _KEPT_EXECUTIONS),
                )

        self.put_off(f"{execution_id} {'verdict' in what or 'reason' in what}", write)


def _kept(value: object) -> object:
    return kept(value) if isinstance(value, str) else value
