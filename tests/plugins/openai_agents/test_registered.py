"""What importing it registers with the SDK, and what it says of other versions."""

from __future__ import annotations

from agents.sandbox import Manifest
from agents.sandbox.session import SandboxSessionState
from agents.sandbox.session.sandbox_client import BaseSandboxClientOptions
from agents.sandbox.snapshot import NoopSnapshot

from plugins.other_versions import said_first
from stockade_openai_agents import (
    TESTED,
    StockadeSandboxClientOptions,
    StockadeSandboxSessionState,
)


def test_options_come_back_from_json() -> None:
    options = StockadeSandboxClientOptions(provider="gvisor:x | local", exposed_ports=(8000,))
    found = BaseSandboxClientOptions.parse(options.model_dump(mode="json"))
    assert found == options and found.type == "stockade"


def test_a_state_comes_back_from_json() -> None:
    state = StockadeSandboxSessionState(
        manifest=Manifest(), snapshot=NoopSnapshot(id="x"), sandbox_id="ses-1", durable=True
    )
    found = SandboxSessionState.parse(state.model_dump(mode="json"))
    assert isinstance(found, StockadeSandboxSessionState)
    assert (found.sandbox_id, found.durable, found.type) == ("ses-1", True, "stockade")


def test_an_untested_version_is_warned_of_with_both_numbers() -> None:
    said_first(
        "stockade-openai-agents",
        "openai-agents",
        TESTED,
        imports="stockade_openai_agents",
        module="agents",
    )
