"""Without the framework that a distribution adapts to there is nothing to test."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

#: By folder: the framework, and how its tests run. Without it the modules there cannot even be
#: imported.
_FRAMEWORKS = {
    "deepagents": ("deepagents", "deepagents is not installed; run: tox -e deepagents"),
    "harbor": ("harbor", "harbor, which needs Python 3.12, is not installed; run: tox -e harbor"),
    "inspect": ("inspect_ai", "inspect-ai is not installed; run: tox -e inspect"),
    "openai_agents": ("agents", "openai-agents is not installed; run: tox -e openai-agents"),
    "jupyter": ("jupyter_client", "jupyter-client is not installed; run: tox -e jupyter"),
    "mcp": ("mcp", "the official MCP SDK is not installed; run: tox -e adapters"),
    "smolagents": ("smolagents", "smolagents is not installed; run: tox -e smolagents"),
}


class _Skipped(pytest.Module):
    """A module that is not imported, and says why."""

    def collect(self) -> list[pytest.Item]:
        pytest.skip(_FRAMEWORKS[self.path.parent.name][1], allow_module_level=True)


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Module | None:
    folder = module_path.parent
    framework, _ = _FRAMEWORKS.get(folder.name, ("", ""))
    if folder.parent != Path(__file__).parent or not framework:
        return None
    if importlib.util.find_spec(framework) is not None:
        return None
    made: pytest.Module = _Skipped.from_parent(parent, path=module_path)
    return made
