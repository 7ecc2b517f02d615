"""Defaults of a wall's own: for what isolates nothing, in the open, and never more (B1, A7)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

import stockade
from core.walls import ScriptedSandbox, ScriptedWall
from stockade.capabilities import Capabilities, Isolation
from stockade.errors import PluginError, UnsupportedError
from stockade.sessions._runtime import Runtime
from stockade.wall import OpenRequest, Sandbox

LOWERED = {
    "memory_mb": None,
    "cpu_limit": None,
    "max_processes": None,
    "disk_mb": None,
    "network_enabled": True,
    "read_only_fs": False,
}


class NoWall(ScriptedWall):
    capabilities = Capabilities(
        {"argv": "native", "network": "native", "writable-root": "native", "shell": "native"}
    )
    defaults: ClassVar[Mapping[str, Any]] = LOWERED
    seen: ClassVar[list[OpenRequest]] = []

    def open(self, request: OpenRequest) -> Sandbox:
        self.seen.append(request)
        return ScriptedSandbox()


def runtime(**walls: type[ScriptedWall]) -> Runtime:
    made = Runtime(discover_plugins=False)
    made.walls._walls.update(walls)
    return made


def test_its_bare_name_opens_and_that_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    ours = runtime(none=NoWall)
    for _ in range(2):
        with caplog.at_level(logging.WARNING), stockade.open("none", runtime=ours) as session:
            assert session.provider.lowered == LOWERED
    (record,) = [found for found in caplog.records if found.name == "stockade.isolation"]
    message = record.getMessage()
    assert message.startswith("none isolates nothing") and "memory_mb=None" in message
    config = NoWall.seen[-1].config
    assert config.memory_mb is None and config.network_enabled and not config.read_only_fs
    assert config.timeout_seconds == 60.0


@pytest.mark.parametrize(
    ("string", "asked", "says"),
    [
        ("none?memory_mb=64", {}, "memory_mb=64 needs memory"),
        ("none", {"cpu_limit": 1.0}, "cpu_limit=1.0 needs cpu"),
        ("none?network_enabled=false", {}, "network_enabled=False needs network-off"),
        ("none", {"read_only_fs": True}, "read_only_fs=True needs read-only-root"),
        ("none?network_enabled=no&network_allow=example.org", {}, "needs allow-list"),
    ],
)
def test_what_was_asked_is_held_or_refused(string: str, asked: dict[str, Any], says: str) -> None:
    with pytest.raises(UnsupportedError, match=says):
        stockade.open(string, runtime=runtime(none=NoWall), **asked)


def test_the_traits_configuration_is_refused_by_name() -> None:
    provider = stockade.provider("none", runtime=runtime(none=NoWall))
    with pytest.raises(UnsupportedError) as caught:
        provider.create_session("agent", stockade.SandboxConfig())
    for feature in ("memory", "cpu", "processes", "disk", "network-off", "read-only-root"):
        assert feature in str(caught.value)


def test_nobody_falls_from_a_wall_to_none() -> None:
    """In an order of preference the safe defaults stand."""
    with pytest.raises(stockade.ProviderUnavailableError, match=r"\[none\] .*memory_mb=512"):
        stockade.open("away | none", runtime=runtime(none=NoWall))


def test_a_wall_that_isolates_may_have_none() -> None:
    class Liar(NoWall):
        isolation = Isolation.CONTAINER

    with pytest.raises(PluginError, match="isolates .container. and still lowers"):
        stockade.provider("liar", runtime=runtime(liar=Liar))


def test_defaults_that_make_no_sense_name_the_wall() -> None:
    class Wrong(NoWall):
        defaults = {"memory": None}

    with pytest.raises(PluginError, match="'wrong'.*memory_mb"):
        stockade.provider("wrong", runtime=runtime(wrong=Wrong))
