"""docs/smolagents.md: its code runs, its numbers are those of the tests."""

from __future__ import annotations

import re
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest

from conftest import need
from plugins.other_versions import said_first
from plugins.smolagents.test_agent import Scripted
from stockade_smolagents import TESTED

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "smolagents.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_its_code(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    need("landlock")
    need("docker")
    code = block.replace("python:3.12-slim", "stockade-test/work")
    names: dict[str, Any] = {"model": Scripted("print(6 * 7)", "final_answer(6 * 7)")}
    exec(compile(code, "page", "exec"), names)
    assert "42" in capsys.readouterr().out


def test_another_version_is_warned_of_with_both_numbers() -> None:
    said_first(
        "stockade-smolagents",
        "smolagents",
        TESTED,
        imports="stockade_smolagents",
        module="smolagents",
    )


def test_the_versions_are_the_same_everywhere() -> None:
    [number] = set(TESTED)
    assert number in PAGE
    assert number in (ROOT / "plugins" / "smolagents" / "README.md").read_text()
    assert f"smolagents=={number}" in (ROOT / "tox.ini").read_text()
    assert any(">=1.26" in one for one in requires("stockade-smolagents") or ())
