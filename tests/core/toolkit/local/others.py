"""Code of this machine's other users: what local walls keep is asked by them, too."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import attrs
import pytest

import stockade
import stockade_supervisor
from stockade.toolkit.local import host

__all__ = ["python_for_others", "run_as_other"]

_NOBODY = 65534


def python_for_others(*, reads: bool = True) -> tuple[str, dict[str, str]]:
    """A Python that every user may run, and the variables with which it finds stockade.

    This interpreter may live in root's home; the system's own of the same version will do.
    Skips where there is none, or where others may not read stockade and ``reads`` says that
    they do.
    """
    program = f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
    if not os.path.exists(program):
        pytest.skip(f"needs {program}, which other users may run")
    modules = (stockade, attrs, stockade_supervisor)
    folders = [Path(module.__file__ or "").parent for module in modules]
    if reads and not all(host.reachable(str(one), _NOBODY, by_path=True) for one in folders):
        pytest.skip("stockade is installed where other users may not read")
    # The system's Python has a library of its own, of its own build.
    library = sysconfig.get_path("stdlib")
    paths = [path for path in sys.path if path and not Path(path).is_relative_to(library)]
    return program, {
        "PYTHONPATH": ":".join([*paths, *(str(folder.parent) for folder in folders)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PATH": os.environ["PATH"],
    }


def run_as_other(
    code: str, *arguments: str, reads: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run code that begins as root and goes on as another user, who ``reads`` stockade or not."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    program, env = python_for_others(reads=reads)
    return subprocess.run(
        [program, "-c", code, *arguments],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        timeout=100,
    )
