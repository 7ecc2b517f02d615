"""What inspect loads by the entry point: the types ``stockade`` and ``stockade-…``."""

from __future__ import annotations

from inspect_ai.util import sandboxenv

import stockade
from stockade_inspect.environment import StockadeSandbox

__all__ = ["types"]


def _derived(name: str) -> type[StockadeSandbox]:
    class OfOneWall(StockadeSandbox):
        wall = name

    return OfOneWall


def types() -> list[str]:
    """Register the types; their names."""
    kinds: dict[str, type[StockadeSandbox]] = {"stockade": StockadeSandbox}
    for wall in ("local", *sorted(one.name for one in stockade.installed_providers())):
        kinds[f"stockade-{wall}"] = _derived(wall)
    for name, kind in kinds.items():
        sandboxenv(name)(kind)
    return list(kinds)


types()
