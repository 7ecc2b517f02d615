"""What walls share whose sandboxes are processes of this machine; promised to anybody's walls.

- ``LocalWall`` is such a wall, all of it but how a sandbox is born,
- ``Plan`` is what it is given then: the ``Root`` that it makes (steps that are the wall's to
  take), the filter of system calls, limits, ids,
- ``KeeperProcess`` starts a keeper: a process that starts the sandbox's first program as
  its ``KeeperSpec`` says, holds it, and ends it with its owner,
- ``LocalSandbox`` is a session over a keeper and the link to the supervisor,
- :mod:`~stockade.toolkit.local.host` says what this machine has,
- :mod:`~stockade.toolkit.local.cgroups` makes a session's cgroup, of version 1 or 2,
- :mod:`~stockade.toolkit.local.watch` holds memory and cpu where no cgroup can,
- :mod:`~stockade.toolkit.local.seccomp` makes the filter of system calls,
- :mod:`~stockade.toolkit.local.kernel` makes the calls that Python has no name for,
- :mod:`~stockade.toolkit.local.tree` looks at processes through ``/proc``,
- :mod:`~stockade.toolkit.local.leftovers` finds what dead processes left (C9),
- :mod:`~stockade.toolkit.local.supervisor`, :mod:`~stockade.toolkit.local.limits`,
  :mod:`~stockade.toolkit.local.procfs`, :mod:`~stockade.toolkit.local.root` and
  :mod:`~stockade.toolkit.local.calls` are the parts that a sandbox's birth is made of,
- :mod:`~stockade.toolkit.local.keeper`, :mod:`~stockade.toolkit.local.program`,
  :mod:`~stockade.toolkit.local.spec` and :mod:`~stockade.toolkit.local.bare` are what runs in a
  keeper's process, for a wall with a keeper of its own.
"""

from stockade.toolkit.local.process import KeeperLostError, KeeperProcess, State
from stockade.toolkit.local.root import Root
from stockade.toolkit.local.sandbox import LocalSandbox, Plan
from stockade.toolkit.local.spec import KeeperSpec, Shown
from stockade.toolkit.local.wall import LocalWall

__all__ = [
    "KeeperLostError",
    "KeeperProcess",
    "KeeperSpec",
    "LocalSandbox",
    "LocalWall",
    "Plan",
    "Root",
    "Shown",
    "State",
    "bare",
    "calls",
    "cgroups",
    "host",
    "keeper",
    "kernel",
    "leftovers",
    "limits",
    "procfs",
    "program",
    "root",
    "seccomp",
    "spec",
    "supervisor",
    "tree",
    "watch",
]
