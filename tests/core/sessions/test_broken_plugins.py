"""Observers, ledgers and interrupts that break off at the worst moment: nobody hangs (C6, C7)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from core.walls import ScriptedSandbox, ScriptedWall, make_provider, until_killed
from stockade import PolicyError, SessionStatus, Verdict
from stockade.events import Event, EventKind
from stockade.ledger._interface import MemoryLedger, Recorded
from stockade.plugin import hookimpl
from stockade.session import Session
from stockade.sessions._registry import SessionRecord
from stockade.sessions._runtime import Runtime
from stockade.wall import Availability, Exit


class Breaks(BaseException):
    """What no ``except Exception`` catches, as a cancelled task's error is."""


class Observer:
    """Raises at one kind of event, or at all."""

    def __init__(self, error: BaseException, kind: EventKind | None = None) -> None:
        self.error = error
        self.kind = kind

    @hookimpl
    def stockade_event(self, event: Event) -> None:
        if self.kind is None or event.kind is self.kind:
            raise self.error


class Listener:
    def __init__(self) -> None:
        self.kinds: list[EventKind] = []

    @hookimpl
    def stockade_event(self, event: Event) -> None:
        self.kinds.append(event.kind)


class BrokenLedger(MemoryLedger):
    """Raises once it is switched on."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.on = False

    def change(self, record: Recorded) -> None:
        if self.on:
            raise self.error

    def forget(self, record: Recorded) -> None:
        if self.on:
            raise self.error


def _in_time(call: Callable[[], object], seconds: float = 10.0) -> list[object]:
    """What a call returns or raises; it fails the test by hanging."""
    ended: list[object] = []

    def work() -> None:
        try:
            ended.append(call())
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    assert ended, "it hangs"
    return ended


ERRORS = [Breaks("no"), SystemExit(3), GeneratorExit(), KeyboardInterrupt()]
_names = [type(error).__name__ for error in ERRORS]


@pytest.mark.parametrize("error", ERRORS, ids=_names)
def test_an_observer_that_breaks_off_keeps_no_caller_waiting(error: BaseException) -> None:
    runtime = Runtime(discover_plugins=False)
    listener = Listener()
    runtime.hooks.add(listener)
    runtime.hooks.add(Observer(error, EventKind.EXECUTION_FINISHED))
    provider = make_provider(runtime=runtime)
    session = Session(provider, provider.open_record("agent"))
    (result,) = _in_time(lambda: session.run(["x"]))
    assert getattr(result, "success", False), result
    assert session.status is SessionStatus.READY
    assert EventKind.EXECUTION_FINISHED in listener.kinds  # the others are notified all the same
    session.close()


@pytest.mark.parametrize("error", ERRORS, ids=_names)
def test_an_observer_that_always_breaks_off_changes_nothing(error: BaseException) -> None:
    runtime = Runtime(discover_plugins=False)
    runtime.hooks.add(Observer(error))

    def all_of_it() -> list[object]:
        provider = make_provider(until_killed, runtime=runtime)
        session = Session(provider, provider.open_record("agent"))
        states: list[object] = [session.run(["x"], timeout=0.1).verdict]
        running = session.start(["x"])
        session.close()
        return [*states, running.result(5).verdict, session.status]

    (seen,) = _in_time(all_of_it)
    assert seen == [Verdict.TIMED_OUT, Verdict.CANCELLED, SessionStatus.DESTROYED], seen
    assert not runtime.registry.records() and runtime.capacity.used == 0


@pytest.mark.parametrize("error", [*ERRORS, OSError("disk")], ids=[*_names, "OSError"])
def test_a_ledger_that_breaks_off_keeps_no_caller_waiting(error: BaseException) -> None:
    ledger = BrokenLedger(error)
    runtime = Runtime(discover_plugins=False, ledger=ledger)
    provider = make_provider(runtime=runtime)
    session = Session(provider, provider.open_record("agent"))
    ledger.on = True
    (result,) = _in_time(lambda: session.run(["x"]))
    assert getattr(result, "success", False), result
    assert session.status is SessionStatus.READY
    _in_time(session.close)
    assert session.status is SessionStatus.DESTROYED
    assert not runtime.registry.records() and runtime.capacity.used == 0


def test_C5_an_interrupt_in_an_observer_leaves_no_session() -> None:
    """The user's own comes to the main thread, and goes on to the caller."""
    for kind in (EventKind.SESSION_CREATING, EventKind.SESSION_READY):
        runtime = Runtime(discover_plugins=False)
        runtime.hooks.add(Observer(KeyboardInterrupt(), kind))
        wall = ScriptedWall()
        wall.sandbox = sandbox = ScriptedSandbox()
        with pytest.raises(KeyboardInterrupt):
            make_provider(runtime=runtime, wall=wall).open_record("agent")
        runtime.openings.wait(5)
        assert not runtime.registry.records() and runtime.capacity.used == 0
        assert sandbox.closed == (kind is EventKind.SESSION_READY)


