"""docs/deepagents.md: what it shows is run as it stands."""

from __future__ import annotations

import asyncio
import re
import textwrap
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import tomllib

from conftest import need
from plugins.deepagents.scripted import Scripted, said
from stockade_deepagents import TESTED

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "deepagents.md").read_text()
# langgraph's own: what it will change.
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def model() -> Scripted:
    return Scripted(script=[("execute", {"command": "echo $((2+3+5+7))"})])


def test_an_agent() -> None:
    need("landlock")
    names: dict[str, Any] = {"model": model()}
    exec(
        compile(blocks("python")[0].replace("gvisor:python:3.12-slim", "local"), "page", "exec"),
        names,
    )
    assert said(names["done"]["messages"])[0].startswith("17\n")
    assert str(names["backend"].session.status) == "destroyed"


def test_an_agent_that_is_awaited() -> None:
    need("landlock")
    whole = "async def work():\n" + textwrap.indent(blocks("python")[1] + "return done\n", "    ")
    names: dict[str, Any] = {"model": model()}
    exec("from deepagents import create_deep_agent\n", names)
    exec("from stockade_deepagents import StockadeBackend\n", names)
    exec(compile(whole, "page", "exec"), names)
    assert said(asyncio.run(names["work"]())["messages"])[0].startswith("17\n")


def test_the_configuration_file(tmp_path: Path) -> None:
    code = pytest.importorskip("deepagents_code.integrations.sandbox_registry")
    path = tmp_path / "config.toml"
    path.write_text(blocks("toml")[0])
    registry = code.SandboxRegistry.load(path)
    assert registry.default == "stockade" and registry.config_error is None
    assert type(registry.create_provider("stockade")).__name__ == "StockadeProvider"
    assert registry.get_params("stockade")["memory_mb"] == 2048
    assert tomllib.loads(blocks("toml")[0])["sandboxes"]["default"] == "stockade"


def test_the_versions_are_the_same_everywhere() -> None:
    for number in TESTED:
        assert number in PAGE
        assert number in (ROOT / "plugins" / "deepagents" / "README.md").read_text()
        assert f"deepagents=={number}" in (ROOT / "tox.ini").read_text()
    assert any(f">={TESTED[0]}" in one for one in requires("stockade-deepagents") or ())
