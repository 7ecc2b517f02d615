"""What warm interpreters are made of, and how the supervisor starts one."""

from __future__ import annotations

import functools

from stockade.lowering.argv import COLD
from stockade.lowering.text import inside_text
from stockade.toolkit.supervised.inside.boot import BOOT

__all__ = ["BOOT", "FRESH", "NAMED", "warm_source"]

#: The two modes: a new interpreter for each execution, and one that keeps its variables.
FRESH, NAMED = "fresh", "named"

_INSIDE = "stockade.toolkit.supervised.inside"
#: In this order; the second remembers the modules that a new interpreter has.
_MODULES = (
    "stockade.lowering.inside.program",
    f"{_INSIDE}.ending",
    f"{_INSIDE}.boot",
    f"{_INSIDE}.surroundings",
    f"{_INSIDE}.children",
    f"{_INSIDE}.warm",
)


@functools.cache
def warm_source() -> str:
    """What an interpreter that is started as ``PYTHON -c BOOT MODE`` reads on descriptor 4.

    Each module is compiled separately, which leaves a megabyte less of a compiler's memory
    behind to be forked. What few need is compiled when they need it.
    """
    texts = "".join(f"exec({inside_text(name)!r})\n" for name in _MODULES)
    named = inside_text(*(f"{_INSIDE}.{name}" for name in ("shown", "cells", "named")))
    later = {"NAMED": named, "COLD": inside_text(*COLD)}
    return texts + "".join(f"{name} = {text!r}\n" for name, text in later.items())
