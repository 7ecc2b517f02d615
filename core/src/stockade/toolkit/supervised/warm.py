"""What warm interpreters are made of, and how the supervisor starts one."""

from __future__ import annotations

import functools

from stockade.inside import inside_text
from stockade.toolkit.supervised.inside.boot import BOOT

__all__ = ["BOOT", "FRESH", "NAMED", "warm_source"]

#: The two modes: a new interpreter for each job, and one that keeps its variables.
FRESH, NAMED = "fresh", "named"

_INSIDE = "stockade.toolkit.supervised.inside"


@functools.cache
def warm_source() -> str:
    """What an interpreter that is started as ``PYTHON -c BOOT MODE`` reads on descriptor 4."""
    # First what remembers the modules that a new interpreter has.
    names = ("ending", "boot", "surroundings", "zygote")
    text = inside_text("stockade.program", *(f"{_INSIDE}.{name}" for name in names))
    return f"{text}\nNAMED = {inside_text(f'{_INSIDE}.named')!r}\n"
