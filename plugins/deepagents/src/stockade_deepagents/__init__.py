"""stockade's walls as sandboxes of deepagents.

    with StockadeBackend.open("gvisor:python:3.12-slim | local") as backend:
        agent = create_deep_agent(model, backend=backend)

Deep Agents Code finds the provider ``stockade`` by its entry point.
"""

from __future__ import annotations

from stockade_deepagents._tested import TESTED
from stockade_deepagents.backend import StockadeBackend
from stockade_deepagents.sandbox import StockadeSandbox

__all__ = ["TESTED", "StockadeBackend", "StockadeSandbox"]
