"""smolagents' code agents behind stockade's walls; see docs/smolagents.md."""

from __future__ import annotations

from stockade_smolagents._tested import TESTED
from stockade_smolagents.executor import StockadeExecutor

__all__ = ["TESTED", "StockadeExecutor"]
