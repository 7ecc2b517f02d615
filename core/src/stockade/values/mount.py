"""A folder of the host that a sandbox is shown."""

from __future__ import annotations

import os

import attrs

__all__ = ["Mount"]


def _text(path: str | os.PathLike[str]) -> str:
    return os.fspath(path) if isinstance(path, os.PathLike) else path


@attrs.frozen
class Mount:
    """A host folder shown inside the sandbox, read-only unless asked otherwise (E9)."""

    #: the folder of the host; a ``pathlib.Path`` is taken as its text
    source: str = attrs.field(converter=_text)
    target: str  #: where it is shown inside, absolute
    read_only: bool = True  #: False lets programs write to it
