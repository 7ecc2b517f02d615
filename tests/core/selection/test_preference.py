"""An order of preference, over scripted walls: what is taken, when, and what is said (A7)."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest

import stockade
from core.selection.walls import (
    Good,
    Unstarted,
    passed,
)
from core.walls import EVERYTHING
from stockade.errors import (
    CapacityError,
    ConfigError,
    PluginError,
    ProviderStringError,
    ProviderUnavailableError,
    SandboxStartError,
    UnsupportedError,
    WallError,
)
from stockade.sessions._runtime import Runtime
from stockade.sessions._settings import Settings


@pytest.mark.parametrize("given", ["away | good:img", ["away", "good:img"], ("away|good:img",)])
def test_a_sequence_or_bars_name_alternatives(ours: Runtime, given: Any) -> None:
    with stockade.open(given, runtime=ours) as session:
        provider = session.provider
    assert (provider.name, provider.wall.target, passed(provider)) == ("good", "img", ["away"])
    assert "switched off" in provider.passed_over[0].reason
    assert str(provider.spec) == "good:img"


def test_each_has_its_own_target_and_options(ours: Runtime) -> None:
    given = "away:x?memory_mb=1&depth=1 | good:y?cpu_limit=2"
    provider = stockade.provider(given, runtime=ours, timeout_seconds=7)
    config = provider.config
    assert (config.memory_mb, config.cpu_limit, config.timeout_seconds) == (512, 2.0, 7)
    assert provider.wall.chosen == {"depth": None} and provider.wall.target == "y"


def test_what_cannot_hold_is_passed_over(ours: Runtime) -> None:
    provider = stockade.provider("small | good", runtime=ours)
    assert (
        provider.name == "good" and "memory_mb=512 needs memory" in provider.passed_over[0].reason
    )
    assert stockade.provider("small?memory_mb=none | good", runtime=ours).name == "small"
    provider = stockade.provider("small | good", runtime=ours, memory_mb=None, needs=["terminal"])
    assert provider.name == "good" and "terminal" in provider.passed_over[0].reason


def test_what_is_needed_binds_a_single_name_too(ours: Runtime) -> None:
    with pytest.raises(UnsupportedError, match="small does not support terminal"):
        stockade.open("small?memory_mb=none", runtime=ours, needs=["terminal"])
    with pytest.raises(ConfigError, match="'terminl' is no feature.*'terminal'"):
        stockade.open("good", runtime=ours, needs=["terminl"])


def test_a_snapshot_needs_a_wall_that_takes_one(ours: Runtime) -> None:
    ours.walls.add(
        "bare", type("Bare", (Good,), {"capabilities": EVERYTHING.with_(snapshot="unsupported")})
    )
    snapshot = stockade.Snapshot("/workspace", 0.0, False, (), b"")
    with pytest.raises(UnsupportedError, match="snapshot"):
        stockade.open(
            "bare | small?memory_mb=none&durable=true",
            runtime=ours,
            snapshot=snapshot,
            needs=["terminal"],
        )


FACES: dict[str, Callable[[Any, Runtime], tuple[str, list[str]]]] = {}


def face(call: Callable[[Any, Runtime], tuple[str, list[str]]]) -> Any:
    FACES[call.__name__.strip("_")] = call
    return call


@face
def _open(given: Any, ours: Runtime) -> tuple[str, list[str]]:
    with stockade.open(given, runtime=ours) as session:
        return session.provider.name, passed(session.provider)


@face
def _awaited(given: Any, ours: Runtime) -> tuple[str, list[str]]:
    async def opened() -> tuple[str, list[str]]:
        async with stockade.aio.open(given, runtime=ours) as session:
            return session.provider.name, passed(session.provider)

    return asyncio.run(opened())


@face
def _trait(given: Any, ours: Runtime) -> tuple[str, list[str]]:
    provider = stockade.provider(given, runtime=ours)
    handle = provider.create_session("agent")
    provider.destroy_session("agent", handle.session_id)
    return provider.name, passed(provider)


@face
def _trait_run(given: Any, ours: Runtime) -> tuple[str, list[str]]:
    provider = stockade.provider(given, runtime=ours)
    assert provider.run("agent", ["true"]).success
    return provider.name, passed(provider)


@face
def _pool(given: Any, ours: Runtime) -> tuple[str, list[str]]:
    with stockade.Pool(given, size=2, runtime=ours) as pool, pool.open() as session:
        assert session.provider is pool.provider
        return pool.provider.name, passed(pool.provider)


@face
def _awaited_pool(given: Any, ours: Runtime) -> tuple[str, list[str]]:
    async def opened() -> tuple[str, list[str]]:
        async with stockade.aio.AsyncPool(given, size=2, runtime=ours) as pool:
            return pool.provider.name, passed(pool.provider)

    return asyncio.run(opened())


@pytest.mark.parametrize("name", FACES)
def test_one_that_does_not_start_is_passed_over(ours: Runtime, name: str) -> None:
    taken = FACES[name]("away | unstarted:img | good", ours)
    assert taken == ("good", ["away", "unstarted:img"])
    assert not ours.registry.records()


@pytest.mark.parametrize("name", FACES)
def test_where_nothing_is_left_every_reason_is_reported(ours: Runtime, name: str) -> None:
    with pytest.raises(ProviderUnavailableError) as caught:
        FACES[name]("away | unstarted:img", ours)
    message = str(caught.value)
    assert message.startswith("nothing of 'away | unstarted:img' can be used: [away] ")
    assert "[unstarted:img] no such image" in message and caught.value.retryable


@pytest.mark.parametrize(
    "error",
    [
        PluginError("broken"),
        ProviderUnavailableError("down"),
        UnsupportedError("cannot"),
        SandboxStartError("no image"),
        WallError("nonsense"),
        RuntimeError("a bug"),
    ],
)
def test_what_goes_on_to_the_next(ours: Runtime, error: Exception) -> None:
    ours.settings = Settings(start_retries=0)
    ours.walls.add("failing", type("Failing", (Unstarted,), {"error": error}))
    assert _open("failing | good", ours) == ("good", ["failing"])


@pytest.mark.parametrize("error", [ConfigError("wrong"), CapacityError("full")])
def test_what_is_the_callers_does_not(ours: Runtime, error: Exception) -> None:
    ours.walls.add("failing", type("Failing", (Unstarted,), {"error": error}))
    with pytest.raises(type(error)):
        _open("failing | good", ours)
    assert not ours.registry.records()


def test_a_wrong_string_is_no_reason_to_go_on(ours: Runtime) -> None:
    for wrong in ("good?memry_mb=1", "good?memory_mb=x", "good?memory_mb=0"):
        with pytest.raises((ProviderStringError, ConfigError), match="mem"):
            stockade.open([wrong, "other"], runtime=ours)


def test_a_policys_no_is_no_reason_to_go_on(ours: Runtime) -> None:
    class NotGood:
        @stockade.plugin.hookimpl
        def stockade_session_policy(self, proposal: Any) -> Any:
            return stockade.plugin.Refuse("not behind it") if proposal.provider == "good" else None

    ours.hooks.add(NotGood())
    with pytest.raises(stockade.PolicyRefusedError, match="not behind it"):
        stockade.open("good | other", runtime=ours)


def test_all_that_lack_something_are_one_refusal(ours: Runtime) -> None:
    with pytest.raises(UnsupportedError, match=r"\[small\] .*memory.*\[small:x\] .*memory"):
        stockade.open("small | small:x", runtime=ours)
    with pytest.raises(ProviderUnavailableError) as caught:
        stockade.open("small | nowhere", runtime=ours)
    assert not caught.value.retryable
    for made in (copy.copy(caught.value), pickle.loads(pickle.dumps(caught.value))):
        assert made == caught.value and not made.retryable  # B5


def test_a_name_alone_keeps_its_own_error(ours: Runtime) -> None:
    with pytest.raises(SandboxStartError, match="^no such image$"):
        stockade.open("unstarted", runtime=ours)
    assert stockade.provider("small", runtime=ours).name == "small"  # not looked at yet


def test_a_provider_stays_with_the_wall_of_its_first_session(ours: Runtime) -> None:
    provider = stockade.provider("good | other", runtime=ours)
    provider.create_session("agent")
    assert provider.settled
    provider.wall = Unstarted()
    with pytest.raises(SandboxStartError, match="no such image"):
        provider.create_session("agent")
    assert provider.name == "good"


def test_a_provider_that_failed_with_all_begins_with_the_first_again(ours: Runtime) -> None:
    provider = stockade.provider("unstarted | unstarted:img", runtime=ours)
    for _ in range(3):
        with pytest.raises(ProviderUnavailableError) as caught:
            provider.create_session("agent")
        assert str(caught.value).count("[unstarted]") == 1
    ours.walls.add("unstarted", Good)
    provider.create_session("agent")
    assert (provider.name, str(provider.spec), passed(provider)) == ("unstarted", "unstarted", [])


def test_threads_that_open_first_agree_on_one_wall(ours: Runtime) -> None:
    provider = stockade.provider("unstarted | good", runtime=ours)
    start = threading.Barrier(8)
    records = []

    def work() -> None:
        start.wait()
        records.append(provider.open_record("agent"))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [record.provider for record in records] == ["good"] * 8
    assert passed(provider) == ["unstarted"]


def test_what_is_passed_over_is_logged(ours: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "stockade"):
        stockade.provider("away?labels=a=secret | good", runtime=ours)
    (record,) = [found for found in caplog.records if "passed over" in found.getMessage()]
    assert record.levelname == "WARNING" and record.getMessage().startswith("passed over away: ")
    assert "secret" not in caplog.text  # B4
