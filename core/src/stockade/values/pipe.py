"""The word for a standard input that stays open."""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["PIPE", "Pipe"]


class Pipe(Enum):
    """The type of :data:`PIPE`, for annotations."""

    PIPE = "pipe"

    def __repr__(self) -> str:
        return "stockade.PIPE"


#: Given as ``stdin``: the program's input stays open, for ``Execution.write`` (D17).
PIPE: Final = Pipe.PIPE
