"""Limits that something else has fixed: a service's template, a cluster's policy (B6)."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

import stockade
from core.walls import EVERYTHING, ScriptedSandbox, ScriptedWall
from stockade.capabilities import Isolation
from stockade.config import Limits
from stockade.errors import PluginError, UnsupportedError, WallError
from stockade.sessions._runtime import Runtime
from stockade.wall import OpenRequest, Sandbox


class Template(ScriptedWall):
    """A service whose template fixes memory and cpus; it can be asked for processes alone."""

    isolation = Isolation.VM
    capabilities = EVERYTHING.with_(memory="unsupported", cpu="unsupported")
    fixed_elsewhere: Any = ("memory_mb", "cpu_limit")
    held: ClassVar[Any] = {"memory_mb": 1024, "cpu_limit": 2.0, "max_processes": 9999}
    seen: ClassVar[list[OpenRequest]] = []

    def open(self, request: OpenRequest) -> Sandbox:
        self.seen.append(request)
        held = self.held

        class Fixed(ScriptedSandbox):
            def limits(self) -> Mapping[str, float | None]:
                return held  # type: ignore[no-any-return]

        return Fixed()


def runtime(wall: type[ScriptedWall] = Template) -> Runtime:
    made = Runtime(discover_plugins=False)
    made.walls.add("template", wall)
    return made


def test_a_bare_name_takes_them_and_they_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    with stockade.open("template", runtime=runtime()) as session:
        assert session.limits == Limits(
            memory_mb=1024, cpu_limit=2.0, max_processes=256, disk_mb=256
        )
        assert session.provider.lowered == {"memory_mb": None, "cpu_limit": None}
    config = Template.seen[-1].config
    assert (config.memory_mb, config.cpu_limit, config.max_processes) == (None, None, 256)
    assert not caplog.records  # it isolates, and says so

    async def awaited() -> Limits:
        async with stockade.aio.open("template", runtime=runtime()) as opened:
            return opened.limits

    assert asyncio.run(awaited()).memory_mb == 1024


def test_it_is_so_in_an_order_of_preference_too() -> None:
    ours = runtime()
    with stockade.open("nowhere | template", runtime=ours) as session:
        assert session.limits.memory_mb == 1024


@pytest.mark.parametrize(
    ("string", "asked"), [("template?memory_mb=512", {}), ("template", {"cpu_limit": 1.0})]
)
def test_what_is_stated_is_held_or_refused(string: str, asked: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match="memory_mb=512|cpu_limit=1.0"):
        stockade.open(string, runtime=runtime(), **asked)
    able = type("Able", (Template,), {"capabilities": EVERYTHING})
    with stockade.open(string, runtime=runtime(able), **asked) as session:
        held = {"memory_mb": 512} if "?" in string else {"cpu_limit": 1.0}
        limits = session.limits
        assert {name: getattr(limits, name) for name in held} == held


def test_a_configuration_of_the_traits_states_all_of_them() -> None:
    provider = stockade.provider("template", runtime=runtime())
    with pytest.raises(UnsupportedError, match=r"memory_mb=512.*cpu_limit=1\.0"):
        provider.create_session("agent", stockade.SandboxConfig())


def test_every_wall_reports_what_was_asked() -> None:
    with stockade.open(
        "template?memory_mb=64&disk_mb=none", runtime=runtime(ScriptedWall)
    ) as session:
        limits = session.limits
    assert (limits.memory_mb, limits.cpu_limit, limits.disk_mb) == (64, 1.0, None)
    for made in (copy.deepcopy(limits), pickle.loads(pickle.dumps(limits))):
        assert made == limits  # B5


@pytest.mark.parametrize("field", ["network_enabled", "timeout_seconds", "memory"])
def test_only_limits_may_be_fixed_elsewhere(field: str) -> None:
    wrong = type("Wrong", (Template,), {"fixed_elsewhere": (field,)})
    with pytest.raises(PluginError, match=f"'template' says that '{field}' is fixed elsewhere"):
        stockade.open("template", runtime=runtime(wrong))


@pytest.mark.parametrize(
    "held", [None, 7, {"memory": 1}, {"memory_mb": 0}, {"memory_mb": "1"}, {"memory_mb": True}]
)
def test_a_wall_that_reports_no_limits_is_named(held: Any) -> None:
    wrong = type("Wrong", (Template,), {"held": held})
    with (
        stockade.open("template", runtime=runtime(wrong)) as session,
        pytest.raises(WallError, match=r"limits\(\) of template returned"),
    ):
        _ = session.limits


def test_a_session_that_is_gone_has_none() -> None:
    session = stockade.open("template", runtime=runtime())
    session.close()
    with pytest.raises(stockade.SessionNotFoundError):
        _ = session.limits
