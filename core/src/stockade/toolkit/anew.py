"""Packages that a forked child has to load anew (C12).

A native part that keeps threads for the whole process has none of them in a forked child,
and every call there would wait for ever. It has no way to start them again; but a second
copy of it starts with nothing. So a child forgets the packages' modules, and the next import
takes the native one from a copy in memory: the loader knows a library by its file, and would
hand out the parent's again.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from stockade.system.forks import in_child

__all__ = ["Anew"]


class Anew:
    """One native module, and the packages that keep anything of it.

    From its making on, forked children load them anew. So import them in functions, and keep
    nothing of theirs in a module of your own. A copy of the native module's file stays in the
    memory of each child that uses it.
    """

    def __init__(self, native: str, *packages: str) -> None:
        """``native`` is the module's full name; its own package is forgotten in any case."""
        self._native = native
        self._packages = {native.partition(".")[0], *packages}
        in_child(self.forget)

    def forget(self) -> None:
        """Have the next import load them anew; called first in a forked child."""
        if self._native not in sys.modules:
            return
        for name in [name for name in sys.modules if name.partition(".")[0] in self._packages]:
            del sys.modules[name]
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The native module in a copy of its file; None for every other (``sys.meta_path``)."""
        if name != self._native:
            return None
        found = importlib.machinery.PathFinder.find_spec(name, path, target)
        if found is None or found.origin is None:
            return found
        place = _copied(name, found.origin)
        loader = importlib.machinery.ExtensionFileLoader(name, place)
        return importlib.util.spec_from_file_location(name, place, loader=loader)


def _copied(name: str, origin: str) -> str:
    """A path to a copy that only this process has, and that no parent has had."""
    copy = os.memfd_create(name)
    with open(origin, "rb") as file:
        left = os.fstat(file.fileno()).st_size
        while left and (sent := os.sendfile(copy, file.fileno(), None, left)):
            left -= sent
    # With the process's number: a library is known by its name as well. The descriptor stays.
    return f"/proc/{os.getpid()}/fd/{copy}"
