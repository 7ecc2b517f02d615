"""docs/agents.md: the tool for pydantic-ai is run as it stands, with its own scripted model."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from conftest import need

PAGE = (Path(__file__).parents[3] / "docs" / "agents.md").read_text()


def test_the_recipe() -> None:
    need("landlock")
    pytest.importorskip("pydantic_ai", reason="pydantic-ai is not installed")
    from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
    from pydantic_ai.models.function import FunctionModel

    heard: list[str] = []

    def model(messages: list[Any], _: Any) -> ModelResponse:
        last = messages[-1].parts[-1]
        if last.part_kind == "tool-return":
            heard.append(last.content)
            return ModelResponse(parts=[TextPart("done")])
        return ModelResponse(parts=[ToolCallPart("run", {"command": "echo $((6 * 7)); exit 3"})])

    [text] = [
        one for one in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "RunCont" in one
    ]
    assert len(text.splitlines()) <= 20
    names: dict[str, Any] = {}
    exec(compile(text.replace("gvisor:python:3.12-slim | ", ""), "page", "exec"), names)
    with names["agent"].override(model=FunctionModel(model)):
        assert asyncio.run(names["main"]("go")) == "done"
    assert heard == ["42\n\n[exited, exit code 3]"]
