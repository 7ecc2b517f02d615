"""Every check of the contract in one class."""

from __future__ import annotations

from stockade.testing.base import ConformanceBase
from stockade.testing.group_a import Selection
from stockade.testing.group_b import Configuration
from stockade.testing.group_c import Sessions
from stockade.testing.group_c_durable import Durability
from stockade.testing.group_c_forked import Forked
from stockade.testing.group_c_left import Leftovers
from stockade.testing.group_d import Execution
from stockade.testing.group_d_hostile import Hostile
from stockade.testing.group_d_named import NamedInterpreters
from stockade.testing.group_d_output import Output
from stockade.testing.group_d_trees import Trees
from stockade.testing.group_e import Isolation
from stockade.testing.group_e_files import HostFiles
from stockade.testing.group_e_kept import Kept
from stockade.testing.group_e_limits import Limits
from stockade.testing.group_f import FilesInAndOut
from stockade.testing.group_f_more import FilesAsTheyAre
from stockade.testing.group_g import SnapshotsAndPausing

__all__ = ["ProviderConformance"]


class ProviderConformance(
    Selection,
    Configuration,
    Sessions,
    Durability,
    Leftovers,
    Forked,
    Execution,
    Output,
    Trees,
    Hostile,
    NamedInterpreters,
    Isolation,
    Limits,
    Kept,
    HostFiles,
    FilesInAndOut,
    FilesAsTheyAre,
    SnapshotsAndPausing,
    ConformanceBase,
):
    """Every check; see :class:`stockade.testing.base.ConformanceBase` for what may be set."""
