"""What a forked child does first with what it inherited (C12).

Of its parent's threads it has none, and a lock that one of them held stays held; sessions,
connections and programs are the parent's. Whoever keeps such things renews or drops them here.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

__all__ = ["FreshLock", "in_child"]

_log = logging.getLogger(__name__)

_renewals: list[Callable[[], Callable[[], Any] | None]] = []


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


class FreshLock:
    """A lock for a module's own things, which a forked child finds free, whoever held it in
    its parent; used by ``with``."""

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


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
