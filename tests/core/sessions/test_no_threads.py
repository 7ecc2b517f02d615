"""What becomes of everything when the system has no thread to give any more (C5, C6, D6)."""

from __future__ import annotations

import subprocess
import threading
import time
from typing import Any

import pytest

from core.walls import ScriptedWall, make_provider, until_killed
from stockade import CapacityError, Pool, SessionStatus, Verdict
from stockade.ledger._sqlite import SqliteLedger
from stockade.session import Session
from stockade.sessions._runtime import Runtime
from stockade.system.threads import Clock, Narrow, Workers, all_at_once
from stockade.toolkit.processes.children import Child
from stockade.toolkit.processes.pump import LocalRunning


class Switch:
    off = False


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Switch:
    """Switched off there is none, as with a limit of processes that is reached."""
    switch = Switch()
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if switch.off:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    return switch


def _busy(runtime: Runtime) -> None:
    """Let no thread of the runtime's be idle."""
    runtime.workers._idle.clear()


def test_no_thread_no_phantom_execution(threads: Switch) -> None:
    runtime = Runtime(discover_plugins=False)
    provider = make_provider(runtime=runtime)
    session = Session(provider, provider.open_record("agent"))
    _busy(runtime)
    threads.off = True
    with pytest.raises(CapacityError, match="no thread") as caught:
        session.run(["x"])
    assert caught.value.retryable
    assert session.status is SessionStatus.READY and not session._record.executions
    threads.off = False
    assert session.run(["x"]).success
    session.close()


def test_no_thread_no_session(threads: Switch) -> None:
    runtime = Runtime(discover_plugins=False)
    threads.off = True
    with pytest.raises(CapacityError, match="no thread"):
        make_provider(runtime=runtime).open_record("agent")
    assert not runtime.registry.records() and runtime.capacity.used == 0


def test_C6_a_session_is_ended_without_one(threads: Switch) -> None:
    runtime = Runtime(discover_plugins=False)
    provider = make_provider(until_killed, runtime=runtime)
    session = Session(provider, provider.open_record("agent"))
    running = session.start(["x"])
    _busy(runtime)
    threads.off = True
    session.close()
    assert session.status is SessionStatus.DESTROYED
    assert running.result(5).verdict is Verdict.CANCELLED


def test_all_sessions_are_ended_without_one(threads: Switch) -> None:
    runtime = Runtime(discover_plugins=False)
    records = [make_provider(runtime=runtime).open_record("agent") for _ in range(3)]
    _busy(runtime)
    threads.off = True
    runtime.close_all(5)
    assert {record.status for record in records} == {SessionStatus.DESTROYED}


def test_D6_a_deadline_is_held_without_one(threads: Switch) -> None:
    runtime = Runtime(discover_plugins=False)
    provider = make_provider(until_killed, runtime=runtime)
    session = Session(provider, provider.open_record("agent"))
    running = session.start(["x"], timeout=0.3)
    _busy(runtime)
    threads.off = True
    assert running.result(5).verdict is Verdict.TIMED_OUT
    threads.off = False
    session.close()


def test_a_lifetime_is_held_once_there_is_one_again(threads: Switch) -> None:
    runtime = Runtime(discover_plugins=False)
    provider = make_provider(runtime=runtime, lifetime_seconds=1.0)
    session = Session(provider, provider.open_record("agent"))
    _busy(runtime)
    threads.off = True
    time.sleep(1.2)
    assert session.status is SessionStatus.READY
    threads.off = False
    until = time.monotonic() + 10
    while session.status is not SessionStatus.DESTROYED and time.monotonic() < until:
        time.sleep(0.02)
    assert session.status is SessionStatus.DESTROYED


def test_a_clock_that_had_none_starts_later(threads: Switch) -> None:
    clock, called = Clock(), threading.Event()
    threads.off = True
    with pytest.raises(CapacityError):
        clock.after(0.01, called.set)
    threads.off = False
    assert not called.wait(0.1)
    clock.after(0.01, called.set)
    assert called.wait(5)


