"""Moments that mean the same to another process, also after the clock was set (C11).

Unix time jumps when somebody sets it; the time since boot does not, but ends
with the boot. So a moment is kept in both, and read by the second where the boot
is still the same.
"""

from __future__ import annotations

import math
import time

from stockade.system.owner import boot_id

__all__ = ["moment", "read_moment"]


def _since_boot() -> float | None:
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return None if clock is None else time.clock_gettime(clock)


def moment(when: float) -> str:
    """A text that stands for the Unix time ``when``, taken as this clock shows it now."""
    running = _since_boot()
    boot = boot_id()
    if running is None or not boot:
        return f"{when:.3f}"
    return f"{when:.3f} {running + when - time.time():.3f} {boot}"


def read_moment(text: str) -> float | None:
    """The Unix time that a text of ``moment`` stands for, by the clock as it is now set.

    None if it is no moment.
    """
    words = text.split(" ")
    running = _since_boot()
    try:
        when = float(words[0])
        if len(words) == 3 and words[2] == boot_id() and running is not None:
            when = time.time() + float(words[1]) - running
    except ValueError:
        return None
    return when if math.isfinite(when) else None
