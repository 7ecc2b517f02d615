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
from core.walls import EVERYTHING, ScriptedSandbox, ScriptedWall
from stockade.capabilities import Capabilities, Isolation
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
from stockade.selection._alternatives import each
from stockade.selection._spec import Preference, ProviderString
from stockade.sessions._runtime import Runtime
from stockade.sessions._settings import Settings
from stockade.wall import Availability, Check, OpenRequest, Option, Sandbox


class Good(ScriptedWall):
    isolation = Isolation.CONTAINER
    options = {"depth": Option(int)}

    def open(self, request: OpenRequest) -> Sandbox:
        return ScriptedSandbox()


class Away(Good):
    def probe(self) -> Availability:
        return Availability((Check("engine", False, "switched off", "switch it on"),))


class Small(Good):
    """It has no terminal and holds no memory limit."""

    capabilities = EVERYTHING.with_(memory="unsupported", terminal="unsupported")


class Unstarted(Good):
    """Available, and no sandbox of it starts."""

    error: Exception = SandboxStartError("no such image", retryable=False)
    opened: list[str] = []

    def open(self, request: OpenRequest) -> Sandbox:
        self.opened.append(request.session_id)
        raise self.error


WALLS = {"good": Good, "other": Good, "away": Away, "small": Small, "unstarted": Unstarted}


@pytest.fixture
def ours() -> Runtime:
    runtime = Runtime(discover_plugins=False)
    for name, wall in WALLS.items():
        runtime.walls.add(name, wall)
    return runtime


def passed(provider: stockade.selection._providers.WallProvider) -> list[str]:
    return [one.provider for one in provider.passed_over]


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
    ours.walls.add("bare", type("Bare", (Good,), {
        "capabilities": EVERYTHING.with_(snapshot="unsupported")}))  # fmt: skip
    snapshot = stockade.Snapshot("/workspace", 0.0, False, (), b"")
    with pytest.raises(UnsupportedError, match="snapshot"):
        stockade.open("bare | small?memory_mb=none&durable=true", runtime=ours,
                      snapshot=snapshot, needs=["terminal"])  # fmt: skip


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
def test_where_nothing_is_left_every_reason_is_told(ours: Runtime, name: str) -> None:
    with pytest.raises(ProviderUnavailableError) as caught:
        FACES[name]("away | unstarted:img", ours)
    told = str(caught.value)
    assert told.startswith("nothing of 'away | unstarted:img' can be used: [away] ")
    assert "[unstarted:img] no such image" in told and caught.value.retryable


@pytest.mark.parametrize(
    "error",
    [PluginError("broken"), ProviderUnavailableError("down"), UnsupportedError("cannot"),
     SandboxStartError("no image"), WallError("nonsense"), RuntimeError("a bug")],
)  # fmt: skip
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


# -- local ---------------------------------------------------------------------


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    names = (["away", "small", "good"], ["vm", "none", "broken", "plain"])
    monkeypatch.setattr("stockade.selection._discovery.embedded", lambda: names)


@pytest.mark.usefixtures("embedded")
def test_local_is_the_strongest_that_holds_what_is_asked(
    ours: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "stockade"):
        provider = stockade.provider("local?cpu_limit=2", runtime=ours)
    assert provider.name == "good" and provider.config.cpu_limit == 2.0
    assert [(one.provider, one.embedded) for one in provider.passed_over] == [
        ("away", True), ("small", True),
    ]  # fmt: skip
    assert not caplog.records  # nobody named them
    assert stockade.provider("local?memory_mb=none", runtime=ours).name == "small"


@pytest.mark.usefixtures("embedded")
def test_local_tries_others_after_its_own_by_their_isolation(ours: Runtime) -> None:
    """One that isolates nothing cannot hold the defaults, which stand in any list."""
    ours.walls.add("good", Away)
    ours.walls.add("vm", type("Vm", (Away,), {"isolation": Isolation.VM}))
    ours.walls.add("plain", type("Plain", (Away,), {"isolation": Isolation.PROCESS}))
    nothing = {"isolation": Isolation.NONE, "capabilities": Capabilities(),
               "defaults": {"memory_mb": None}}  # fmt: skip
    ours.walls.add("none", type("Nothing", (Good,), nothing))
    with pytest.raises(ProviderUnavailableError) as caught:
        stockade.open("local", runtime=ours)
    order = [part.split("]")[0] for part in str(caught.value).split("[")[1:]]
    assert order[:3] == ["away", "small", "good"]
    assert order.index("vm") < order.index("plain") < order.index("none")
    assert "broken" in order


