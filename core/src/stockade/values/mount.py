"""A folder of the host that a sandbox is shown."""

from __future__ import annotations

import attrs

__all__ = ["Mount"]


@attrs.frozen
class Mount:
    """A host folder shown inside the sandbox, read-only unless asked otherwise (E9)."""

    source: str  #: the folder of the host
    target: str  #: where it is shown inside, absolute
    read_only: bool = True  #: False lets programs write to it
