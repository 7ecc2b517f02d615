"""What a keeper is found by: variables of its environment that nothing below it gets (C9)."""

from __future__ import annotations

__all__ = ["OWNER", "ROOM", "SERVES", "SESSION", "WALL", "marks"]

WALL = "STOCKADE_KEEPER_WALL"
SESSION = "STOCKADE_KEEPER_SESSION"
OWNER = "STOCKADE_KEEPER_OWNER"
#: Of a fork server: its owner's process id, and a text in whose place its forks have theirs.
SERVES, ROOM = "STOCKADE_FORKSERVER_OWNER", "STOCKADE_FORKSERVER_ROOM"


def marks(wall: str, session: str, owner: str) -> dict[str, str]:
    """The variables that a keeper's environment has so that it is found; nothing below the
    keeper may inherit them (E7). ``owner`` is OpenRequest's."""
    return {WALL: wall, SESSION: session, OWNER: owner}
