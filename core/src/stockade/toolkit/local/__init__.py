"""What walls share whose sandboxes are processes of this machine; promised to strangers' walls.

- ``KeeperProcess`` starts a keeper: a process that starts the sandbox's first program as
  its ``Order`` says, holds it, and ends it with its owner,
- :mod:`~stockade.toolkit.local.cgroups` makes a session's cgroup, of version 1 or 2,
- :mod:`~stockade.toolkit.local.watch` holds memory and cpu where no cgroup can,
- :mod:`~stockade.toolkit.local.seccomp` makes the filter of system calls,
- :mod:`~stockade.toolkit.local.tree` looks at processes through ``/proc``,
- :mod:`~stockade.toolkit.local.leftovers` finds what dead processes left (C9).
"""

from stockade.toolkit.local.order import Order
from stockade.toolkit.local.process import KeeperLostError, KeeperProcess, State

__all__ = ["KeeperLostError", "KeeperProcess", "Order", "State"]
