"""Jupyter's kernels behind stockade's walls; see docs/jupyter.md."""

from __future__ import annotations

from stockade_jupyter.provisioner import StockadeProvisioner

__all__ = ["StockadeProvisioner"]
