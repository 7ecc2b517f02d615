"""A sandbox's end is put off while its process lives, and comes by itself when that dies.

The service ends a sandbox at its timeout, whoever is still there. So the timeout is short, and
one thread of this process puts it off for all sandboxes that it holds.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import attrs

from stockade.system.forks import in_child
from stockade.system.threads import start_thread
from stockade_e2b.service import is_gone, is_refused, words_of

__all__ = ["Renewed", "begin", "end"]

_log = logging.getLogger(__name__)
_ASK_SECONDS = 20.0
_SHORTEST = 1.0


@attrs.define(eq=False)
class Renewed:
    """One sandbox whose timeout is put off."""

    sandbox: Any
    timeout: float  #: seconds that it outlasts this process
    expires_at: float | None  #: Unix time at which core ends it
    gone: Callable[[str], None]  #: called once the service says that it is no more
    paused: bool = False
    due: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.due = time.monotonic() + self.timeout / 3

    def renew(self) -> bool:
        """Put the end off; whether it is to be done again."""
        self.due = time.monotonic() + max(_SHORTEST, self.timeout / 3)
        try:
            self._ask(self.timeout)
        except Exception as error:
            if is_gone(error) and not self.paused:
                self.gone("the service has ended it: its time was over, or somebody ended it")
                return False
            _log.debug("the end of %s was not put off: %s", self.sandbox, words_of(error))
        return True

    def _ask(self, seconds: float) -> None:
        try:
            self.sandbox.set_timeout(math.ceil(seconds), request_timeout=_ASK_SECONDS)
        except Exception as error:
            left = math.inf if self.expires_at is None else self.expires_at - time.time()
            if not is_refused(error) or left >= seconds:
                raise
            # The service keeps it no longer than that: core ends it then, in any case.
            self._ask(max(1.0, left))


class _Thread:
    """The one thread, while there is anything to put off."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._all: set[Renewed] = set()
        self._thread: threading.Thread | None = None

    def begin(self, one: Renewed) -> None:
        with self._lock:
            self._all.add(one)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, daemon=True, name="stockade-e2b-renewing"
                )
                start_thread(self._thread)
            self._lock.notify()

    def end(self, one: Renewed) -> None:
        with self._lock:
            self._all.discard(one)
            self._lock.notify()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._all:
                    self._thread = None
                    return
                first = min(self._all, key=lambda one: one.due)
                wait = first.due - time.monotonic()
                if wait > 0:
                    self._lock.wait(wait)
                    continue
            if not first.renew():
                self.end(first)


_renewing = _Thread()


def _renew() -> None:
    """In a forked child: what is renewed is the parent's."""
    global _renewing
    _renewing = _Thread()


in_child(_renew)


def begin(one: Renewed) -> None:
    """Put its end off from now on. Raises CapacityError."""
    _renewing.begin(one)


def end(one: Renewed) -> None:
    """No more; may be called again."""
    _renewing.end(one)
