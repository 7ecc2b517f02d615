"""A runtime that knows the walls to choose among."""

from __future__ import annotations

import pytest

from core.selection.walls import (
    WALLS,
)
from stockade.sessions._runtime import Runtime


@pytest.fixture
def ours() -> Runtime:
    runtime = Runtime(discover_plugins=False)
    for name, wall in WALLS.items():
        runtime.walls.add(name, wall)
    return runtime
