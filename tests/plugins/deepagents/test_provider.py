"""Deep Agents Code finds the provider, and its sandboxes outlive a process where the wall can."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("deepagents_code", reason="deepagents-code is not installed")

from deepagents_code.integrations import sandbox_factory
from deepagents_code.integrations.sandbox_config import SandboxConfig
from deepagents_code.integrations.sandbox_provider import SandboxNotFoundError
from deepagents_code.integrations.sandbox_registry import SandboxRegistry

import stockade
from conftest import need
from stockade_deepagents.provider import StockadeProvider
from stockade_deepagents.sandbox import StockadeSandbox

IMAGE = "docker:stockade-test/work?pull=never"


@pytest.fixture
def provider() -> Iterator[StockadeProvider]:
    made = StockadeProvider()
    yield made
    for session in made._open.values():
        session.close()


def test_the_entry_point_is_enough() -> None:
    registry = SandboxRegistry(config=SandboxConfig())
    assert "stockade" in registry.available_providers()
    assert isinstance(registry.create_provider("stockade"), StockadeProvider)
    found = registry.get_metadata("stockade")
    assert found is not None and found.working_dir == "/workspace" and found.supports_sandbox_id
    assert found.install is not None
    assert found.install.command(in_app=False) == "dcode install stockade-deepagents --package"


def test_the_framework_makes_one_and_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    need("landlock")
    monkeypatch.setattr(
        sandbox_factory, "_get_registry", lambda: SandboxRegistry(config=SandboxConfig())
    )
    with sandbox_factory.create_sandbox("stockade", params={"provider": "landlock"}) as backend:
        assert isinstance(backend, StockadeSandbox)
        assert backend.execute("pwd").output == "/workspace\n"
    assert str(backend.session.status) == "destroyed"


def test_its_setup_script_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    need("landlock")
    monkeypatch.setattr(
        sandbox_factory, "_get_registry", lambda: SandboxRegistry(config=SandboxConfig())
    )
    script = tmp_path / "setup.sh"
    script.write_text("echo made > /workspace/by-setup\n")
    with sandbox_factory.create_sandbox(
        "stockade", params={"provider": "landlock"}, setup_script_path=str(script)
    ) as backend:
        assert backend.execute("cat by-setup").output == "made\n"


@pytest.mark.timeout(300)  # importing the framework takes seconds of a processor
def test_another_process_reaches_a_durable_one(provider: StockadeProvider) -> None:
    need("docker")
    sandbox = provider.get_or_create(provider=IMAGE)
    assert sandbox.session.provider.config.durable
    assert sandbox.session.provider.config.lifetime_seconds == 86_400
    sandbox.execute("echo kept > a")
    code = (
        "import sys; from stockade_deepagents.provider import StockadeProvider\n"
        "found = StockadeProvider().get_or_create(sandbox_id=sys.argv[1])\n"
        "print(found.id, found.execute('cat a').output)\n"
    )
    line = [sys.executable, "-c", code, sandbox.id]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [sandbox.id, "kept"]
    sandbox.session.detach()
    StockadeProvider().delete(sandbox_id=sandbox.id)
    with pytest.raises(SandboxNotFoundError):
        StockadeProvider().get_or_create(sandbox_id=sandbox.id)
    provider._open.clear()


def test_one_that_no_other_process_reaches_is_warned_of(
    provider: StockadeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    need("landlock")
    with caplog.at_level(logging.WARNING):
        sandbox = provider.get_or_create(provider="landlock")
    assert "will end with this process" in caplog.text
    assert provider.get_or_create(sandbox_id=sandbox.id).execute("true").exit_code == 0
    provider.delete(sandbox_id=sandbox.id)
    with pytest.raises(SandboxNotFoundError):
        provider.delete(sandbox_id=sandbox.id)


def test_where_the_durable_one_does_not_start_the_next_is_taken(
    provider: StockadeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    need("docker")
    need("landlock")
    with caplog.at_level(logging.WARNING):
        sandbox = provider.get_or_create(provider="docker:no/such-image?pull=never | landlock")
    assert sandbox.session.provider.name == "landlock"
    assert "landlock is not durable here" in caplog.text
    provider.delete(sandbox_id=sandbox.id)


def test_what_is_stated_stands(provider: StockadeProvider) -> None:
    need("docker")
    config = provider.get_or_create(provider=IMAGE, durable=False, memory_mb=300)
    assert not config.session.provider.config.durable
    assert config.session.provider.config.memory_mb == 300
    with pytest.raises(stockade.UnsupportedError, match="Here these can: docker"):
        provider.get_or_create(provider="landlock", durable=True)


def test_awaited(provider: StockadeProvider) -> None:
    need("docker")

    async def calls() -> None:
        sandbox = await provider.aget_or_create(provider=IMAGE)
        again = await provider.aget_or_create(sandbox_id=sandbox.id)
        assert (await again.aexecute("echo hi")).output == "hi\n"
        await provider.adelete(sandbox_id=sandbox.id)
        with pytest.raises(SandboxNotFoundError):
            await provider.adelete(sandbox_id=sandbox.id)

    asyncio.run(calls())
