"""Keepers as any process finds them: for ``gc`` and ``top`` (C9).

A keeper ends with its owner, whatever kills that, so there is nothing to find but
in the moment of it, or where a keeper was itself stopped. It is known by two
variables of its environment, which the programs below it do not get.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from stockade.errors import DestroyError
from stockade.wall import Leftover, Usage
from stockade_landlock import tree
from stockade_landlock.wire import MARKS

__all__ = ["OWNER", "SESSION", "all_of", "end", "usage_of"]

SESSION, OWNER = MARKS
_END_SECONDS = 10.0


def _marks(pid: int) -> dict[str, str]:
    """Of a process, what marks it as a keeper or its warden."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read(65536).split(b"\0")
    except OSError:
        return {}
    pairs = (entry.decode("utf-8", "replace").partition("=") for entry in entries)
    return {name: value for name, _, value in pairs if name in (SESSION, OWNER)}


def _keepers() -> dict[str, tuple[list[int], str]]:
    """Session to the processes that keep it, and their owner."""
    found: dict[str, tuple[list[int], str]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit() or _state(int(name)) in ("", "Z", "X"):
            continue
        marks = _marks(int(name))
        if SESSION in marks:
            pids, _ = found.setdefault(marks[SESSION], ([], marks.get(OWNER, "")))
            pids.append(int(name))
    return found


def _state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError, UnicodeDecodeError):
        return ""


def all_of() -> list[Leftover]:
    """Every session of this wall that this user may see."""
    return [
        Leftover(
            session_id=session, handle=session, owner=owner,
            words=f"keeper processes {', '.join(map(str, sorted(pids)))}",
        )
        for session, (pids, owner) in _keepers().items()
    ]  # fmt: skip


def end(session: str) -> None:
    """Kill a session's keepers with all below them. Raises DestroyError.

    Stopped first, so that nothing is forked away meanwhile.
    """
    until = time.monotonic() + _END_SECONDS
    while True:
        pids, _ = _keepers().get(session, ([], ""))
        if not pids:
            return
        everybody = {*pids, *(below for pid in pids for below in tree.descendants(pid))}
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in everybody:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        if time.monotonic() > until:
            raise DestroyError(
                f"processes {pids} of session {session} do not end; look at them, then try again."
            )
        time.sleep(0.02)


def usage_of(session: str) -> Usage | None:
    """What the session's processes use together, their keeper's included."""
    pids, _ = _keepers().get(session, ([], ""))
    if not pids:
        return None
    everybody = sorted({*pids, *(below for pid in pids for below in tree.descendants(pid))})
    return Usage(
        cpu_seconds=sum(tree.cpu_seconds(everybody).values()),
        memory_bytes=tree.memory_bytes(everybody, 1 << 62),
        processes=len(everybody),
    )
