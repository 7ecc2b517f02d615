"""The conformance suite: inherit one class, and a wall is held to the contract.

    from stockade.testing import ProviderConformance

    class TestMyWall(ProviderConformance):
        provider = "mywall:target?option=value"

Needs pytest (extra ``testing``). Each check is named after its clause, opens
sessions of its own, cleans up, and has its own time limit. What the wall claims
is checked; what it does not claim must be refused.
"""

from __future__ import annotations

from stockade.testing.base import ConformanceBase, expect
from stockade.testing.group_abc import Configuration, Selection, Sessions
from stockade.testing.group_d import Execution, Output
from stockade.testing.group_e import Isolation
from stockade.testing.group_f import FilesInAndOut
from stockade.testing.group_g import SnapshotsAndPausing

__all__ = ["ProviderConformance", "expect"]


class ProviderConformance(
    Selection, Configuration, Sessions, Execution, Output, Isolation, FilesInAndOut,
    SnapshotsAndPausing, ConformanceBase,
):  # fmt: skip
    """Every check; see :class:`stockade.testing.base.ConformanceBase` for what may be set."""
