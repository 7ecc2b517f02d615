"""What sandboxes leave to be seen from outside: for ``gc``, ``top`` and other processes."""

from __future__ import annotations

import attrs

__all__ = ["Leftover", "Usage"]


@attrs.frozen(kw_only=True)
class Leftover:
    """A sandbox as another process finds it in the engine or the system."""

    #: As it stands on it. With what bears it the session's record goes: what else is left of a
    #: session is listed by a name of its own.
    session_id: str
    #: The wall's own word for it, by which ``Wall.remove`` ends this one and no other.
    handle: str
    owner: str = ""  #: OpenRequest.owner as it stands on it; empty where nothing does
    #: Unix time as it stands on it; None: no end stands there (a pool sets it later).
    expires_at: float | None = None
    durable: bool = False  #: made with ``durable``: a dead owner is no reason to end it
    running: bool = True  #: False: it is half made or has died, and nobody can use it
    created_at: float | None = None  #: Unix time, where it is known
    words: str = ""  #: for people, such as "container 3f2a91 (exited)"


@attrs.frozen(kw_only=True)
class Usage:
    """What one sandbox uses."""

    cpu_seconds: float | None = None  #: since its start
    memory_bytes: int | None = None  #: now
    processes: int | None = None  #: now
