"""Walls that hang, raise or talk nonsense: the suite ends in bounded time and says what is wrong.

And core with them: no call hangs, every error is in the one tree, and once the wall lets go
no thread of core's is left waiting for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stockade.capabilities import Capabilities, Feature, Isolation
from stockade.config import SandboxConfig
from stockade.errors import SandboxStartError, StockadeError
from stockade.session import Session
from stockade.sessions._providers import WallProvider
from stockade.sessions._runtime import Runtime
from stockade.testing import ProviderConformance
from stockade.testing.report.data import Report, describe
from stockade.testing.report.recorder import Recorder
from stockade.testing.runner import checks_of
from stockade.wall import Availability, Exit, Running, Sandbox, Wall

_CLAIMED = Capabilities(
    {feature: "native" for feature in Feature if feature is not Feature.DURABLE}
)

_METHODS = ["prepare", "open", "start", "wait", "kill", "close", "languages", "interpreter"]

#: What a wall's method does instead of its work; it is given the method's name.
Act = Callable[[str], Any]


def hostile(act: Act, only: str = "") -> type[Wall]:
    """A wall whose methods all do ``act``; or one of them, and the others something harmless."""

    def do(name: str, harmless: Any) -> Any:
        return act(name) if only in ("", name) else harmless

    class HostileRunning(Running):
        def wait(self) -> Exit:
            ended: Exit = do("wait", Exit(code=0))
            return ended

        def kill(self) -> None:
            do("kill", None)

    class HostileSandbox(Sandbox):
        def start(self, request: Any, output: Any) -> Running:
            running: Running = do("start", HostileRunning())
            return running

        def languages(self) -> Any:
            return do("languages", ("python",))

        def interpreter(self, language: str) -> Any:
            return do("interpreter", None)

        def pause(self) -> None:
            do("pause", None)

        def resume(self) -> None:
            do("resume", None)

        def address_of(self, port: int) -> Any:
            return do("address_of", ("127.0.0.1", port))

        def close(self) -> None:
            do("close", None)

    class HostileWall(Wall):
        capabilities = _CLAIMED
        isolation = Isolation.CONTAINER

        def probe(self) -> Availability:
            answer: Availability = do("probe", Availability())
            return answer

        def prepare(self, request: Any) -> None:
            do("prepare", None)

        def open(self, request: Any) -> Sandbox:
            sandbox: Sandbox = do("open", HostileSandbox())
            return sandbox

    return HostileWall


def run_suite(wall: type[Wall], clauses: tuple[str, ...] = (), seconds: float = 0.4) -> Report:
    """The whole suite on it, as `stockade conformance` runs it."""

    runtime = Runtime(discover_plugins=False)

    class Checked(ProviderConformance):
        check_seconds = seconds
        time_factor = 1.0

        def make_provider(self, **config: Any) -> WallProvider:
            settings = SandboxConfig().with_(**config)
            return WallProvider("hostile", wall(), settings, runtime)

    provider = Checked().make_provider()
    recorder = Recorder(describe(provider, "", title="hostile"))
    Checked._recorder = recorder
    for name in checks_of(clauses):
        try:
            getattr(Checked(), name)()
        except (Exception, pytest.fail.Exception, pytest.skip.Exception, pytest.xfail.Exception):
            continue
    Checked.teardown_class()
    return recorder.report


@pytest.fixture
def let_go(monkeypatch: pytest.MonkeyPatch) -> Iterator[Act]:
    """Hangs until the test is over; then every thread that hung must end."""
    before = set(threading.enumerate())
    over = threading.Event()
    for name in (
        "stockade.sessions._ending.CLOSE_SECONDS",
        "stockade.selection._probing.PROBE_SECONDS",
        "stockade.executions._languages._LOOK_SECONDS",
        "stockade.executions._execution.KILL_GRACE_SECONDS",
        "stockade.system.threads._IDLE_SECONDS",
    ):
        monkeypatch.setattr(name, 0.3)

    def hang(name: str) -> None:
        over.wait(60)

    yield hang
    stuck = [thread for thread in threading.enumerate() if thread not in before]
    assert all(thread.daemon for thread in stuck)
    assert len(stuck) < 60, "threads that wait for the wall are bounded"
    over.set()
    deadline = time.monotonic() + 20
    while (held := _held(before)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not held, held


def _held(before: set[threading.Thread]) -> list[threading.Thread]:
    """Newer threads, but the clocks of sessions that failed and keep their lifetime (C6)."""
    return [
        thread
        for thread in threading.enumerate()
        if thread not in before and thread.name != "stockade-clock"
    ]


def check_explained(report: Report) -> None:
    """The report says which checks failed, with clause, expectation and what was seen."""
    failed = [check for check in report.checks if check.outcome == "failed"]
    assert failed
    for check in failed:
        assert check.message.startswith(f"{check.clause}\n"), check
        assert "expected:" in check.message and "seen:" in check.message, check
    assert {check.name for check in report.checks} == {
        name.removeprefix("test_") for name in checks_of()
    }


def raises(name: str) -> None:
    raise RuntimeError(f"{name} fails")


def exits(name: str) -> None:
    raise SystemExit(3)


def interrupts(name: str) -> None:
    raise KeyboardInterrupt


def nonsense(name: str) -> Any:
    return {
        "probe": "yes",
        "open": 7,
        "wait": "done",
        "start": None,
        "languages": 5,
        "interpreter": 5,
    }.get(name, b"")


def test_a_wall_that_hangs_in_every_method(let_go: Act) -> None:
    began = time.monotonic()
    report = run_suite(hostile(let_go))
    assert time.monotonic() - began < 40
    check_explained(report)
    states = report.states()
    assert states["A8"].state == "failing"
    # Not available is the truth about it, so nothing more is claimed to have been checked.
    assert "no answer" in states["D6"].note or states["D6"].state == "failing"


@pytest.mark.parametrize("method", _METHODS)
def test_a_wall_that_hangs_in_one_method(let_go: Act, method: str) -> None:
    began = time.monotonic()
    report = run_suite(hostile(let_go, only=method), ("C", "D"))
    assert time.monotonic() - began < 40
    assert report.failed


@pytest.mark.parametrize("act", [raises, exits, interrupts])
def test_a_wall_that_raises_in_every_method(act: Act) -> None:
    report = run_suite(hostile(act))
    check_explained(report)
    assert report.states()["A8"].state == "failing"


@pytest.mark.parametrize("act", [raises, exits, interrupts])
@pytest.mark.parametrize("method", _METHODS)
def test_a_wall_that_raises_in_one_method(act: Act, method: str) -> None:
    report = run_suite(hostile(act, only=method), ("C4", "D1", "D2"), seconds=2.0)
    assert report.failed


def test_a_wall_that_talks_nonsense() -> None:
    report = run_suite(hostile(nonsense))
    check_explained(report)
    assert report.states()["A8"].state == "failing"


@pytest.mark.parametrize("method", ["open", "start", "wait", "languages", "interpreter"])
def test_nonsense_of_one_method_is_reported(method: str) -> None:
    report = run_suite(hostile(nonsense, only=method), ("D1",))
    notes = report.states()["D1"].note
    assert "returned" in notes, notes


# -- core itself -------------------------------------------------------------------


def session_of(wall: type[Wall]) -> Session:
    provider = WallProvider("hostile", wall(), SandboxConfig(), Runtime(discover_plugins=False))
    return Session(provider, provider.open_record("a"))


@pytest.mark.parametrize("act", [raises, exits, interrupts, nonsense])
@pytest.mark.parametrize("method", ["start", "wait", "languages", "interpreter", "pause"])
def test_core_keeps_what_a_wall_raises_in_its_own_tree(act: Act, method: str) -> None:
    if (act, method) == (nonsense, "pause"):
        pytest.skip("what pause returns says nothing")
    session = session_of(hostile(act, only=method))
    try:
        with pytest.raises(StockadeError):
            if method == "pause":
                session.pause()
            else:
                session.code("1")
    finally:
        session.close()


@pytest.mark.parametrize(
    "method", ["start", "wait", "kill", "languages", "interpreter", "pause", "close"]
)
def test_core_hangs_with_no_method(let_go: Act, method: str) -> None:
    session = session_of(hostile(let_go, only=method))
    began = time.monotonic()
    try:
        if method == "pause":
            session.pause()
        elif method == "close":
            session.close()
        else:
            session.code("1", timeout=0.2)
    except StockadeError:
        pass
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("method", ["prepare", "open"])
def test_C5_a_start_that_hangs_is_an_error_in_time(let_go: Act, method: str) -> None:
    config = SandboxConfig(startup_timeout_seconds=0.5)
    runtime = Runtime(discover_plugins=False)
    provider = WallProvider("hostile", hostile(let_go, only=method)(), config, runtime)
    began = time.monotonic()
    with pytest.raises(SandboxStartError, match=r"within 0\.5 s") as caught:
        provider.open_record("a")
    assert time.monotonic() - began < 5 and caught.value.retryable
    assert runtime.registry.records() == [] and runtime.capacity.used == 0


@pytest.mark.parametrize("act", [raises, exits, interrupts])
@pytest.mark.parametrize("method", ["prepare", "open"])
def test_what_a_start_raises_is_in_cores_own_tree(act: Act, method: str) -> None:
    with pytest.raises(StockadeError):
        session_of(hostile(act, only=method))


@pytest.mark.parametrize("act", [raises, exits, interrupts, nonsense])
def test_availability_never_raises(act: Act) -> None:
    provider = WallProvider(
        "hostile", hostile(act, only="probe")(), SandboxConfig(), Runtime(discover_plugins=False)
    )
    answer = provider.availability()
    assert not answer and answer.reason
