"""Wheels are built, installed in a clean environment, and used there as a newcomer would."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: They bring the framework that they adapt to; tox's `adapters` and `inspect` use them.
ADAPTERS = (
    "pytest_stockade-",
    "stockade_deepagents-",
    "stockade_harbor-",
    "stockade_inspect-",
    "stockade_jupyter-",
    "stockade_mcp-",
    "stockade_openai_agents-",
    "stockade_smolagents-",
)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("wheels")
    plugins = map(str, sorted((ROOT / "plugins").iterdir()))
    sources = [str(ROOT / "core"), str(ROOT / "supervisor"), *plugins]
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "-q",
            "wheel",
            "--no-deps",
            "--no-build-isolation",
            "--ignore-requires-python",  # Harbor's adapter is for newer ones
            "-w",
            str(folder),
            *sources,
        ],
        check=True,
    )
    return sorted(folder.glob("*.whl"))


def test_each_wheel_is_typed_and_holds_its_package_alone(wheels: list[Path]) -> None:
    assert len(wheels) == 2 + len(list((ROOT / "plugins").iterdir()))
    for wheel in wheels:
        names = zipfile.ZipFile(wheel).namelist()
        package = wheel.name.partition("-")[0]
        assert f"{package}/py.typed" in names
        assert {name.partition("/")[0].partition("-")[0] for name in names} == {package}


def test_core_needs_three_packages(wheels: list[Path]) -> None:
    core = next(wheel for wheel in wheels if wheel.name.startswith("stockade-"))
    with zipfile.ZipFile(core) as archive:
        name = next(n for n in archive.namelist() if n.endswith("METADATA"))
        lines = archive.read(name).decode().splitlines()
    needs = sorted(
        line.removeprefix("Requires-Dist: ")
        for line in lines
        if line.startswith("Requires-Dist") and "extra ==" not in line
    )
    assert [need.partition("<")[0].partition(">")[0] for need in needs] == [
        "attrs",
        "importlib-metadata",
        "pluggy",
    ]
    assert "<10" in needs[1]


def test_no_wheel_offers_a_provider_that_isolates_nothing(wheels: list[Path]) -> None:
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            stated = [n for n in archive.namelist() if n.endswith("entry_points.txt")]
            for name in stated:
                text = archive.read(name).decode()
                assert "stockade.testing" not in text and "no-isolation" not in text, wheel.name


def test_a_clean_environment(wheels: list[Path], tmp_path: Path, landlock: str) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    programs = tmp_path / "venv" / "bin"
    walls = [str(wheel) for wheel in wheels if not wheel.name.startswith(ADAPTERS)]
    subprocess.run([str(programs / "pip"), "-q", "install", "click", "rich", *walls], check=True)
    for arguments, says in (
        (["--version"], "stockade, version"),
        (["providers"], "landlock"),
        (["run", "--", "echo", "hi"], "hi"),
    ):
        done = subprocess.run(
            [str(programs / "stockade"), *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0 and says in done.stdout, done.stderr
