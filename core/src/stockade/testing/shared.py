"""One default session for the checks of a class that need no other.

A check has it alone while it runs. It goes back only from a check that passed and
left it ready; else it is closed, and the next check gets a new one.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from stockade.results import SessionStatus
from stockade.session import Session

__all__ = ["SharedSession"]

_log = logging.getLogger(__name__)


class SharedSession:
    """The place where the session waits between two checks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: Session | None = None
        atexit.register(self.close)

    @contextlib.contextmanager
    def lease(self, open_session: Callable[[], Session]) -> Iterator[Session]:
        """The session that waits, or a new one where none does."""
        with self._lock:
            session, self._waiting = self._waiting, None
        if session is not None and session.status is not SessionStatus.READY:
            _close(session)
            session = None
        if session is None:
            session = open_session()
        good = False
        try:
            yield session
            good = True
        except pytest.skip.Exception:
            good = True
            raise
        finally:
            self._give_back(session, good)

    def _give_back(self, session: Session, good: bool) -> None:
        if good and session.status is SessionStatus.READY:
            with self._lock:
                if self._waiting is None:
                    self._waiting = session
                    return
        _close(session)

    def close(self) -> None:
        """End the session that waits, if one does."""
        with self._lock:
            session, self._waiting = self._waiting, None
        if session is not None:
            _close(session)


def _close(session: Session) -> None:
    """A wall that cannot end its sandbox is reported by checks of their own (C6)."""
    try:
        session.close()
    except Exception:
        _log.exception("ending a session of the suite failed")
