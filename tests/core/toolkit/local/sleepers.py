"""Programs of tests, found in the machine's processes."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["running"]


def running(mark: str) -> list[int]:
    """Living processes that sleep for so long."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words == [b"sleep", mark.encode(), b""]:
            found.append(int(pid))
    return found
