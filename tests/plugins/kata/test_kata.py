"""Kata: what is asked for is what runs, or nothing does."""

from __future__ import annotations

import docker
import pytest

import stockade
from plugins.docker.conftest import PYTHON, ours
from stockade.errors import SandboxStartError
from stockade.sessions._providers import inspect_providers

pytestmark = pytest.mark.engine


def test_kata_refuses_a_runtime_that_is_runc(engine: docker.APIClient) -> None:
    """The engine's `kata-runtime` is a shim of the tests' own around runc."""
    if "kata-runtime" not in engine.info()["Runtimes"]:
        pytest.skip("the engine has no runtime by Kata's name")
    before = ours(engine)
    found = inspect_providers(["kata"])[0]
    assert found.available and not found.broken
    with pytest.raises(SandboxStartError, match="the kernel inside is the host's own"):
        stockade.open(f"kata:{PYTHON}")
    assert ours(engine) == before
