"""The keeper of this wall: the toolkit's, whose program is born in namespaces."""

from __future__ import annotations

import os
from collections.abc import Mapping

from stockade.toolkit.local import keeper
from stockade.toolkit.local.program import Program
from stockade_landlock.birth import PROGRAM, Birth, bear

__all__ = ["main"]


class Sandbox(Program):
    """A sandbox, whose first process is the supervisor."""

    def launch(self, descriptors: Mapping[int, int]) -> None:
        spec = self.spec
        self.pid = bear(
            Birth.from_message(spec.extra),
            spec,
            descriptors[PROGRAM],
            [descriptors[number] for number in (0, 1, 2)],
            self.join,
            self.mounts,
        )
        for made in self.mounts:
            os.close(made)
        self.mounts = []


def main(descriptor: int) -> None:
    """Run in the keeper's process."""
    keeper.main(descriptor, Sandbox)
