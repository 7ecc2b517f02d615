"""The keeper of this wall: the toolkit's, whose program is born in namespaces."""

from __future__ import annotations

from collections.abc import Mapping

from stockade.toolkit.local import keeper
from stockade.toolkit.local.program import Program
from stockade_landlock.birth import Birth, bear

__all__ = ["PROGRAM", "main"]

#: The number under which the owner passes the supervisor's file.
PROGRAM = 3
#: Where a supervisor looks for the count of kills for memory.
_COUNTER = "/sys/fs/cgroup/memory.events"


class Sandbox(Program):
    """A sandbox, whose first process is the supervisor."""

    def launch(self, descriptors: Mapping[int, int]) -> None:
        order = self.order
        birth = Birth.from_message(order.extra)
        root = dict(birth.root)
        if self.counter is not None:
            shown = {"kind": "bind", "place": _COUNTER, "source": self.counter}
            root["steps"] = [*root["steps"], shown]
        self.pid = bear(
            Birth.from_message({**order.extra, "root": root}),
            descriptors[PROGRAM],
            order.argv,
            order.env,
            [descriptors[number] for number in (0, 1, 2)],
            self.join,
        )


def main(descriptor: int) -> None:
    """Run in the keeper's process."""
    keeper.main(descriptor, Sandbox)
