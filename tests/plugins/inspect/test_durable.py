"""A way into a running sandbox, and what is left after it, with durable sessions of containers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

import stockade
from conftest import need
from stockade_inspect import StockadeConfig, cleanup, sandboxes
from stockade_inspect.environment import StockadeSandbox

pytestmark = [pytest.mark.anyio, pytest.mark.engine]
WANTED = StockadeConfig(provider="docker:stockade-test/python?durable=true&lifetime_seconds=300")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _engine() -> Iterator[None]:
    need("docker")
    yield


async def test_another_process_gets_in(capsys: pytest.CaptureFixture[str]) -> None:
    found = await StockadeSandbox.sample_init("t", WANTED, {})
    env = found["default"]
    try:
        await env.write_file("seen", "from the sample")
        way = await env.connection()
        assert way.type == "stockade" and way.command.startswith("stockade session shell --agent")
        argv = way.command.split()[1:]
        argv[1] = "exec"
        done = subprocess.run(
            [sys.executable, "-m", "stockade.cli", *argv, "--", "cat", "seen"],
            capture_output=True,
            text=True,
        )
        assert done.stdout == "from the sample", done.stderr
    finally:
        await StockadeSandbox.sample_cleanup("t", WANTED, found, False)


async def test_no_cleanup_leaves_it_and_the_command_line_ends_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = await StockadeSandbox.sample_init("t", WANTED, {})
    session = found["default"].as_type(StockadeSandbox).session
    await StockadeSandbox.task_cleanup("t", WANTED, False)
    assert cleanup.command(session.session_id) in capsys.readouterr().out
    stockade.attach(session.session_id, agent_id=sandboxes.AGENT).detach()
    await StockadeSandbox.cli_cleanup(None)
    with pytest.raises(stockade.SessionNotFoundError):
        stockade.attach(session.session_id, agent_id=sandboxes.AGENT)


async def test_one_by_its_id() -> None:
    opened = stockade.open(WANTED.provider, agent_id=sandboxes.AGENT)
    opened.detach()
    await StockadeSandbox.cli_cleanup(opened.session_id)
    with pytest.raises(stockade.SessionNotFoundError):
        stockade.attach(opened.session_id, agent_id=sandboxes.AGENT)
