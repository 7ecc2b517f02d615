"""The supervisor built from its source with sanitizers, where there is a compiler."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "supervisor" / "src"
FLAGS = (
    "-std=c11",
    "-D_GNU_SOURCE",
    "-g",
    "-O1",
    "-Wall",
    "-Wextra",
    "-Wno-clobbered",  # a child of vfork changes none of them
    "-Werror",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
)


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A build that ends, saying why, at the first access or number that is not allowed."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler here; apt-get install gcc")
    target = tmp_path_factory.mktemp("supervisor") / "supervisor"
    sources = sorted(map(str, SOURCE.glob("*.c")))
    done = subprocess.run(
        [compiler, *FLAGS, "-o", str(target), *sources], capture_output=True, text=True, check=False
    )
    if "cannot find -lasan" in done.stderr or "libasan" in done.stderr:
        pytest.skip("this compiler has no sanitizers; apt-get install libasan8")
    assert done.returncode == 0, done.stderr
    return str(target)