def test_a_clock_outlives_what_breaks_off() -> None:
    def breaks() -> None:
        raise SystemExit(1)

    clock, called = Clock(), threading.Event()
    clock.after(0.0, breaks)
    clock.after(0.05, called.set)
    assert called.wait(5)


def test_a_narrow_way_is_not_closed_for_ever(threads: Switch) -> None:
    workers = Workers()
    narrow = Narrow(workers, 1)
    threads.off = True
    with pytest.raises(CapacityError):
        narrow.submit(lambda: 1)
    threads.off = False
    assert narrow.submit(lambda: 2).result(5) == 2


def test_who_waits_in_a_narrow_way_is_answered(threads: Switch) -> None:
    """Work handed over while the only thread for it could not be started."""
    workers = Workers()
    narrow = Narrow(workers, 1)
    waiting: list[Any] = []
    run = workers.run

    def late(work: Any) -> None:
        waiting.append(narrow.submit(lambda: 2))  # another thread comes in between
        run(work)

    workers.run = late  # type: ignore[method-assign]
    threads.off = True
    with pytest.raises(CapacityError):
        narrow.submit(lambda: 1)
    with pytest.raises(CapacityError):
        waiting[0].result(5)


def test_all_at_once_does_it_in_this_thread_then(threads: Switch) -> None:
    done: list[int] = []
    threads.off = True
    all_at_once(Workers(), [lambda: done.append(1), lambda: done.append(2)], 5, width=2)
    assert done == [1, 2]


def test_a_pool_fills_up_once_there_is_one_again(threads: Switch) -> None:
    runtime = Runtime(discover_plugins=False)
    runtime.walls._walls["pooled"] = ScriptedWall
    with Pool("pooled", size=3, runtime=runtime) as pool:
        assert pool.wait_ready(10)
        until = time.monotonic() + 5
        # The threads that started the first ones take further work for as long as they run.
        while (pool.warm._starting or pool.warm._narrow._running) and time.monotonic() < until:
            time.sleep(0.01)
        _busy(runtime)
        threads.off = True
        taken = pool.warm._take()
        assert taken is not None and pool.warm._starting == 0
        with pytest.raises(CapacityError):  # the clock has no thread either
            runtime.clock._thread = None
            pool.warm.hand_over(taken, "agent")
        assert taken.status is SessionStatus.DESTROYED
        threads.off = False
        pool.open().close()
        assert pool.wait_ready(10)


def test_the_ledger_is_written_later(threads: Switch, tmp_path: Any) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    runtime = Runtime(discover_plugins=False, ledger=ledger)
    provider = make_provider(runtime=runtime)
    session = Session(provider, provider.open_record("agent"))
    ledger.flush()
    until = time.monotonic() + 15
    threads.off = True
    ledger._later._thread = None  # as after a while without work
    session._record.save()
    threads.off = False
    session._record.fail("it broke")
    while time.monotonic() < until:
        if [r.state for r in SqliteLedger(ledger.path).sessions()] == ["failed"]:
            break
        time.sleep(0.05)
    assert [r.state for r in SqliteLedger(ledger.path).sessions()] == ["failed"]
    session.close()


def test_a_local_program_without_one_is_ended(
    threads: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[subprocess.Popen[bytes]] = []
    real = Child

    def child(*args: Any, **kwargs: Any) -> Any:
        process = real(*args, **kwargs)
        made.append(process)
        return process

    monkeypatch.setattr("stockade.toolkit.processes.pump.Child", child)

    class Nothing:
        def write(self, *_: object) -> None: ...

    threads.off = True
    with pytest.raises(CapacityError):
        LocalRunning.start(["sleep", "30"], b"", Nothing(), working_dir="/", env={})  # type: ignore[arg-type]
    assert [process.returncode for process in made] == [-9]
