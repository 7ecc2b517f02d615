"""A folder of the host that a sandbox is shown."""

from __future__ import annotations

import attrs

__all__ = ["Mount"]


@attrs.frozen
class Mount:
    """A host folder shown inside the sandbox, read-only unless asked otherwise (E9)."""

    source: str
    target: str
    read_only: bool = True
