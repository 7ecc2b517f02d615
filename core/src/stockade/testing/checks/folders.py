"""Folders of the host that checks put something into."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["open_folder"]


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A folder of the host that anybody on the host may enter and write to."""
    with tempfile.TemporaryDirectory(prefix="stockade-conformance-") as name:
        os.chmod(name, 0o777)
        yield Path(name)
