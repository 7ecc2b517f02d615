"""The package, loaded anew in a forked child (C12).

Its native part keeps one set of threads for the whole process. A forked child has none of
them, so every call there would wait for ever. The part has no way to start them again; but
a second copy of it starts with nothing. So a child forgets the package's modules, and the
next import takes the native one from a copy in memory: the loader knows a library by its
file, and would hand out the parent's again.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import ModuleType

__all__ = ["forget"]

_PACKAGE = "microsandbox"
_NATIVE = f"{_PACKAGE}._microsandbox"


class _Copies:
    """Finds the native part in a copy of its file: 42 MB, of each child that uses the package."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _NATIVE:
            return None
        found = importlib.machinery.PathFinder.find_spec(name, path, target)
        if found is None or found.origin is None:
            return found
        place = _copied(found.origin)
        loader = importlib.machinery.ExtensionFileLoader(name, place)
        return importlib.util.spec_from_file_location(name, place, loader=loader)


def _copied(origin: str) -> str:
    """A path to a copy that only this process has, and that no parent has had."""
    copy = os.memfd_create(_NATIVE)
    with open(origin, "rb") as file:
        left = os.fstat(file.fileno()).st_size
        while left and (sent := os.sendfile(copy, file.fileno(), None, left)):
            left -= sent
    # With the process's number: a library is known by its name as well. The descriptor stays.
    return f"/proc/{os.getpid()}/fd/{copy}"


def forget() -> None:
    """Have the next import load the package anew; called first in a forked child."""
    if _NATIVE not in sys.modules:
        return
    for name in [name for name in sys.modules if name.partition(".")[0] == _PACKAGE]:
        del sys.modules[name]
    if _Copies not in sys.meta_path:
        sys.meta_path.insert(0, _Copies)
