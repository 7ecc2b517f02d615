"""What a forked child does first with what it inherited (C12).

Of its parent's threads it has none, and a lock that one of them held stays held; sessions,
connections and programs are the parent's. A module that keeps
such things renews or drops them here.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

__all__ = ["FreshLock", "held_at_fork", "in_child"]

_log = logging.getLogger(__name__)

#: How long a fork waits, at most, for all locks that are held at it.
_FORK_SECONDS = 0.5
_renewals: list[Callable[[], Callable[[], Any] | None]] = []
_guards: list[weakref.WeakMethod[Callable[[], threading.Lock | None]]] = []
_held: list[threading.Lock] = []  #: while a thread of this process forks


def in_child(renew: Callable[[], Any]) -> None:
    """Have ``renew`` called first in every forked child, the oldest of them first.

    It runs where nothing else does, must not wait, and what it raises is logged. A bound
    method is forgotten with its object; a function is kept. Where there is no fork it is
    never called.
    """
    method = hasattr(renew, "__self__")
    _renewals.append(weakref.WeakMethod(renew) if method else _Kept(renew))
    if len(_renewals) % 256 == 0:
        _renewals[:] = [known for known in _renewals if known() is not None]


def held_at_fork(lock_of: Callable[[], threading.Lock | None]) -> None:
    """Have a fork wait until nobody holds the lock that ``lock_of`` gives, where it gives one.

    For what a library keeps in memory for the thread that is at work: a child would find it at
    work for ever. The wait is bounded (half a second for all), and a fork goes on without what
    it did not get. ``lock_of`` must not wait; a bound method is forgotten with its object.
    """
    _guards.append(weakref.WeakMethod(lock_of))
    if len(_guards) % 256 == 0:
        _guards[:] = [known for known in _guards if known() is not None]


class FreshLock:
    """A lock for a module's own things. A forked child finds it free, even if a thread held it in
    the parent. Use it by ``with``."""

    def __init__(self) -> None:
        self._renew()
        in_child(self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class _Kept:
    """A function, as a reference that never dies."""

    def __init__(self, renew: Callable[[], Any]) -> None:
        self._renew = renew

    def __call__(self) -> Callable[[], Any]:
        return self._renew


def _renew_all() -> None:
    for known in _renewals:
        renew = known()
        if renew is None:
            continue
        try:
            renew()
        except Exception:
            _log.exception("what a forked child inherited was not renewed")


def _hold() -> None:
    until = time.monotonic() + _FORK_SECONDS
    for known in _guards.copy():
        lock_of = known()
        lock = None if lock_of is None else lock_of()
        if lock is not None and lock.acquire(timeout=max(0.0, until - time.monotonic())):
            _held.append(lock)


def _let_go() -> None:
    while _held:
        _held.pop().release()


if hasattr(os, "register_at_fork"):
    # In the child they are the parent's, who renews what they guard.
    os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_held.clear)
    os.register_at_fork(after_in_child=_renew_all)
