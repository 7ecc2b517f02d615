"""The supervisor's program as a file of nobody's, once for all sessions of this process.

The user that the code runs as may execute it, wherever and however the package is installed, and
no path of the sandbox leads to it (E7).
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os

__all__ = ["descriptor"]

#: From Linux 6.3 on a file like this says that it will be run.
_MFD_EXEC = 0x10
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@functools.cache
def descriptor() -> int:
    """Of the program; it stays open. Raises OSError, stockade_supervisor.UnknownMachineError."""
    import stockade_supervisor  # the walls' dependency, not core's

    usual = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    for flags in (usual | _MFD_EXEC, usual):
        with contextlib.suppress(OSError):
            made = os.memfd_create("stockade-supervisor", flags)
            return _filled(made, stockade_supervisor.content())
    # Where the machine allows no such file to be run.
    return os.open(stockade_supervisor.binary(), os.O_RDONLY | os.O_CLOEXEC)


def _filled(made: int, content: bytes) -> int:
    left = memoryview(content)
    while left:
        left = left[os.write(made, left) :]
    fcntl.fcntl(made, fcntl.F_ADD_SEALS, _SEALS)
    return made
