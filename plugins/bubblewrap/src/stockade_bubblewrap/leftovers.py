"""What a session can leave on the host where owner and keeper were both killed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping

from stockade_bubblewrap.cgroups import Group

__all__ = ["counter_path", "remove"]

_REMOVE_SECONDS = 8.0


def counter_path(name: str) -> str:
    """The file that counts kills where no cgroup does; it has its name only while the
    session starts."""
    return os.path.join(tempfile.gettempdir(), f"{name}.kills")


def remove(name: str, cgroups: Mapping[str, str]) -> None:
    """Remove what is left of the session of that name. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(counter_path(name))
    if cgroups:
        Group(cgroups, name).remove(_REMOVE_SECONDS)