def test_local_is_never_a_wall_that_isolates_nothing(
    ours: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it holds what is asked, by its own words."""
    ours.walls.add("none", type("Nothing", (Good,), {"isolation": Isolation.NONE}))
    monkeypatch.setattr("stockade.selection._discovery.embedded", lambda: ([], ["none"]))
    with pytest.raises(UnsupportedError, match=r"\[none\] none isolates nothing"):
        stockade.open("local", runtime=ours)
    assert stockade.provider("local | none", runtime=ours).name == "none"  # it was named


@pytest.mark.usefixtures("embedded")
def test_local_in_a_list_tries_each_once(ours: Runtime) -> None:
    ours.walls.add("good", Away)
    with pytest.raises(ProviderUnavailableError) as caught:
        stockade.open("good | local", runtime=ours)
    assert str(caught.value).count("[good]") == 1
    assert stockade.provider("local | other", runtime=ours, memory_mb=1).name == "other"


def test_local_without_an_embedded_wall_says_what_to_install(
    ours: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stockade.selection._discovery.embedded", lambda: ([], []))
    with pytest.raises(ProviderUnavailableError, match="pip install stockade-bubblewrap"):
        stockade.open("local", runtime=ours)
    assert stockade.provider("local | good", runtime=ours).name == "good"


@pytest.mark.usefixtures("embedded")
@pytest.mark.parametrize(
    ("text", "says"),
    [("local:/root", "takes no target.*bubblewrap:/root"), ("local?depth=1", "no option 'depth'"),
     ("local?memry_mb=1", "did you mean 'memory_mb'")],
)  # fmt: skip
def test_local_takes_what_every_wall_takes(ours: Runtime, text: str, says: str) -> None:
    with pytest.raises(ProviderStringError, match=says):
        stockade.open(text, runtime=ours)


def test_what_looks_at_all_of_them_sees_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    names = (["away", "small", "good"], ["vm", "none", "broken", "plain"])
    monkeypatch.setattr("stockade.selection._alternatives.embedded", lambda: names)
    found = each(Preference.parse("good | local | other:x"))
    assert [spec.label for spec in found] == [
        "good", "away", "small", "vm", "none", "broken", "plain", "other:x",
    ]  # fmt: skip


# -- who says nothing ----------------------------------------------------------


def test_the_default_is_the_variable_else_local(
    ours: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stockade.selection._discovery.embedded", lambda: (["good"], []))
    monkeypatch.delenv("STOCKADE_PROVIDER", raising=False)
    assert _open(None, ours) == ("good", [])
    monkeypatch.setenv("STOCKADE_PROVIDER", "")
    assert _open(None, ours) == ("good", [])
    monkeypatch.setenv("STOCKADE_PROVIDER", "away | other:img?memory_mb=64")
    assert _open(None, ours) == ("other", ["away"])
    assert _awaited(None, ours) == ("other", ["away"])
    assert _open("good", ours) == ("good", [])


def test_a_wrong_variable_is_named(ours: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOCKADE_PROVIDER", "good,other")
    with pytest.raises(ProviderStringError, match=r"^STOCKADE_PROVIDER: .*good \| other"):
        stockade.open(runtime=ours)


def test_a_program_reads_no_file(
    ours: Runtime, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Whoever fills its working folder would choose its wall."""
    (tmp_path / "stockade.toml").write_text('provider = "other"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STOCKADE_PROVIDER", raising=False)
    monkeypatch.setattr("stockade.selection._discovery.embedded", lambda: (["good"], []))
    assert _open(None, ours)[0] == "good"


# -- what a file may choose ----------------------------------------------------


class Named(Good):
    target_is_name = True


class NoWall(Good):
    isolation = Isolation.NONE


@pytest.fixture
def filed(ours: Runtime) -> Callable[[str], stockade.selection._providers.WallProvider]:
    ours.walls.add("named", Named)
    ours.walls.add("none", NoWall)

    def choose(text: str) -> stockade.selection._providers.WallProvider:
        wanted = Preference.parse(text, source="/p/stockade.toml", restricted=True)
        return stockade.provider(wanted, runtime=ours)

    return choose


@pytest.mark.parametrize(
    "text",
    ["good", "away | good", "named:python:3.12-slim?memory_mb=64&timeout_seconds=5",
     "good?max_processes=10&network_enabled=false&labels=a=b&output_policy=end"],
)  # fmt: skip
def test_a_file_chooses_and_tightens(filed: Any, text: str) -> None:
    assert filed(text).name in ("good", "named")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("none", "'none' names a wall that isolates nothing"),
        ("away | none", "isolates nothing"),
        ("good:/home/somebody", "may be a path of yours"),
        ("good?depth=3", "sets depth, which the wall alone understands"),
        ("good?network_enabled=true", "more than the defaults allow .network_enabled"),
        ("good?network_allow=evil.example", "network_allow"),
        ("good?mounts=/home/me:/mnt:rw", "mounts"),
        ("good?memory_mb=none", "memory_mb"),
        ("good?memory_mb=100000", "memory_mb"),
        ("good?read_only_fs=false", "read_only_fs"),
        ("good?env_vars=LD_PRELOAD=/x", "env_vars"),
        ("good?user=1000", "user"),
        ("good?lifetime_seconds=none", "lifetime_seconds"),
        ("good?durable=true", "durable"),
        ("good?ports=8080&network_enabled=true", "network_enabled, ports"),
        ("away | good?cpu_limit=16", "cpu_limit"),
    ],
)
def test_a_file_opens_nothing(filed: Any, text: str, says: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"^/p/stockade\.toml: .*{says}.*-p or STOCKADE_PROVIDER"
    ):
        filed(text)


def test_what_a_file_may_not_say_the_caller_may(ours: Runtime) -> None:
    wanted = Preference.parse("good", source="/p/stockade.toml", restricted=True)
    assert stockade.provider(wanted, runtime=ours, memory_mb=4096).config.memory_mb == 4096


def test_a_label_shows_no_options() -> None:
    spec = ProviderString("x", "y", {"env_vars": "TOKEN=hunter2"})
    assert spec.label == "x:y" and "hunter2" not in Preference((spec,)).label  # B4
