"""What an adapter says of a version of its framework that no test ran with."""

from __future__ import annotations

import subprocess
import sys

from stockade.system.versions import untested

__all__ = ["said_first"]

#: Importing the framework fails here, as with a version that lacks what the adapter imports.
_IMPORT = """
import importlib, importlib.metadata, sys

adapter, framework, module, number = sys.argv[1:]
really = importlib.metadata.version
importlib.metadata.version = lambda name: number if name == framework else really(name)
sys.modules[module] = None
importlib.import_module(adapter)
"""


def said_first(
    adapter: str, framework: str, tested: tuple[str, str], *, imports: str, module: str
) -> None:
    """Versions before and after the tested ones are warned of, before an import fails; those
    that are here are not.

    ``adapter`` and ``framework`` are distributions, ``imports`` and ``module`` what is imported
    of them.
    """
    assert untested(adapter, framework, *tested) is None, "the tests ran with it: say so in TESTED"
    for number in ("0.0.9", "99.1"):
        done = subprocess.run(
            [sys.executable, "-c", _IMPORT, imports, framework, module, number],
            capture_output=True,
            text=True,
            check=False,
        )
        numbers = tested[0] if tested[0] == tested[1] else " to ".join(tested)
        said = f"{adapter} is tested with {framework} {numbers}, and {number} is installed"
        warning, _, failure = done.stderr.partition("Traceback")
        assert said in warning, done.stderr
        assert done.returncode == 1 and "ModuleNotFoundError" in failure, done.stderr
