"""Where sandboxes live, said so that another process finds them again, later (C9).

What leads a wall to its engine (options, environment, contexts, a current folder) may say
something else by then. So a wall says where a sandbox lives when it is opened, the ledger
keeps that, and a process that looks for the sandbox or attaches to it looks there.
"""

from __future__ import annotations

import attrs

from stockade.system.owner import Owner, same_machine, same_space, this_space

__all__ = ["Place"]


@attrs.frozen
class Place:
    """One place, in a wall's own word; made by ``here`` and ``anywhere``.

    ``str()`` writes it for the ledger, ``parse`` reads that.
    """

    #: Such as an engine's URL or a folder; no secret, and complete: with it and the
    #: session's options alone the wall finds the place again. Empty if it has just one.
    word: str = ""
    #: The machine, boot and namespace (:func:`stockade.system.owner.this_space`) in which it was
    #: said, where it means something else in others; empty if it means the same in all.
    seen_by: str = ""

    @classmethod
    def here(cls, word: str = "") -> Place:
        """A place of this machine, or of what this process sees of it: its processes, a
        folder, a local socket."""
        return cls(word, this_space())

    @classmethod
    def anywhere(cls, word: str) -> Place:
        """A place that every machine reaches by the same word: a service's URL."""
        return cls(word)

    def __str__(self) -> str:
        return f"{self.seen_by or '-'} {self.word}"

    @classmethod
    def parse(cls, text: str) -> Place | None:
        """What ``str()`` wrote, or None: an older stockade kept no place."""
        seen_by, blank, word = text.partition(" ")
        if not blank or (seen_by != "-" and Owner.parse(seen_by) is None):
            return None
        return cls(word, "" if seen_by == "-" else seen_by)

    @property
    def sure(self) -> bool:
        """Whether the word surely means the same place to this process."""
        return not self.seen_by or same_space(self.seen_by)

    @property
    def elsewhere(self) -> bool:
        """Whether it surely is a place of another machine, which the word would miss here."""
        return bool(self.seen_by) and same_machine(self.seen_by) is False
