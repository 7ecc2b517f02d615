"""docs/mcp.md: every client's settings start a server that works."""

from __future__ import annotations

import asyncio
import json
import re
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import mcp
import pytest

from conftest import need
from plugins.mcp.serving import call
from plugins.mcp.test_command import server
from plugins.mcp.test_tools import PARAMETERS
from plugins.other_versions import said_first
from stockade_mcp import TESTED
from stockade_mcp.command import main as program

PAGE = (Path(__file__).parents[3] / "docs" / "mcp.md").read_text()
BLOCKS = re.findall(r"```(json|toml|sh)\n(.*?)```", PAGE, re.DOTALL)


def arguments() -> list[list[str]]:
    """Of every block that says how a client starts the server."""
    found = []
    for kind, text in BLOCKS:
        if kind == "json":
            [servers] = json.loads(text).values()
            said: dict[str, Any] = servers["stockade"]
            if "command" in said:
                assert said["command"] == "stockade-mcp"
                found.append(said["args"])
        if kind == "toml":
            assert 'command = "stockade-mcp"' in text
            found.append(json.loads(text.partition("args = ")[2]))
        if kind == "sh":
            lines = [line.split() for line in text.splitlines() if line.startswith("stockade-mcp ")]
            found += [line[1:] for line in lines if "--http" not in line]
    return found


@pytest.mark.parametrize("given", arguments(), ids=" ".join)
def test_a_client_s_settings(given: list[str], tmp_path: Path) -> None:
    need("landlock")
    project = tmp_path / "project"
    (project / ".git" / "hooks").mkdir(parents=True)
    (project / "file").write_text("of the project")
    places = ("/home/you/project", "${workspaceFolder}")
    for place in places:
        given = [word.replace(place, str(project)) for word in given]

    async def main() -> None:
        async with mcp.Client(server(project, *given)) as client:
            done = await call(client, "run_command", command=f"cat {project}/file")
            assert done["stdout"] == "of the project"

    asyncio.run(main())


def test_there_are_as_many_as_clients() -> None:
    assert len(arguments()) == 5


def test_every_option_and_every_tool_stands_there() -> None:
    options = {word for option in program.params for word in option.opts}
    named = set(re.findall(r"`(-p|--[a-z][a-z-]*)", PAGE)) | set(
        re.findall(r"(?<=[ \"])(--[a-z][a-z-]*)", PAGE)
    )
    of_others = {
        "--with",
        "--cli",
        "--method",
        "--tool-name",
        "--tool-arg",
    }  # uvx's, the inspector's
    assert named - of_others <= options
    assert set(re.findall(r"`([a-z]+_[a-z]+)`", PAGE)) == set(PARAMETERS)


def test_an_untested_version_is_warned_of_with_both_numbers() -> None:
    said_first("stockade-mcp", "mcp", TESTED, imports="stockade_mcp", module="mcp")


def test_the_versions_are_the_same_everywhere() -> None:
    for number in TESTED:
        assert number in PAGE
    assert any(f">={TESTED[0][:3]}" in one for one in requires("stockade-mcp") or ())
