"""What is repeated, what is not, and the end of everything."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable

import pytest

import stockade
import stockade.sessions._providers
from core.sessions.test_registry_model import fresh
from core.walls import ScriptedSandbox, ScriptedWall, make_provider
from stockade import (
    ProviderUnavailableError,
    SandboxStartError,
    SessionNotFoundError,
    SessionStateError,
    SessionStatus,
    Settings,
)
from stockade.ledger._interface import Recorded
from stockade.sessions._providers import WallProvider
from stockade.sessions._registry import SessionRecord
from stockade.sessions._runtime import Runtime
from stockade.system.retries import pauses
from stockade.wall import Availability, Check, OpenRequest


def _require(provider: WallProvider) -> None:
    provider.runtime.selector.probing.require(provider.name, provider.wall)


def failing(count: int, error: Callable[[], Exception]) -> tuple[ScriptedWall, list[float]]:
    """A wall whose first openings fail, and when each was asked for."""
    wall, asked = ScriptedWall(), list[float]()

    def open_(_: OpenRequest) -> ScriptedSandbox:
        asked.append(time.monotonic())
        if len(asked) <= count:
            raise error()
        return ScriptedSandbox()

    wall.on_open = open_
    return wall, asked


def nothing_began() -> Exception:
    return SandboxStartError("refused", nothing_began=True)


def test_an_opening_that_had_not_begun_is_repeated() -> None:
    wall, asked = failing(2, nothing_began)
    provider = make_provider(wall=wall)
    provider.runtime.destroy(provider.open_record("a"))
    assert len(asked) == 3


def test_a_preparation_that_had_not_begun_is_repeated_too() -> None:
    wall, asked = ScriptedWall(), list[int]()

    def prepare() -> None:
        asked.append(1)
        if len(asked) <= 2:
            raise nothing_began()

    wall.on_prepare = prepare
    provider = make_provider(wall=wall)
    provider.runtime.destroy(provider.open_record("a"))
    assert len(asked) == 3
    asked.clear()
    provider = make_provider(
        wall=wall, runtime=Runtime(discover_plugins=False, settings=Settings(start_retries=1))
    )
    with pytest.raises(SandboxStartError, match="refused"):
        provider.open_record("a")
    assert len(asked) == 2


def test_not_for_ever() -> None:
    wall, asked = failing(100, nothing_began)
    provider = make_provider(
        wall=wall, runtime=Runtime(discover_plugins=False, settings=Settings(start_retries=1))
    )
    with pytest.raises(SandboxStartError, match="refused"):
        provider.open_record("a")
    assert len(asked) == 2 and provider.runtime.registry.records() == []


@pytest.mark.parametrize(
    "error",
    [
        lambda: SandboxStartError("it may have begun"),
        lambda: SandboxStartError("never", retryable=False, nothing_began=True),
        lambda: RuntimeError("who knows"),
        lambda: stockade.ConfigError("wrong"),
        lambda: TimeoutError("late"),
    ],
)
def test_what_may_have_begun_or_is_of_no_use_is_not_repeated(
    error: Callable[[], Exception],
) -> None:
    wall, asked = failing(1, error)
    with pytest.raises(stockade.StockadeError):
        make_provider(wall=wall).open_record("a")
    assert len(asked) == 1


def test_no_repetition_past_the_time_to_start() -> None:
    wall, asked = failing(100, nothing_began)
    runtime = Runtime(discover_plugins=False, settings=Settings(start_retries=20))
    provider = make_provider(wall=wall, runtime=runtime, startup_timeout_seconds=0.5)
    began = time.monotonic()
    with pytest.raises(SandboxStartError):
        provider.open_record("a")
    assert time.monotonic() - began < 5 and 1 < len(asked) < 20


def test_a_preparation_takes_no_longer_than_a_start_or_what_the_wall_says() -> None:
    wall, hang = ScriptedWall(), threading.Event()
    wall.on_prepare = lambda: hang.wait(0.8)
    provider = make_provider(wall=wall, startup_timeout_seconds=0.3)
    began = time.monotonic()
    with pytest.raises(SandboxStartError, match=r"prepared .* within 0\.3 s") as caught:
        provider.open_record("a")
    assert time.monotonic() - began < 0.8 and caught.value.retryable
    assert provider.runtime.registry.records() == []
    wall.prepare_seconds = 20  # a pull, say
    provider.runtime.destroy(provider.open_record("a"))
    hang.set()


def test_pauses_grow_and_differ() -> None:
    seen = [list(pauses(6)) for _ in range(50)]
    assert all(0.05 <= found[0] <= 0.1 and 1.0 <= found[5] <= 2.0 for found in seen)
    assert len({found[0] for found in seen}) > 40
    assert list(pauses(0)) == []


@pytest.mark.parametrize(("transient", "times"), [(True, 3), (False, 1)])
def test_a_probe_is_repeated_where_the_wall_says_soon(transient: bool, times: int) -> None:
    wall, asked = ScriptedWall(), list[int]()

    def probe() -> Availability:
        asked.append(1)
        return Availability((Check("engine", False, "away", transient=transient),))

    wall.on_probe = probe
    with pytest.raises(ProviderUnavailableError, match="away"):
        _require(make_provider(wall=wall))
    assert len(asked) == times


def test_a_probe_that_mends_itself() -> None:
    wall = ScriptedWall()
    answers = [
        Availability((Check("engine", False, transient=True),)),
        Availability((Check("engine", True),)),
    ]
    wall.on_probe = lambda: answers.pop(0)
    _require(make_provider(wall=wall))
    mixed = Availability((Check("a", False, transient=True), Check("b", False)))
    assert not mixed.transient and not Availability().transient


def test_who_asks_at_the_same_time_is_answered_by_one_probe() -> None:
    wall, asked = ScriptedWall(), list[int]()
    gate = threading.Barrier(8)
    runtime = Runtime(discover_plugins=False)

    def probe() -> Availability:
        asked.append(1)
        time.sleep(0.3)
        return Availability((Check("engine", False, "away"),))

    wall.on_probe = probe
    refused: list[str] = []

    def ask() -> None:
        provider = make_provider(wall=wall, runtime=runtime)
        gate.wait(10)
        try:
            _require(provider)
        except ProviderUnavailableError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(refused) == 8 and len(asked) < 8
    with pytest.raises(ProviderUnavailableError):  # and a no is not kept
        _require(make_provider(wall=wall, runtime=runtime))
    assert runtime.selector.probing.asking == {}


# -- ending ---------------------------------------------------------------------------------


def slow(seconds: float, closed: list[int]) -> ScriptedSandbox:
    def close() -> None:
        time.sleep(seconds)
        closed.append(1)

    return ScriptedSandbox(on_close=close)


def test_all_end_at_the_same_time() -> None:
    closed: list[int] = []
    wall = ScriptedWall()
    wall.on_open = lambda _: slow(0.5, closed)
    provider = make_provider(wall=wall)
    for number in range(40):
        provider.open_record(f"agent-{number}")
    began = time.monotonic()
    provider.runtime.close_all(30)
    assert len(closed) == 40 and time.monotonic() - began < 10
    assert provider.runtime.registry.records() == []


def test_what_hangs_holds_nobody_else_up_and_the_end_is_bounded() -> None:
    closed: list[int] = []
    release = threading.Event()
    hanging, healthy = ScriptedWall(), ScriptedWall()

    def hang() -> None:
        release.wait(60)

    hanging.on_open = lambda _: ScriptedSandbox(on_close=hang)
    healthy.on_open = lambda _: slow(0, closed)
    first = make_provider(wall=hanging)
    second = make_provider(wall=healthy, runtime=first.runtime)
    second.name = "healthy"
    for _ in range(70):
        first.open_record("a")
    for _ in range(5):
        second.open_record("a")
    began = time.monotonic()
    first.runtime.close_all(1)
    assert time.monotonic() - began < 8
    assert len(closed) == 5
    release.set()


def test_what_is_being_opened_is_ended_too() -> None:
    closed: list[int] = []
    opening = threading.Event()
    wall = ScriptedWall()

    def open_(_: OpenRequest) -> ScriptedSandbox:
        opening.set()
        time.sleep(0.5)
        return slow(0.2, closed)

    wall.on_open = open_
    provider = make_provider(wall=wall)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            provider.open_record("a")
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert opening.wait(10)
    provider.runtime.shutdown(20)
    assert closed == [1]  # by the time that it returns
    thread.join(10)
    assert isinstance(errors[0], SessionStateError)
    assert provider.runtime.capacity.used == 0


def test_an_interrupted_destruction_goes_on() -> None:
    closed: list[int] = []
    wall = ScriptedWall()
    wall.on_open = lambda _: slow(0.5, closed)
    provider = make_provider(wall=wall)
    record = provider.open_record("a")

    def interrupt() -> None:
        while record.closing is None:
            time.sleep(0.005)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        provider.runtime.destroy(record)
    assert closed == []
    provider.runtime.close_all(20)
    assert closed == [1]
    deadline = time.monotonic() + 10
    while provider.runtime.registry.records() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert provider.runtime.capacity.used == 0 and str(record.status) == "destroyed"


def test_a_wall_that_exits_is_its_own_fault() -> None:
    def leave(_: OpenRequest) -> None:
        raise SystemExit(3)

    wall = ScriptedWall()
    wall.on_open = leave
    with pytest.raises(stockade.WallError, match="exit the process"):
        make_provider(wall=wall).open_record("a")


def test_who_ends_one_whose_opening_has_just_failed_finds_it_gone() -> None:
    """It is in the list that an end of all goes through, and nothing more is reported of it."""
    fickle, story, provider = fresh()
    intended: list[SessionRecord] = []

    def fail(_: OpenRequest) -> ScriptedSandbox:
        intended.extend(provider.runtime.registry.records())
        raise SandboxStartError("not now", retryable=False)

    fickle.wall.on_open = fail
    with pytest.raises(SandboxStartError):
        provider.open_record("alice")
    (record,) = intended
    with pytest.raises(SessionNotFoundError):
        provider.runtime.destroy(record)
    assert record.status is SessionStatus.FAILED and not story.wrong and not story.states
    assert provider.runtime.capacity.used == 0


def test_one_that_is_ended_while_it_opens_is_forgotten_once() -> None:
    fickle, story, provider = fresh()
    forgotten: list[str] = []
    forget = story.forget

    def count(record: Recorded) -> None:
        forgotten.append(record.session_id)
        forget(record)

    story.forget = count  # type: ignore[method-assign]
    open_ = fickle.wall.on_open

    def end_meanwhile(request: OpenRequest) -> ScriptedSandbox:
        (record,) = provider.runtime.registry.records()
        provider.runtime.destroy(record)
        return open_(request)  # type: ignore[no-any-return, misc]

    fickle.wall.on_open = end_meanwhile
    with pytest.raises(SessionStateError):
        provider.open_record("alice")
    assert len(forgotten) == 1 and not story.wrong
    provider.runtime.close_all(30)
    assert not fickle.alive and provider.runtime.capacity.used == 0
