"""Writes to the ledger that can wait: a thread of their own makes them, and nobody waits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from stockade.errors import CapacityError, LedgerError
from stockade.ledger._errors import hopeless
from stockade.system.threads import start_thread

__all__ = ["RETRY_SECONDS", "LaterWrites"]

_log = logging.getLogger(__name__)

#: How soon a change that can wait is written, and one that failed is tried again.
_LAZY_SECONDS, RETRY_SECONDS = 0.25, 5.0
#: The thread ends after so long without work.
_IDLE_SECONDS = 10.0


class LaterWrites:
    """What waits to be written, by its key; the newest under a key alone. Safe from any thread."""

    def __init__(self, on_failure: Callable[[LedgerError], float]) -> None:
        """``on_failure`` is called with the error of a write that failed, and returns for how
        many seconds nothing is tried: the next write must not wait for that long again."""
        self._on_failure = on_failure
        self.reset()

    def reset(self) -> None:
        """Forget everything: in a forked child it is the parent's."""
        self._waiting: dict[str, Callable[[], None]] = {}
        self._wake = threading.Condition()
        self._writing = threading.Lock()  # one thread at a time works off what waits
        self._thread: threading.Thread | None = None
        self._silent_until = 0.0

    @property
    def silent(self) -> bool:
        """Whether nothing is tried just now."""
        return time.monotonic() < self._silent_until

    def fall_silent(self, seconds: float) -> None:
        """Try nothing for so long."""
        self._silent_until = time.monotonic() + seconds

    def put_off(self, key: str, write: Callable[[], None]) -> None:
        """Have ``write`` called soon, and again where it raises LedgerError, in place of what
        waits under the same key. Raises nothing."""
        with self._wake:
            self._waiting[key] = write
            if self._thread is None or not self._thread.is_alive():
                self._begin()
            self._wake.notify()

    def _begin(self) -> None:
        thread = threading.Thread(target=self._serve, daemon=True, name="stockade-ledger")
        try:
            start_thread(thread)
        except CapacityError as error:  # the next change, or the process's end, writes it
            _log.warning("the ledger will be written later: %s", error)
            return
        self._thread = thread

    def _serve(self) -> None:
        try:
            while True:
                with self._wake:
                    if not self._wake.wait_for(lambda: self._waiting, _IDLE_SECONDS):
                        self._leave()
                        return
                time.sleep(_LAZY_SECONDS)
                if not self.flush():
                    time.sleep(RETRY_SECONDS)
        except BaseException:
            _log.exception("the ledger's thread failed; the next change starts another")
            with self._wake:
                self._leave()

    def _leave(self) -> None:
        if self._thread is threading.current_thread():
            self._thread = None

    def flush(self) -> bool:
        """Write all that waits; False where something still waits. Never raises."""
        with self._writing:
            if self.silent:
                return False
            with self._wake:
                waiting = list(self._waiting.items())
            for key, write in waiting:
                try:
                    write()
                except Exception as error:
                    if isinstance(error, LedgerError) and not hopeless(error):
                        self.fall_silent(self._on_failure(error))
                        return False
                    # It would fail each time, and hold up all that waits behind it.
                    _log.exception("the ledger leaves out a change that cannot be written")
                with self._wake:
                    if self._waiting.get(key) is write:
                        del self._waiting[key]
        return True
