"""Without smolagents there is nothing to adapt to."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

#: Set where the modules of this folder cannot even be imported.
_MISSING = importlib.util.find_spec("smolagents") is None
_WHY = "smolagents is not installed; run: tox -e smolagents"


class _Skipped(pytest.Module):
    """A module that is not imported, and says why."""

    def collect(self) -> list[pytest.Item]:
        pytest.skip(_WHY, allow_module_level=True)


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Module | None:
    if _MISSING and module_path.parent == Path(__file__).parent:
        made: pytest.Module = _Skipped.from_parent(parent, path=module_path)
        return made
    return None
