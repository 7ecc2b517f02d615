"""docs/inspect.md: what it shows is taken as it stands."""

from __future__ import annotations

import re
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from inspect_ai.util import SandboxEnvironmentSpec

import stockade
from conftest import need
from stockade_inspect import TESTED
from stockade_inspect.compose import _HELD
from stockade_inspect.config import wanted
from stockade_inspect.registered import types

PAGE = (Path(__file__).parents[3] / "docs" / "inspect.md").read_text()


def block(kind: str) -> str:
    [found] = re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


def test_the_compose_file(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text(block("yaml"))
    found = wanted(str(path), "", {})
    assert [one.name for one in found] == ["default", "victim"]
    assert not any(one.notes for one in found)
    need("docker")
    need("gvisor")
    for one in found:
        wall = stockade.provider(one.preference, **one.fields)
        assert wall.name == "gvisor" and wall.wall.target == "python:3.12-slim"


def test_every_key_that_is_held_stands_there() -> None:
    beside = {"x_default", "entrypoint", "privileged", "deploy", "build"}
    assert {name for name in _HELD if name not in beside} <= set(re.findall(r"\w+", PAGE))


def test_stockade_toml(tmp_path: Path) -> None:
    path = tmp_path / "stockade.toml"
    path.write_text(block("toml"))
    (one,) = wanted(str(path), "", {})
    assert one.provider.startswith("gvisor:python:3.12-slim?memory_mb=2048")


def test_the_task_in_python() -> None:
    names: dict[str, Any] = {}
    exec(compile(block("python"), "page", "exec"), names)
    spec = names["careful"]().sandbox
    assert isinstance(spec, SandboxEnvironmentSpec)
    assert wanted(spec.config, "", {})[0].provider.endswith("| landlock")


def test_the_types_that_it_names_are_there() -> None:
    named = set(re.findall(r"`(stockade-(?:docker|gvisor|landlock|bubblewrap))`", PAGE))
    assert len(named) == 4 and named <= set(types())


@pytest.mark.parametrize("number", TESTED)
def test_the_versions_are_the_same_everywhere(number: str) -> None:
    folder = Path(__file__).parents[3]
    assert number in PAGE
    assert number in (folder / "plugins" / "inspect" / "README.md").read_text()
    assert f"inspect-ai=={TESTED[1]}" in (folder / "tox.ini").read_text()
    assert any(f">={TESTED[0]}" in one for one in requires("stockade-inspect") or ())
