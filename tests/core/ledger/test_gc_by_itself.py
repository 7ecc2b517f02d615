"""The collection that a process starts by itself, and what hangs meanwhile."""

from __future__ import annotations

import threading
import time

import pytest

from core.engine_walls import Engine, EngineWall
from core.ledger.left import enter, there
from core.walls import make_provider
from stockade import collect
from stockade.ledger import _collecting as gc_module
from stockade.ledger._sqlite import SqliteLedger
from stockade.results import SessionStatus
from stockade.sessions._runtime import Runtime
from stockade.wall import Leftover


def test_the_first_session_of_a_process_collects_in_the_background(
    runtime: Runtime, engine: Engine, dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STOCKADE_GC", raising=False)
    there(engine, "ses-old", dead)
    record = make_provider(wall=EngineWall(), runtime=runtime).open_record("agent")
    until = time.monotonic() + 20
    while engine.removed != ["ses-old"] and time.monotonic() < until:
        time.sleep(0.01)
    assert engine.removed == ["ses-old"]
    there(engine, "ses-later", dead)
    runtime.destroy(make_provider(wall=EngineWall(), runtime=runtime).open_record("agent"))
    again = Runtime(discover_plugins=False, ledger=runtime.ledger)
    again.collector().collect_quietly(
        "eng", EngineWall()
    )  # within the minute: it is somebody's turn already
    assert engine.removed == ["ses-old"]
    runtime.destroy(record)


def test_a_collection_that_hangs_or_fails_delays_no_session(
    runtime: Runtime, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang = threading.Event()
    monkeypatch.setattr(EngineWall, "leftovers", lambda _: hang.wait(60))
    record = make_provider(wall=EngineWall(), runtime=runtime).open_record("agent")
    assert record.status is SessionStatus.READY
    runtime.destroy(record)
    hang.set()


def test_a_wall_that_hangs_is_skipped_and_one_stuck_removal_holds_up_no_other(
    runtime: Runtime, engine: Engine, dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang = threading.Event()
    monkeypatch.setattr("stockade.ledger._looking._LIST_SECONDS", 3.0)
    monkeypatch.setattr(gc_module, "_REMOVE_SECONDS", 5.0)
    monkeypatch.setattr(gc_module, "_PAUSES", ())
    remove = EngineWall.remove

    def stuck(self: EngineWall, leftover: Leftover) -> None:
        if leftover.session_id == "ses-0":
            hang.wait(60)  # by then the next test may run: nothing is removed any more
            return
        remove(self, leftover)

    monkeypatch.setattr(EngineWall, "remove", stuck)
    for number in range(20):
        there(engine, f"ses-{number}", dead)
    done = collect(runtime=runtime)
    assert [entry[0] for entry in done.failed] == ["ses-0"], done.failed
    assert len(engine.removed) == 19
    monkeypatch.setattr(EngineWall, "leftovers", lambda _: hang.wait(60))
    enter(runtime, "ses-1", dead)
    began = time.monotonic()
    done = collect(runtime=runtime)
    assert time.monotonic() - began < 30
    assert done.skipped and "no answer" in done.skipped[0][1] and not done.forgotten
    hang.set()


def test_a_thousand_leftovers_take_a_few_threads(
    runtime: Runtime, engine: Engine, dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    most, remove = [0], EngineWall.remove

    def counted(self: EngineWall, leftover: Leftover) -> None:
        most[0] = max(most[0], threading.active_count())
        remove(self, leftover)

    monkeypatch.setattr(EngineWall, "remove", counted)
    for number in range(1000):
        there(engine, f"ses-{number}", dead)
    before = threading.active_count()
    done = collect(runtime=runtime)
    assert len(done.removed) == 1000 and done.clean
    assert most[0] - before < 40


def test_it_can_be_switched_off(
    runtime: Runtime, engine: Engine, dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOCKADE_GC", "off")
    there(engine, "ses-1", dead)
    runtime.collector().collect_quietly("eng", EngineWall())
    assert engine.removed == []


def test_one_process_a_minute_collects(runtime: Runtime) -> None:
    assert runtime.ledger is not None
    runtime.ledger.flush()
    assert runtime.ledger.take_turn(60)
    assert not SqliteLedger(runtime.ledger.path).take_turn(60)
    assert SqliteLedger(runtime.ledger.path).take_turn(0)


def test_no_ledger_at_all(engine: Engine, dead: str) -> None:
    runtime = Runtime(discover_plugins=False)
    runtime.walls._walls["eng"] = EngineWall
    there(engine, "ses-1", dead)
    assert [entry[0] for entry in collect(runtime=runtime).removed] == ["ses-1"]
