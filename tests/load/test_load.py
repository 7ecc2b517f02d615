"""Many sessions at a time, with reduced counts; benchmarks/load.py has the full ones.

Each run is a program of its own, so that what the host process holds at the end is
stockade's alone. STOCKADE_LOAD=full makes 1,000 sessions (300 with an engine) and soaks
for STOCKADE_SOAK seconds, 600 by default.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import need

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "load.py"
FULL = os.environ.get("STOCKADE_LOAD") == "full"
LANDLOCK, DOCKER = "landlock", "docker:stockade-test/busybox"
#: Sessions and how many at a time.
COUNTS = {LANDLOCK: (1000, 50), DOCKER: (300, 50)} if FULL else {LANDLOCK: (20, 10), DOCKER: (8, 4)}
SOAK = float(os.environ.get("STOCKADE_SOAK", "600" if FULL else "3"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600 if FULL else 120)]


def load(string: str, *arguments: str) -> None:
    """Run it; the test fails with its words unless all is as before."""
    need(string.partition(":")[0])
    done = subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAM), string, "--idle-seconds", "1", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Exception" not in done.stderr, done.stderr


@pytest.mark.parametrize("string", [LANDLOCK, DOCKER])
def test_the_host_process_is_as_it_was(string: str) -> None:
    """With threads, with asyncio, and by callers that time out, cancel and leave early."""
    count, at_once = COUNTS[string]
    load(
        string,
        "--sessions",
        str(count),
        "--at-once",
        str(at_once),
        "--mode",
        "both",
        "--soak",
        str(SOAK),
        "--callers",
        "10" if FULL else "4",
    )
