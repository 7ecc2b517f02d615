"""The log of a sandbox: what was done with it, for its owner. The latest entries are kept."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from stockade_server.errors import Refused

__all__ = ["Entry", "Journal"]

_MOST_ENTRIES = 1000
_MOST_MESSAGE = 500  #: characters
_LEVELS = ("debug", "info", "warn", "error")


@attrs.frozen
class Entry:
    """One thing that was done."""

    at: int  #: milliseconds of Unix time
    level: str
    message: str
    fields: Mapping[str, str]

    def described(self) -> dict[str, Any]:
        return {
            "timestamp": self.time(),
            "level": self.level,
            "message": self.message,
            "fields": dict(self.fields),
        }

    def line(self) -> dict[str, str]:
        return {"timestamp": self.time(), "line": self.message}

    def time(self) -> str:
        when = dt.datetime.fromtimestamp(self.at / 1000, dt.timezone.utc)
        return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Journal:
    """That of one sandbox."""

    def __init__(self) -> None:
        #: As JSON: a fourth of what the objects would take, and there are many sandboxes.
        self._packed: deque[bytes] = deque(maxlen=_MOST_ENTRIES)

    def note(self, message: str, level: str = "info", **fields: str) -> None:
        """Write an entry; a long message is cut."""
        at = time.time_ns() // 1_000_000
        self._packed.append(json.dumps([at, level, message[:_MOST_MESSAGE], fields]).encode())

    def latest(self, most: int) -> list[Entry]:
        """The newest entries, the newest first."""
        return [Entry(*json.loads(one)) for one in itertools.islice(reversed(self._packed), most)]

    def old(self, query: Mapping[str, str]) -> dict[str, Any]:
        """``GET /sandboxes/{id}/logs``: from ``start`` on."""
        found = self._chosen(query, "start", lambda entry, start: entry.at >= start)
        return {
            "logs": [one.line() for one in found],
            "logEntries": [one.described() for one in found],
        }

    def page(self, query: Mapping[str, str]) -> dict[str, Any]:
        """``GET /v2/sandboxes/{id}/logs``: from ``cursor`` on, or back from there."""
        level, direction = query.get("level", "debug"), query.get("direction", "forward")
        if level not in _LEVELS or direction not in ("forward", "backward"):
            raise Refused(400, f"level is one of {_LEVELS}; direction is forward or backward")
        least, word, back = _LEVELS.index(level), query.get("search", ""), direction != "forward"

        def fits(entry: Entry, cursor: int) -> bool:
            in_time = entry.at <= cursor if back else entry.at >= cursor
            return in_time and _LEVELS.index(entry.level) >= least and word in entry.message

        found = self._chosen(query, "cursor", fits, back=back)
        return {"logs": [one.described() for one in found]}

    def _chosen(
        self,
        query: Mapping[str, str],
        start: str,
        fits: Callable[[Entry, int], bool],
        *,
        back: bool = False,
    ) -> list[Entry]:
        at = _number(query, start, 2**62 if back else 0)
        limit = _number(query, "limit", _MOST_ENTRIES)
        packed = reversed(self._packed) if back else iter(self._packed)
        entries = (Entry(*json.loads(one)) for one in packed)
        return [one for one in entries if fits(one, at)][:limit]


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Refused(400, f"{name} is a number")
    return int(text)
