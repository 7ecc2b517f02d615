"""docs/openai-agents.md: what it shows is run as it stands."""

from __future__ import annotations

import asyncio
import re
import textwrap
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from agents import set_tracing_disabled

from conftest import need
from plugins.openai_agents.scripted import Scripted
from stockade_openai_agents import TESTED, StockadeSandboxClient

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "openai-agents.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_an_agent() -> None:
    need("landlock")
    set_tracing_disabled(True)  # no key, no service
    model = Scripted([("exec_command", {"cmd": "echo $((2+3+5+7))"})])
    names: dict[str, Any] = {"model": model}
    text = BLOCKS[0].replace("gvisor:python:3.12-slim | ", "")
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)  # the SDK would make one, and leave it open
    try:
        exec(compile(text, "page", "exec"), names)
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    assert names["result"].final_output == "done" and "17" in model.heard[0]


def test_resuming(capsys: pytest.CaptureFixture[str]) -> None:
    need("docker")
    text = BLOCKS[1].replace("python:3.12-slim", "stockade-test/work?pull=never")
    whole = "async def work():\n" + textwrap.indent(text, "    ")
    names: dict[str, Any] = {"StockadeSandboxClient": StockadeSandboxClient}
    exec(compile(whole, "page", "exec"), names)
    asyncio.run(names["work"]())
    assert capsys.readouterr().out == "b'kept\\n'\n"


def test_the_versions_are_the_same_everywhere() -> None:
    for number in TESTED:
        assert number in PAGE
        assert number in (ROOT / "plugins" / "openai-agents" / "README.md").read_text()
        assert f"openai-agents=={number}" in (ROOT / "tox.ini").read_text()
    assert any(f">={TESTED[0][:4]}" in one for one in requires("stockade-openai-agents") or ())
