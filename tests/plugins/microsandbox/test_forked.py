"""The package in forked children (C12): its threads are the parent's, and it waits for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("stockade_microsandbox", reason="pip install stockade-microsandbox (tox -e vm)")
pytest.importorskip("microsandbox", reason="pip install stockade-microsandbox")

#: Asks the package for its machines, then in a child, then in the child's own child.
_ASKS = """
import os, sys
from stockade_microsandbox.loop import call

def ask():
    from microsandbox import Sandbox

    async def machines():
        return await Sandbox.list()

    return type(call(machines, 60)).__name__

seen = [ask()]
for depth in range(2):
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        # A parent goes on with the part that it has.
        sys.exit(code or seen[0] != ask())
    seen.append(ask())
print(*seen, flush=True)
"""


def test_a_forked_child_and_its_own_child_can_use_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _ASKS],
        env={**os.environ, "MSB_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "SandboxPage SandboxPage SandboxPage\n"
