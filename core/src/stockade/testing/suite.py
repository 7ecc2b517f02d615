"""Every check of the contract in one class."""

from __future__ import annotations

from stockade.testing.base import ConformanceBase
from stockade.testing.checks.a_selecting import Selection
from stockade.testing.checks.b_configuring import Configuration
from stockade.testing.checks.c_durable import Durability
from stockade.testing.checks.c_forked import Forked
from stockade.testing.checks.c_left import Leftovers
from stockade.testing.checks.c_sessions import Sessions
from stockade.testing.checks.d_executing import Execution
from stockade.testing.checks.d_hostile import Hostile
from stockade.testing.checks.d_kept import KeptLanguages
from stockade.testing.checks.d_named import NamedInterpreters
from stockade.testing.checks.d_output import Output
from stockade.testing.checks.d_running import Running
from stockade.testing.checks.d_shown import Notebooks
from stockade.testing.checks.d_terminals import Terminals
from stockade.testing.checks.d_trees import Trees
from stockade.testing.checks.e_egress import Egress
from stockade.testing.checks.e_files import HostFiles
from stockade.testing.checks.e_isolation import Isolation
from stockade.testing.checks.e_kept_memory import Kept
from stockade.testing.checks.e_limits import Limits
from stockade.testing.checks.e_mounts import Mounts
from stockade.testing.checks.e_ports import Ports
from stockade.testing.checks.e_secrets import Secrets
from stockade.testing.checks.f_files import FilesInAndOut
from stockade.testing.checks.f_trees import FilesAsTheyAre
from stockade.testing.checks.f_watch import Watching
from stockade.testing.checks.g_snapshots import SnapshotsAndPausing

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
    Running,
    Terminals,
    Trees,
    Hostile,
    NamedInterpreters,
    Notebooks,
    KeptLanguages,
    Isolation,
    Ports,
    Mounts,
    Egress,
    Secrets,
    Limits,
    Kept,
    HostFiles,
    FilesInAndOut,
    FilesAsTheyAre,
    Watching,
    SnapshotsAndPausing,
    ConformanceBase,
):
    """Every check; see :class:`stockade.testing.base.ConformanceBase` for what may be set."""

    whole = True
