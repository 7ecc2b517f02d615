"""Harbor's environments behind stockade's walls; see docs/harbor.md."""

from __future__ import annotations

from stockade_harbor.environment import StockadeEnvironment

__all__ = ["StockadeEnvironment"]
