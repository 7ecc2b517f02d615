"""Deep agents with a scripted model, whose tools work behind real walls."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest
from deepagents import create_deep_agent
from deepagents.backends import CompositeBackend, StateBackend
from langchain_core.messages import BaseMessage

import stockade
from conftest import need
from plugins.deepagents.scripted import Scripted, said
from stockade_deepagents import StockadeBackend, StockadeSandbox

# langgraph's own: what it will change.
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")

WALLS = ["local", "docker:stockade-test/work?pull=never"]
ASKED: Any = {"messages": [("user", "go")]}
#: More than the framework shows a model, with its end told apart from the rest.
LARGE = "seq 1 200000; echo the very end; exit 3"


@pytest.fixture(scope="module", params=WALLS)
def backend(request: pytest.FixtureRequest) -> Iterator[StockadeBackend]:
    need({"local": "landlock"}.get(request.param, request.param.partition(":")[0]))
    with StockadeBackend.open(request.param) as opened:
        yield opened


def run(backend: Any, script: list[Any]) -> list[str]:
    agent = create_deep_agent(Scripted(script=script), backend=backend)
    done = agent.invoke(ASKED)
    assert done["messages"][-1].text == "done"
    return said(done["messages"])


def arun(backend: Any, script: list[Any]) -> list[str]:
    agent = create_deep_agent(Scripted(script=script), backend=backend)
    done = asyncio.run(agent.ainvoke(ASKED))
    assert done["messages"][-1].text == "done"
    return said(done["messages"])


def where_saved(messages: list[BaseMessage]) -> str:
    """The path that the last tool's answer names."""
    [found] = set(re.findall(r"\S*/large_tool_results/[\w-]+", said(messages)[-1]))
    return str(found)


@pytest.mark.parametrize("runs", [run, arun])
def test_tools(backend: StockadeBackend, runs: Any) -> None:
    name = f"/workspace/{runs.__name__}.py"
    found = runs(
        backend,
        [
            ("write_file", {"file_path": name, "content": "print(6 * 7)\n"}),
            ("execute", {"command": f"python3 {name}"}),
            ("edit_file", {"file_path": name, "old_string": "7", "new_string": "8"}),
            ("execute", {"command": f"python3 {name}; exit 3"}),
            ("read_file", {"file_path": name}),
            ("ls", {"path": "/workspace"}),
            ("grep", {"pattern": "print", "path": "/workspace"}),
            ("execute", {"command": "sleep 1000", "timeout": 1}),
        ],
    )
    assert found[1].startswith("42\n") and "succeeded with exit code 0" in found[1]
    assert found[3].startswith("48\n") and "failed with exit code 3" in found[3]
    assert "print(6 * 8)" in found[4] and name in found[5] and name in found[6]
    assert "timed out after 1 seconds" in found[7] and "exit code 124" in found[7]


@pytest.mark.parametrize("runs", [run, arun])
def test_a_large_output_is_kept_in_the_working_folder(backend: StockadeBackend, runs: Any) -> None:
    found = runs(
        backend,
        [
            ("execute", {"command": LARGE}),
            lambda messages: ("read_file", {"file_path": where_saved(messages), "limit": 3}),
            lambda _: ("execute", {"command": "tail -n 3 /workspace/large_tool_results/*"}),
        ],
    )
    assert "/workspace/large_tool_results/" in found[0]
    assert len(found[0]) < 50_000, "the model reads a part of it"
    assert "the very end" in found[0] and "failed with exit code 3" in found[0]
    assert re.search(r"\b1\n.*\b2\n.*\b3\b", found[1])
    assert "the very end" in found[2], "commands find it by the same path"
    backend.execute("rm -r /workspace/large_tool_results")


def test_where_the_framework_knows_no_root(backend: StockadeBackend) -> None:
    """As Deep Agents Code puts it together: artefacts at the top of the root."""
    plain = CompositeBackend(default=StockadeSandbox(backend.session), routes={})
    found = run(
        plain,
        [
            ("execute", {"command": LARGE}),
            lambda messages: ("read_file", {"file_path": where_saved(messages), "limit": 3}),
            ("execute", {"command": "cat /workspace/large_tool_results/* | wc -l"}),
        ],
    )
    assert "failed with exit code 3" in found[0]
    assert re.search(r"\b1\n.*\b2\n.*\b3\b", found[1])
    assert int(found[2].split()[0]) > 200_000
    backend.execute("rm -r /workspace/large_tool_results")


def test_a_child_that_lives_on_holds_nobody_up(backend: StockadeBackend) -> None:
    found = run(backend, [("execute", {"command": "sleep 1000 & echo started"})])
    assert found[0].startswith("started\n") and "exit code 0" in found[0]
    backend.execute("kill $(pidof sleep) 2>/dev/null || true")


def test_routes_lead_elsewhere() -> None:
    need("landlock")
    with StockadeBackend.open("landlock", routes={"/memories/": StateBackend()}) as backend:
        found = run(
            backend,
            [
                ("write_file", {"file_path": "/memories/a.md", "content": "kept apart\n"}),
                ("read_file", {"file_path": "/memories/a.md"}),
                ("execute", {"command": "ls /memories"}),
            ],
        )
    assert "kept apart" in found[1] and "exit code 2" in found[2]


def test_a_sandbox_that_ended_is_an_error() -> None:
    need("landlock")
    with StockadeBackend.open("landlock") as backend:
        backend.close()
        with pytest.raises(stockade.StockadeError):
            run(backend, [("execute", {"command": "true"})])
