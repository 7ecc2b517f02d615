"""Start a keeper: a Python process that has the standard library and these modules, no more."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence

from stockade.errors import SandboxStartError

__all__ = ["keeper_command"]

_PACKAGES = ("stockade", "stockade.toolkit", "stockade.toolkit.local")
#: The packages' own code imports what a keeper does not need and may not have.
_BOOT = """
import sys, types
for name, paths in {packages!r}:
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = paths
from {module} import main
main({control})
"""


def keeper_command(module: str, control: int, packages: Sequence[str] = ()) -> list[str]:
    """The command line of a process that calls ``module.main(control)``.

    ``control`` is the number of a descriptor that the process inherits. ``packages`` are those
    of the wall's own that ``module`` needs beside the toolkit. None of the packages' own code
    (``__init__``) runs, and neither does site, so what is imported there may use the standard
    library and submodules of these packages alone.

    Raises SandboxStartError if a package is not to be found as files.
    """
    found = []
    for name in dict.fromkeys((*_PACKAGES, *packages)):
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise SandboxStartError(
                f"the package {name} is not there as files; reinstall it with pip.",
                retryable=False,
            )
        found.append((name, list(spec.submodule_search_locations)))
    code = _BOOT.format(packages=found, module=module, control=control)
    return [sys.executable, "-I", "-S", "-c", code]
