"""What dead processes left, as tests lay it out."""

from __future__ import annotations

import time
from typing import Any

import attrs

from core.engine_walls import Engine
from stockade import SandboxConfig
from stockade.results import SessionStatus
from stockade.sessions._registry import SessionRecord
from stockade.sessions._runtime import Runtime
from stockade.system.owner import Owner
from stockade.wall import Leftover, Place

ELSEWHERE = str(attrs.evolve(Owner.current(), boot="another", host="another"))


def enter(
    runtime: Runtime, session_id: str, owner: str, state: str = "ready", **config: Any
) -> None:
    """A record as the process ``owner`` would have left it."""
    assert runtime.ledger is not None
    expires_in = config.pop("expires_in", 600.0)
    used_ago = config.pop("used_ago", 0.0)
    record = SessionRecord(session_id, "a", "eng", None, SandboxConfig(**config), "eng")
    record.place = Place.here()
    record.expires_at = None if expires_in is None else time.time() + expires_in
    record.last_used = time.monotonic() - used_ago
    record.status = SessionStatus(state)
    runtime.ledger.intend(record)
    with runtime.ledger.file.writing() as db:
        for table in ("sessions", "attachments"):
            db.execute(f"UPDATE {table} SET owner = ? WHERE session_id = ?", (owner, session_id))


def there(engine: Engine, session_id: str, owner: str, **more: Any) -> None:
    engine.there.append(
        Leftover(session_id=session_id, handle=f"h-{session_id}", owner=owner, **more)
    )
