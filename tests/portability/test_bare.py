"""Core where Linux's own calls are missing: it imports, and its unit tests run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Walls that are made of what Linux alone has.
LINUX_WALLS = {"bubblewrap", "hyperlight", "landlock", "microsandbox"}
#: Programs that run in a sandbox, and what is said to be for walls of Linux alone.
ELSEWHERE = r"stockade\.toolkit\.local\b"
PROGRAM = f"""
import portability.bare
import importlib, pkgutil, re
import stockade
for name in stockade.__all__:
    getattr(stockade, name)
for found in pkgutil.walk_packages(stockade.__path__, "stockade.", onerror=lambda _: None):
    if not re.match({ELSEWHERE!r}, found.name):
        importlib.import_module(found.name)
print("imported")
"""


def check_imports(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT / "tests",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "imported\n", done.stderr


def check_tests(arguments: Sequence[str], *, more_than: int) -> None:
    """None fails, and more of them than that pass."""
    with tempfile.TemporaryDirectory(prefix="bare-") as folder:
        # A socket's path may have 107 bytes, and pytest's own folders are long.
        own = ["-p", "portability.bare", "-p", "no:cacheprovider", f"--basetemp={folder}/base"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *own, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    found = re.search(r"(\d+) passed", done.stdout)
    assert found is not None and int(found[1]) > more_than, done.stdout[-500:]


def test_all_of_core_imports() -> None:
    check_imports(PROGRAM)


#: What is quick and asks no wall; the plug-in says what of it needs Linux.
UNITS = (
    ("", ("config", "file_backend", "wall_defaults")),
    ("aio/", ("aio", "aio_parity")),
    ("executions/", ("execution", "languages", "no_deadline", "output")),
    ("files/", ("archives", "copies")),
    ("ledger/", ("ledger",)),
    ("policies/", ("audit", "hooks")),
    ("selection/", ("spec",)),
    ("sessions/", ("capacity", "opening", "registry", "settings", "terminals")),
    ("system/", ("workers",)),
    ("toolkit/processes/", ("pump",)),
)


def test_cores_unit_tests_run() -> None:
    files = [f"tests/core/{folder}test_{name}.py" for folder, names in UNITS for name in names]
    check_tests(files, more_than=600)


CONTAINERS = """
import portability.bare
import importlib, pkgutil
for name in ("stockade_docker", "stockade_gvisor", "stockade_kata"):
    package = importlib.import_module(name)
    for found in pkgutil.walk_packages(package.__path__, f"{name}."):
        importlib.import_module(found.name)
from stockade_docker import etc
assert isinstance(etc.leftovers(), list)  # of other tests' sessions, maybe
print("imported")
"""
#: What of the container walls asks no engine.
CONTAINER_UNITS = ("identity", "images", "remedies", "seccomp", "ways_there", "container")


def test_the_container_walls_import_and_their_unit_tests_run() -> None:
    check_imports(CONTAINERS)
    files = [f"tests/plugins/docker/test_{name}.py" for name in CONTAINER_UNITS]
    check_tests(["-m", "not engine", *files], more_than=10)


def test_classifiers_say_only_what_is_so() -> None:
    """Core is tested where Linux's own is missing; a wall names the system that it needs."""
    for path in [ROOT / "core/pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")]:
        systems = re.findall(r'"Operating System :: ([^"]+)"', path.read_text())
        name = path.parent.name
        if name == "core":
            assert systems == ["OS Independent"], "what of it needs one says so by name"
        elif name in LINUX_WALLS:
            assert systems == ["POSIX :: Linux"], name
        else:
            assert systems in (["OS Independent"], ["POSIX"], []), name
