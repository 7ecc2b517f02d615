"""stockade's walls as sandboxes of deepagents.

    with StockadeBackend.open("gvisor:python:3.12-slim | local") as backend:
        agent = create_deep_agent(model, backend=backend)

Deep Agents Code finds the provider ``stockade`` by its entry point.
"""

from __future__ import annotations

import warnings

from stockade.system.versions import untested
from stockade_deepagents.backend import StockadeBackend
from stockade_deepagents.sandbox import StockadeSandbox

__all__ = ["TESTED", "StockadeBackend", "StockadeSandbox"]

#: The versions of deepagents that the tests ran with, the first and the last.
TESTED = ("0.6.12", "0.7.32")

if (_said := untested("stockade-deepagents", "deepagents", *TESTED)) is not None:
    warnings.warn(_said, stacklevel=2)
