"""How inspect finds the types, and what is said of versions that the tests did not see."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from inspect_ai.util._sandbox.registry import registry_find_sandboxenv

import stockade
from plugins.other_versions import said_first
from stockade_inspect import TESTED
from stockade_inspect.environment import StockadeSandbox


def test_the_entry_point_is_enough() -> None:
    code = (
        "from inspect_ai.util._sandbox.registry import registry_find_sandboxenv as find\n"
        "print(find('stockade').__name__, find('stockade-landlock').wall, find('docker').__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["StockadeSandbox", "landlock", "DockerSandboxEnvironment"]
    assert [one.value for one in entry_points(group="inspect_ai")].count(
        "stockade_inspect.registered"
    ) == 1


def test_one_type_for_each_installed_wall() -> None:
    for one in stockade.installed_providers():
        kind = registry_find_sandboxenv(f"stockade-{one.name}")
        assert issubclass(kind, StockadeSandbox) and kind.wall == one.name
    assert registry_find_sandboxenv("stockade-local") is not None


def test_an_untested_version_is_warned_of_with_both_numbers() -> None:
    said_first(
        "stockade-inspect",
        "inspect-ai",
        TESTED,
        imports="stockade_inspect.registered",
        module="inspect_ai",
    )


def test_as_many_at_a_time_as_the_settings_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = stockade.default_runtime()
    before = runtime.settings
    try:
        usual = StockadeSandbox.default_concurrency()
        assert usual is not None and usual >= 2
        runtime.settings = before.with_(max_sessions=1)
        assert StockadeSandbox.default_concurrency() == 1
    finally:
        runtime.settings = before
