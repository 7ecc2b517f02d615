"""Where a link of a tree from a sandbox may lead on this machine (F3)."""

from __future__ import annotations

import os
import sys
import unicodedata

__all__ = ["Node", "leads_out", "safe_target", "same"]


class Node:
    """A folder or a link as the tree makes it, by name; paths are walked from the top."""

    __slots__ = ("below", "is_link", "made")

    def __init__(self) -> None:
        self.below: dict[str, Node] = {}
        self.is_link = False
        self.made = False  # whether it was made on this machine, or found to be a real folder


def safe_target(top: Node, parts: list[str], target: str) -> str:
    """Where a link may lead: up, no further than the destination's top, and down from there.

    A ``..`` after a word means what that word is, and a later tree may make a link of it;
    so none stays there. Links that all are of this form lead out in no combination.
    ``parts`` are the link's own place below ``top``. Raises ValueError for what cannot be so.
    """
    above = [top]
    for part in parts[:-1]:
        above.append(above[-1].below[same(part)])
    words: list[tuple[str, Node | None]] = []
    ups, resolved = 0, False
    if target.startswith("/") or not target:
        raise ValueError(f"it is a link to {target!r}, which leads out")
    for part in target.split("/"):
        if part in ("", "."):
            continue
        last = words[-1][1] if words else above[-1]
        if last is not None and last.is_link:
            raise ValueError(f"it is a link to {target!r}, through another link")
        if part != "..":
            words.append((part, None if last is None else last.below.get(same(part))))
        elif words:
            if last is None or not last.made:
                raise ValueError(
                    f"it is a link to {target!r}, which goes up from what is no folder of the tree"
                )
            words.pop()
            resolved = True
        elif len(above) == 1:
            raise ValueError(f"it is a link to {target!r}, which leads out")
        else:
            above.pop()
            ups += 1
    if not resolved:
        return target
    return "/".join([".."] * ups + [word for word, _ in words]) or "."


def leads_out(root: str, folder: str, target: str) -> bool:
    """Whether a link in a folder below ``root`` would, as things are now."""
    at = folder
    for part in target.split("/"):
        at = os.path.join(at, part)
        if not os.path.lexists(at):
            break  # nothing that is there can change the way of what follows
    top = os.path.realpath(root)
    return os.path.commonpath([top, os.path.realpath(at)]) != top


def same(part: str) -> str:
    """What a name is to the file system: on some, other spellings are the same."""
    if sys.platform in ("darwin", "win32"):
        return unicodedata.normalize("NFC", part).casefold()
    return part
