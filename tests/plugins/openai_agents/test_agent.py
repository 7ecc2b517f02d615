"""Sandbox agents with a scripted model, run by the SDK behind real walls."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from agents import RunConfig, Runner
from agents.sandbox import Manifest, SandboxAgent, SandboxRunConfig
from agents.sandbox.capabilities import Filesystem, Shell
from agents.sandbox.entries import File

import stockade
from conftest import need
from plugins.openai_agents.scripted import Scripted
from stockade_openai_agents import StockadeSandboxClient, StockadeSandboxClientOptions

WALLS = {"local": "landlock", "docker:stockade-test/work?pull=never": "docker"}
FILES = Manifest(entries={"data.txt": File(content=b"from the manifest\n")})


def run(client: StockadeSandboxClient, script: list[Any], **sandbox: Any) -> list[str]:
    model = Scripted(script)
    agent = SandboxAgent(name="a", model=model, capabilities=[Shell(), Filesystem()])
    config = RunConfig(
        sandbox=SandboxRunConfig(client=client, manifest=FILES, **sandbox), tracing_disabled=True
    )
    done = asyncio.run(Runner.run(agent, "go", run_config=config, max_turns=20))
    assert done.final_output == "done"
    return model.heard


def session_of(heard: list[str]) -> int:
    """The program that the last answer says runs on."""
    found = re.search(r"session ID (\d+)", heard[-1])
    assert found is not None, heard[-1]
    return int(found[1])


@pytest.mark.parametrize("wall", WALLS)
def test_an_agent_works(wall: str) -> None:
    need(WALLS[wall])
    before = len(stockade.default_runtime().registry.records())
    heard = run(
        StockadeSandboxClient(wall),
        [
            ("exec_command", {"cmd": "cat data.txt; pwd"}),
            ("exec_command", {"cmd": "echo 'print(6 * 7)' > x.py; python3 x.py; exit 3"}),
            ("exec_command", {"cmd": "read x; echo got $x", "tty": True, "yield_time_ms": 300}),
            lambda heard: ("write_stdin", {"session_id": session_of(heard), "chars": "it\n"}),
            ("exec_command", {"cmd": "sleep 1000", "yield_time_ms": 300}),
        ],
    )
    assert "from the manifest\n/workspace" in heard[0]
    assert "42" in heard[1] and "exited with code 3" in heard[1]
    assert "got it" in heard[3]
    assert session_of(heard) > 0
    assert len(stockade.default_runtime().registry.records()) == before, "it ended with the run"


def test_options_name_the_wall_of_one_run() -> None:
    need("landlock")
    client = StockadeSandboxClient("landlock")
    options = StockadeSandboxClientOptions(provider="landlock?memory_mb=123")
    heard = run(client, [("exec_command", {"cmd": "id -un"})], options=options)
    assert "exited with code 0" in heard[0]


def test_a_wall_that_cannot_serve_is_said_before_the_model_is_asked() -> None:
    need("landlock")
    client = StockadeSandboxClient("landlock", read_only_fs=False)
    with pytest.raises(stockade.UnsupportedError, match="Here these can: docker"):
        run(client, [])


def test_what_may_be_tried_again_is_said_with_the_walls_that_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = stockade.ProviderUnavailableError("gone for good.")
    gone.retryable = False

    def opened(*_: Any, **__: Any) -> Any:
        raise gone

    monkeypatch.setattr(stockade.aio, "open", opened)
    with pytest.raises(stockade.ProviderUnavailableError, match="for good. Here these") as caught:
        run(StockadeSandboxClient("landlock"), [])
    assert not caught.value.retryable
