"""Looking at the host's processes from a test."""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["gone", "marked"]


def marked(mark: str) -> list[str]:
    """The host's processes whose command line holds ``mark``, this one aside."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if mark in line and int(pid) != os.getpid() and state != "Z":
            found.append(line)
    return found


def gone(mark: str, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while marked(mark):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
