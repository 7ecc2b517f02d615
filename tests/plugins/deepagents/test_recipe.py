"""docs/agents.md: the tool for LangChain is run as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from conftest import need
from plugins.deepagents.scripted import Scripted, said

PAGE = (Path(__file__).parents[3] / "docs" / "agents.md").read_text()


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # langgraph's own
def test_the_recipe() -> None:
    need("landlock")
    [text] = [one for one in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "@tool" in one]
    assert len(text.splitlines()) <= 20
    names: dict[str, Any] = {}
    exec(compile(text.replace("gvisor:python:3.12-slim | ", ""), "page", "exec"), names)
    heard: list[str] = []

    def last(messages: Any) -> tuple[str, dict[str, Any]]:
        heard.extend(said(messages))
        return "run", {"command": "true"}

    script = [("run", {"command": "echo $((6 * 7)); exit 3"}), last]
    assert names["main"](Scripted(script=script), "go") == "done"
    assert heard == ["42\n\n[exited, exit code 3]"]
