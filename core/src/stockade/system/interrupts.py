"""The user's interrupts as distinct from errors of code that core calls.

Observers, policies and ledgers are written by others. What they raise is contained; an
interrupt that happens to arrive while they run is not theirs, and goes on to the caller.
"""

from __future__ import annotations

import threading

__all__ = ["is_interrupt"]


def is_interrupt(error: BaseException) -> bool:
    """Whether an error may be the user's interrupt rather than a failure of the code called.

    Ctrl-C, and SystemExit from a signal's handler, are raised in the main thread alone,
    wherever it is at that moment. In any other thread, and of any other type, an error comes
    from the code that was called.
    """
    return (
        isinstance(error, (KeyboardInterrupt, SystemExit))
        and threading.current_thread() is threading.main_thread()
    )
