"""Code of others that core calls (observers, policies, ledgers), and what it may break off."""

from __future__ import annotations

import threading

__all__ = ["is_the_users"]


def is_the_users(error: BaseException) -> bool:
    """Whether an error may be the user's own wish to end, rather than a stranger's mistake.

    Ctrl-C and what a signal's handler raises come to the main thread alone, wherever it is
    just then; they go on to the caller. All else that a stranger raises is the stranger's.
    """
    return (
        isinstance(error, (KeyboardInterrupt, SystemExit))
        and threading.current_thread() is threading.main_thread()
    )
