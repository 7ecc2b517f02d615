"""Packages that a forked child loads anew, shown with a native module that is there."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

NATIVE = "coverage.tracer"

_FORKS = """
import importlib, os, sys, types
from stockade.toolkit.anew import Anew

native = sys.argv[1]
anew = Anew(native, "holder")
kept = importlib.import_module(native)
for name in ("holder", "holder.part", "another"):
    sys.modules[name] = types.ModuleType(name)
child = os.fork()
if child:
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert importlib.import_module(native) is kept and "holder" in sys.modules
    sys.exit(code)
forgotten = (native, "coverage", "holder", "holder.part")
assert not [name for name in forgotten if name in sys.modules] and "another" in sys.modules
again = importlib.import_module(native)
assert again is not kept and again.__file__ != kept.__file__, again
assert importlib.import_module(native) is again
grandchild = os.fork()
if grandchild:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]))
assert importlib.import_module(native).__file__ not in (kept.__file__, again.__file__)
"""


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux")
def test_a_forked_child_has_a_copy_of_its_own_and_so_has_its_child() -> None:
    found = importlib.util.find_spec(NATIVE)
    if found is None or not str(found.origin).endswith(".so"):
        pytest.skip(f"{NATIVE} has no native part here")
    done = subprocess.run(
        [sys.executable, "-c", _FORKS, NATIVE], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
