"""What walls share whose sandboxes are processes of this machine; promised to strangers' walls.

- ``keeper_command`` starts a process that needs the standard library alone,
- :mod:`~stockade.toolkit.local.link` carries messages and descriptors to it,
- :mod:`~stockade.toolkit.local.cgroups` makes a session's cgroup, of version 1 or 2,
- :mod:`~stockade.toolkit.local.watch` holds memory and cpu where no cgroup can,
- :mod:`~stockade.toolkit.local.seccomp` makes the filter of system calls,
- :mod:`~stockade.toolkit.local.tree` looks at processes through ``/proc``,
- :mod:`~stockade.toolkit.local.leftovers` finds what dead processes left (C9).
"""

from stockade.toolkit.local.bare import keeper_command

__all__ = ["keeper_command"]
