"""What a session has on the host: one folder, which a killed process leaves (C9).

Its processes end with their owner by themselves; the folder bears the session's id in its name,
and in it stands who its owner is.
"""

from __future__ import annotations

import os
import shutil
import tempfile

from stockade.wall import Leftover

__all__ = ["all_of", "make", "remove"]

_PREFIX = "stockade-hyperlight-"
#: A link that leads nowhere: made in one step, and its text is the owner.
_OWNER = ".owner"


def make(session_id: str, owner: str, place: str) -> str:
    """A new folder for a session, that its user alone may enter. Raises OSError."""
    folder = tempfile.mkdtemp(prefix=f"{_PREFIX}{session_id}.", dir=place)
    os.symlink(owner or "-", os.path.join(folder, _OWNER))
    return folder


def all_of(place: str) -> list[Leftover]:
    """This user's sessions at a place, whoever made them, dead ones too. Raises OSError."""
    found = []
    with os.scandir(place) as entries:
        for entry in entries:
            if _is_ours(entry):
                session_id = entry.name[len(_PREFIX) :].partition(".")[0]
                found.append(
                    Leftover(
                        session_id=session_id,
                        handle=entry.path,
                        owner=_owner(entry.path),
                        words=f"folder {entry.path}",
                    )
                )
    return found


def remove(handle: str) -> None:
    """Remove such a folder; gone already is well too. Raises OSError."""
    if os.path.basename(handle).startswith(_PREFIX) and os.path.lexists(handle):
        shutil.rmtree(handle)


def _is_ours(entry: os.DirEntry[str]) -> bool:
    """Others may put what they like into a folder for temporary files."""
    try:
        return (
            entry.name.startswith(_PREFIX)
            and entry.is_dir(follow_symlinks=False)
            and entry.stat(follow_symlinks=False).st_uid == os.geteuid()
        )
    except OSError:  # it went away meanwhile
        return False


def _owner(folder: str) -> str:
    """Empty for one that is half made: its age says nothing, so nobody's it is."""
    try:
        owner = os.readlink(os.path.join(folder, _OWNER))
    except OSError:
        return ""
    return "" if owner == "-" else owner
