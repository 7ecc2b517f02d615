"""Plug-ins that `stockade new-plugin` wrote, really built and installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH in which the template's wall is installed as `plain`."""
    folder = tmp_path_factory.mktemp("kit")
    command = [sys.executable, "-m", "stockade.cli", "new-plugin", "plain"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    target = folder / "site"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "-q",
            "install",
            "--no-deps",
            "--no-build-isolation",
            "--target",
            str(target),
            "./stockade-plain",
        ],
        cwd=folder,
        check=True,
    )
    return target


@pytest.fixture(scope="session")
def beside(site: Path) -> dict[str, str]:
    """The environment in which it is found."""
    places = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
