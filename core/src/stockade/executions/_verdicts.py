"""From how a program ended to the one verdict that says so (D2, D3)."""

from __future__ import annotations

from stockade.results import Verdict
from stockade.wall import Exit

__all__ = ["judge"]

_SIGKILL = 9


def judge(ended: Exit, stop: Verdict | None) -> tuple[Verdict, int, int | None]:
    """Verdict, exit code and signal.

    ``stop`` is why core ended the program, if it did, and stands first: what
    the wall saw then is core's own kill. A program that ended by itself keeps
    its code whatever the number, so 137 and 143 are not taken for signals.
    """
    if stop is not None:
        return stop, 128 + _SIGKILL, _SIGKILL
    if ended.out_of_memory:
        signal = ended.signal or _SIGKILL
        return Verdict.OUT_OF_MEMORY, 128 + signal, signal
    if ended.signal is not None:
        return Verdict.SIGNALLED, 128 + ended.signal, ended.signal
    assert ended.code is not None
    return Verdict.EXITED, ended.code, None
