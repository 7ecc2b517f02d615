"""What a program says once for all its sessions: limits, and what SIGTERM does."""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
from types import FrameType
from typing import Any, NoReturn

from stockade.errors import ConfigError
from stockade.sessions._runtime import default_runtime
from stockade.sessions._settings import Settings
from stockade.system.forks import FreshLock

__all__ = ["configure", "end_on_sigterm"]

#: What a program may use for its own clean-up after its sessions were ended.
_GRACE_SECONDS = 5.0
_changing = FreshLock()


def configure(**changes: Any) -> Settings:
    """Change settings of the default runtime, at any time; what is not named stays.

        stockade.configure(max_sessions=50, queue_seconds=30)

    Names, meanings and defaults are those of :class:`stockade.Settings`; a process starts
    with what the environment says (STOCKADE_MAX_SESSIONS and so on). Sessions that are
    there already stay. Returns what holds now; raises ConfigError.
    """
    runtime = default_runtime()
    with _changing:
        runtime.settings = runtime.settings.with_(**changes)
    runtime.capacity.look_again()
    return runtime.settings


def end_on_sigterm() -> bool:
    """Have SIGTERM end every session, then the program; call it from the main thread.

    Only where nobody handles the signal yet: who has a handler of their own keeps it,
    False is returned, and sessions end with the interpreter, as ever. On the signal the
    sessions end at the same time while SystemExit (143) goes through the main thread, so
    that ``with`` and ``finally`` hold; a program that is not gone soon after its sessions,
    or after shutdown_seconds, is ended by the signal itself. A second SIGTERM ends it at
    once. Raises ConfigError in another thread than the main one.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ConfigError("signal handlers belong to the main thread; call end_on_sigterm there.")
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return False
    signal.signal(signal.SIGTERM, _terminated)
    return True


def _terminated(number: int, _: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Not a Thread of threading: the main thread may hold that module's lock just now.
    _thread.start_new_thread(_end, ())
    raise SystemExit(128 + number)


def _end() -> None:
    runtime = default_runtime()
    began = time.monotonic()
    runtime.shutdown()
    left = began + runtime.settings.shutdown_seconds - time.monotonic()
    time.sleep(max(0.0, min(_GRACE_SECONDS, left)))
    os.kill(os.getpid(), signal.SIGTERM)