def test_C6_an_interrupt_in_an_observer_ends_the_session_all_the_same() -> None:
    for kind in (EventKind.SESSION_DESTROYING, EventKind.SESSION_DESTROYED):
        runtime = Runtime(discover_plugins=False)
        provider = make_provider(until_killed, runtime=runtime)
        session = Session(provider, provider.open_record("agent"))
        running = session.start(["x"])
        observer = Observer(KeyboardInterrupt(), kind)
        runtime.hooks.add(observer)
        session.close()
        assert running.result(5).verdict is Verdict.CANCELLED
        assert session.status is SessionStatus.DESTROYED and not runtime.registry.records()


def test_a_policy_that_breaks_off_refuses() -> None:
    class Policy:
        @hookimpl
        def stockade_session_policy(self, proposal: Any) -> None:
            raise Breaks("no")

    runtime = Runtime(discover_plugins=False)
    runtime.hooks.add(Policy())
    with pytest.raises(PolicyError, match="Breaks"):
        make_provider(runtime=runtime).open_record("agent")


def test_C6_close_is_not_called_again_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stockade.sessions._ending.CLOSE_SECONDS", 0.1)
    go, at_once, most = threading.Event(), [0], [0]

    def slow() -> None:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        go.wait(10)
        at_once[0] -= 1

    wall = ScriptedWall()
    wall.sandbox = sandbox = ScriptedSandbox(on_close=slow)
    provider = make_provider(wall=wall)
    session = Session(provider, provider.open_record("agent"))
    for _ in range(2):
        with pytest.raises(Exception, match="no answer within"):
            session.close()
    assert (sandbox.closed, most[0]) == (1, 1)
    go.set()
    until = time.monotonic() + 5
    while at_once[0] and time.monotonic() < until:
        time.sleep(0.01)
    session.close()  # the late end was an end: it is not asked for once more
    assert (sandbox.closed, session.status) == (1, SessionStatus.DESTROYED)


def test_C6_an_end_during_the_opening_closes_once() -> None:
    """Who opens finds it ended meanwhile, and must not close it, too."""
    runtime = Runtime(discover_plugins=False)
    wall = ScriptedWall()
    at_once, most, opened = [0], [0], threading.Event()

    def slow() -> None:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        time.sleep(0.3)
        at_once[0] -= 1

    wall.sandbox = sandbox = ScriptedSandbox(on_close=slow)
    limit = runtime.limit_life

    def late(record: SessionRecord) -> None:
        opened.set()
        time.sleep(0.1)
        limit(record)

    runtime.limit_life = late  # type: ignore[method-assign]

    def end() -> None:
        opened.wait(5)
        for record in runtime.registry.records():
            runtime.destroy(record)

    ender = threading.Thread(target=end, daemon=True)
    ender.start()
    with pytest.raises(Exception, match="cannot become|gone|ended"):
        make_provider(runtime=runtime, wall=wall).open_record("agent")
    ender.join(5)
    runtime.openings.wait(5)
    assert (sandbox.closed, most[0]) == (1, 1)


def test_an_interrupt_of_who_probes_is_nobody_elses() -> None:
    import signal

    runtime = Runtime(discover_plugins=False)
    asked, go = threading.Event(), threading.Event()

    class Slow(ScriptedWall):
        def probe(self) -> Availability:
            asked.set()
            go.wait(10)
            return Availability()

    runtime.walls._walls["slow"] = Slow
    from stockade.sessions._providers import provider

    ends: list[object] = []

    def other() -> None:
        asked.wait(5)
        try:
            ends.append(provider("slow", runtime=runtime, check_available=True).name)
        except BaseException as error:
            ends.append(error)

    waits = threading.Thread(target=other, daemon=True)
    waits.start()

    def interrupt() -> None:
        asked.wait(5)
        time.sleep(0.2)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(0.2)
        go.set()

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        provider("slow", runtime=runtime, check_available=True)
    waits.join(10)
    assert ends == ["slow"]
    assert not runtime.selector.probing.asking


def test_D6_a_held_ledger_delays_no_deadline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """What is written when a wall hangs is written beside the clock, not in its thread."""
    import sqlite3

    from stockade.ledger._sqlite import SqliteLedger

    monkeypatch.setattr("stockade.executions._execution.KILL_GRACE_SECONDS", 0.2)
    runtime = Runtime(
        discover_plugins=False, ledger=SqliteLedger(tmp_path / "l.sqlite", timeout_seconds=6)
    )
    stuck = threading.Event()

    def deaf(_r: Any, _o: Any) -> Exit:
        stuck.wait(20)
        return Exit(signal=9)

    hanging = make_provider(deaf, runtime=runtime, durable=True)
    well = make_provider(until_killed, runtime=runtime)
    one = Session(hanging, hanging.open_record("agent"))
    two = Session(well, well.open_record("agent"))
    assert runtime.ledger is not None
    runtime.ledger.flush()
    holder = sqlite3.connect(tmp_path / "l.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        one.start(["x"], timeout=0.1)
        began = time.monotonic()
        assert two.run(["x"], timeout=1.0).verdict is Verdict.TIMED_OUT
        assert time.monotonic() - began < 2.5
    finally:
        holder.execute("ROLLBACK")
        holder.close()
        stuck.set()
    one.close()
    two.close()
