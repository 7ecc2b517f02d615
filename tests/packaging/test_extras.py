"""Core's extras: one for each distribution in plugins/, and ``all`` that means all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from stockade.system.own_files import parse_toml

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))


def project(folder: Path) -> dict[str, Any]:
    path = folder / "pyproject.toml"
    found: dict[str, Any] = parse_toml(path, path.read_bytes(), "see git")["project"]
    return found


EXTRAS: dict[str, list[str]] = project(ROOT / "core")["optional-dependencies"]


def names_of_all() -> set[str]:
    """The extras that ``all`` names, whatever marker stands behind them."""
    lists = [re.search(r"\[([^]]*)\]", line) for line in EXTRAS["all"]]
    return {name for found in lists if found for name in found[1].split(",")}


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_a_plugin_is_an_extra_of_core(folder: Path) -> None:
    wanted = EXTRAS[folder.name]
    assert [line.partition(";")[0].strip() for line in wanted] == [project(folder)["name"]]


def test_all_means_all() -> None:
    assert names_of_all() == set(EXTRAS) - {"all"}


@pytest.mark.parametrize(
    "folder", [ROOT / "core", ROOT / "supervisor", *PLUGINS], ids=lambda folder: folder.name
)
def test_classifiers_contradict_nothing(folder: Path) -> None:
    stated = project(folder)
    lowest = int(stated["requires-python"].partition(">=3.")[2])
    for line in stated["classifiers"]:
        if version := re.fullmatch(r"Programming Language :: Python :: 3\.(\d+)", line):
            assert int(version[1]) >= lowest, line
    assert "Programming Language :: Python :: 3 :: Only" in stated["classifiers"]
    assert len(set(stated["classifiers"])) == len(stated["classifiers"])
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    typed = list(folder.glob("src/*/py.typed")) + list(folder.glob("python/*/py.typed"))
    assert bool(typed) == ("Typing :: Typed" in stated["classifiers"])
