"""stockade's walls as sandboxes of the OpenAI Agents SDK.

    client = StockadeSandboxClient("gvisor:python:3.12-slim | local")
    await Runner.run(agent, "…", run_config=RunConfig(sandbox=SandboxRunConfig(client=client)))

Importing it registers the options and the state of type ``stockade`` with the SDK.
"""

from __future__ import annotations

from stockade_openai_agents._tested import TESTED
from stockade_openai_agents.client import StockadeSandboxClient
from stockade_openai_agents.options import StockadeSandboxClientOptions, StockadeSandboxSessionState
from stockade_openai_agents.session import StockadeSandboxSession

__all__ = [
    "TESTED",
    "StockadeSandboxClient",
    "StockadeSandboxClientOptions",
    "StockadeSandboxSession",
    "StockadeSandboxSessionState",
]
