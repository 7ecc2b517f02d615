"""What gc removes, and what it never touches (C9, C11)."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import attrs
import pytest

from core.engine_walls import Engine, EngineWall, OtherWall
from core.walls import make_provider
from stockade import SandboxConfig, collect
from stockade.ledger import _collecting as gc_module
from stockade.ledger._collecting import collect_quietly
from stockade.ledger._judging import why_remove
from stockade.ledger._sqlite import SqliteLedger
from stockade.results import SessionStatus
from stockade.sessions._registry import SessionRecord
from stockade.sessions._runtime import Runtime
from stockade.system.owner import Owner
from stockade.wall import Leftover, Place, Wall


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    monkeypatch.setattr(EngineWall, "engine", engine, raising=False)
    from stockade.selection._discovery import InstalledPlugin

    monkeypatch.setattr(gc_module, "installed", lambda: [InstalledPlugin("eng", "d", "1", "x")])
    return engine


@pytest.fixture
def runtime(tmp_path: Path, engine: Engine) -> Runtime:
    runtime = Runtime(discover_plugins=False, ledger=SqliteLedger(tmp_path / "ledger.sqlite"))
    walls: dict[str, type[Wall]] = {"eng": EngineWall, "other": OtherWall}
    runtime.walls._walls.update(walls)
    return runtime


@pytest.fixture(scope="module")
def dead() -> str:
    """A process that has ended."""
    code = "from stockade.system.owner import Owner; print(Owner.current())"
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


ELSEWHERE = str(attrs.evolve(Owner.current(), boot="another", host="another"))


def _enter(
    runtime: Runtime, session_id: str, owner: str, state: str = "ready", **config: Any
) -> None:
    """A record as the process ``owner`` would have left it."""
    assert runtime.ledger is not None
    expires_in = config.pop("expires_in", 600.0)
    used_ago = config.pop("used_ago", 0.0)
    record = SessionRecord(session_id, "a", "eng", None, SandboxConfig(**config), "eng")
    record.place = Place.here()
    record.expires_at = None if expires_in is None else time.time() + expires_in
    record.last_used = time.monotonic() - used_ago
    record.status = SessionStatus(state)
    runtime.ledger.intend(record)
    with runtime.ledger.file.writing() as db:
        for table in ("sessions", "attachments"):
            db.execute(f"UPDATE {table} SET owner = ? WHERE session_id = ?", (owner, session_id))


def _there(engine: Engine, session_id: str, owner: str, **more: Any) -> None:
    engine.there.append(
        Leftover(session_id=session_id, handle=f"h-{session_id}", owner=owner, **more)
    )


# -- without durability ------------------------------------------------------------------


@pytest.mark.parametrize("recorded", [True, False], ids=["ledger", "lost ledger"])
@pytest.mark.parametrize(
    ("whose", "over", "gone"),
    [
        ("dead", False, True),
        ("dead", True, True),
        ("me", False, False),
        ("elsewhere", False, False),
        ("elsewhere", True, True),
        ("nonsense", False, False),
        ("nonsense", True, True),
        ("me", True, True),
    ],
)
def test_C9_only_what_is_surely_left_over_is_removed(
    whose: str, over: bool, gone: bool, recorded: bool, runtime: Runtime, engine: Engine, dead: str
) -> None:
    owner = {"dead": dead, "me": str(Owner.current()), "elsewhere": ELSEWHERE}.get(whose, "x:1:2")
    expires_in = -120.0 if over else 600.0
    _there(engine, "ses-1", owner, expires_at=time.time() + expires_in)
    if recorded:
        _enter(runtime, "ses-1", owner, expires_in=expires_in)
    done = collect(runtime=runtime)
    assert engine.removed == (["ses-1"] if gone else [])
    assert [entry[0] for entry in done.removed] == engine.removed
    assert done.kept == (0 if gone else 1) and done.clean
    assert runtime.ledger is not None
    assert len(runtime.ledger.sessions()) == (recorded and not gone)


def test_an_owner_that_lives_gets_its_time_to_end_it(runtime: Runtime, engine: Engine) -> None:
    """It ends its sessions itself at their lifetime; gc steps in only where it does not."""
    _there(engine, "ses-1", str(Owner.current()), expires_at=time.time() - 5)
    collect(runtime=runtime)
    assert engine.removed == []


def test_what_a_ledger_does_not_know_is_told_by_what_stands_on_it(
    runtime: Runtime, engine: Engine, dead: str
) -> None:
    _there(engine, "ses-1", dead)
    _there(engine, "ses-2", dead, durable=True)
    _there(engine, "ses-3", dead, durable=True, running=False)
    _there(engine, "ses-4", dead, durable=True, expires_at=time.time() - 1)
    collect(runtime=runtime)
    assert sorted(engine.removed) == ["ses-1", "ses-3", "ses-4"]


# -- durable ones ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "running", "gone"),
    [
        ({}, True, False),
        ({}, False, True),
        ({"expires_in": None}, True, False),
        ({"expires_in": -1}, True, True),
        ({"state": "provisioning"}, True, True),
        ({"state": "destroying"}, True, True),
        ({"state": "failed"}, True, True),
        ({"idle_seconds": 100.0}, True, False),
        ({"idle_seconds": 100.0, "used_ago": 101}, True, True),
    ],
)
def test_C10_a_durable_session_needs_no_owner(
    record: dict[str, Any], running: bool, gone: bool, runtime: Runtime, engine: Engine, dead: str
) -> None:
    _there(engine, "ses-1", dead, durable=True, running=running)
    _enter(runtime, "ses-1", dead, durable=True, **record)
    collect(runtime=runtime)
    assert bool(engine.removed) is gone


def test_a_durable_session_that_is_being_made_is_its_makers(
    runtime: Runtime, engine: Engine
) -> None:
    _there(engine, "ses-1", str(Owner.current()), durable=True, running=False)
    _enter(runtime, "ses-1", str(Owner.current()), "provisioning", durable=True)
    collect(runtime=runtime)
    assert engine.removed == []


def test_one_that_a_living_process_uses_is_not_idle(
    runtime: Runtime, engine: Engine, dead: str
) -> None:
    _there(engine, "ses-1", dead, durable=True)
    _enter(runtime, "ses-1", dead, durable=True, idle_seconds=100.0, used_ago=1000)
    assert runtime.ledger is not None
    with runtime.ledger.file.writing() as db:
        db.execute("INSERT INTO attachments VALUES ('ses-1', ?, 1, 1)", (str(Owner.current()),))
    collect(runtime=runtime)
    assert engine.removed == []


# -- records ------------------------------------------------------------------------------


def test_a_record_of_nothing_is_forgotten_once_its_owner_is_dead(
    runtime: Runtime, engine: Engine, dead: str
) -> None:
    _enter(runtime, "ses-dead", dead)
    _enter(runtime, "ses-mine", str(Owner.current()), "provisioning")
    _enter(runtime, "ses-far", ELSEWHERE)
    _enter(runtime, "ses-over", ELSEWHERE, expires_in=-120)
    done = collect(runtime=runtime)
    assert sorted(entry[0] for entry in done.forgotten) == ["ses-dead", "ses-over"]
    assert runtime.ledger is not None
    assert {r.session_id for r in runtime.ledger.sessions()} == {"ses-mine", "ses-far"}


def test_while_the_engine_is_away_nothing_is_forgotten(
    runtime: Runtime, engine: Engine, dead: str
) -> None:
    engine.away = True
    _enter(runtime, "ses-1", dead)
    done = collect(runtime=runtime)
    assert not done.clean and "away" in done.skipped[0][1] and not done.forgotten
    engine.away = False
    assert collect(runtime=runtime).forgotten


def test_a_durable_session_of_a_wall_that_lists_nothing_is_kept(
    runtime: Runtime, dead: str
) -> None:
    """It may be there all the same, so its record is the last that is known of it."""
    assert runtime.ledger is not None
    for session_id, durable in (("ses-1", True), ("ses-2", False)):
        _enter(runtime, session_id, dead, durable=durable)
    with runtime.ledger.file.writing() as db:
        db.execute("UPDATE sessions SET string = 'other', provider = 'other'")
    done = collect(runtime=runtime)
    assert [entry[0] for entry in done.forgotten] == ["ses-2"]


def test_a_wall_that_is_gone_keeps_its_records(runtime: Runtime, dead: str) -> None:
    _enter(runtime, "ses-1", dead)
    assert runtime.ledger is not None
    with runtime.ledger.file.writing() as db:
        db.execute("UPDATE sessions SET string = 'uninstalled', provider = 'uninstalled'")
    done = collect(runtime=runtime)
    assert done.skipped and not done.forgotten
    assert collect(runtime=runtime, force=["ses-1"]).forgotten == [("ses-1", "it was asked for")]


def test_C6_what_fails_is_tried_again_and_kept_with_its_reason(
    runtime: Runtime, engine: Engine, dead: str
) -> None:
    _there(engine, "ses-1", dead)
    _enter(runtime, "ses-1", dead)
    engine.fails = 3  # as often as one pass tries
    done = collect(runtime=runtime)
    assert [entry[0] for entry in done.failed] == ["ses-1"]
    assert runtime.ledger is not None
    (kept,) = runtime.ledger.sessions()
    assert kept.state == "failed" and "it is stuck" in kept.reason
    engine.fails = 1  # the same process, as with --watch
    assert collect(runtime=runtime).removed and not runtime.ledger.sessions()


def test_a_dry_run_touches_nothing(runtime: Runtime, engine: Engine, dead: str) -> None:
    _there(engine, "ses-1", dead)
    _enter(runtime, "ses-1", dead)
    _enter(runtime, "ses-2", dead)
    done = collect(runtime=runtime, dry_run=True)
    assert done.removed and done.forgotten
    assert runtime.ledger is not None
    assert len(runtime.ledger.sessions()) == 2 and not engine.removed


def test_force_removes_whoever_owns_it(runtime: Runtime, engine: Engine) -> None:
    _there(engine, "ses-1", ELSEWHERE)
    _enter(runtime, "ses-1", ELSEWHERE)
    collect(runtime=runtime, force=["ses-1"])
    assert engine.removed == ["ses-1"]


@pytest.mark.parametrize("string", ["other | eng:x", "eng | nowhere?labels=a=secret", "local | x,"])
def test_each_wall_that_a_string_names_is_looked_at(
    runtime: Runtime, engine: Engine, dead: str, string: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the first one alone; what is wrong in a string is reported (A7)."""
    monkeypatch.setattr(gc_module, "installed", list)
    _there(engine, "ses-1", dead)
    done = collect(runtime=runtime, strings=[string])
    told = [name for name, _ in done.skipped]
    assert "secret" not in str(done.skipped)
    if string.endswith(","):
        assert told == ["local | x,"] and not engine.removed
    else:
        assert engine.removed == ["ses-1"] and told == ([] if "other" in string else ["nowhere"])


def test_who_attaches_in_the_moment_of_its_removal_wins(
    runtime: Runtime, engine: Engine, dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the deed somebody takes it: the ledger decides, once."""
    _there(engine, "ses-1", dead, durable=True)
    _enter(runtime, "ses-1", dead, durable=True, idle_seconds=1.0, used_ago=100)
    assert runtime.ledger is not None
    other = SqliteLedger(runtime.ledger.path)

    def judged(*args: Any) -> str | None:
        why = why_remove(*args)
        assert other.attach("ses-1") is not None
        return why

    monkeypatch.setattr(gc_module, "why_remove", judged)
    done = collect(runtime=runtime)
    assert not engine.removed and done.kept == 1


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("then", ["detaches", "dies"])
def test_one_that_is_made_and_left_during_a_look_is_kept(
    runtime: Runtime, engine: Engine, dead: str, listed: bool, then: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """What was read while it was being made says nothing about it once it is there."""
    ledger: Any = runtime.ledger
    who = dead if then == "dies" else ledger.owner
    _enter(runtime, "ses-1", who, "provisioning", durable=True)

    def leftovers(_: EngineWall) -> list[Leftover]:
        with ledger.file.writing() as db:
            db.execute("UPDATE sessions SET state = 'ready'")
        if then == "detaches":
            ledger.detach("ses-1")
        return list(engine.there)

    monkeypatch.setattr(EngineWall, "leftovers", leftovers)
    if listed:
        _there(engine, "ses-1", dead, durable=True)
    done = collect(runtime=runtime)
    assert (engine.removed, done.forgotten, done.kept) == ([], [], 1)
    assert [found.state for found in ledger.sessions()] == ["ready"]


def test_a_bad_ledger_does_not_keep_walls_from_being_looked_at(
    runtime: Runtime, engine: Engine, dead: str
) -> None:
    assert runtime.ledger is not None
    Path(runtime.ledger.path).write_bytes(b"nonsense" * 100)
    _there(engine, "ses-1", dead)
    done = collect(runtime=runtime)
    assert engine.removed == ["ses-1"] and done.skipped[0][0] == "ledger"


# -- by itself ----------------------------------------------------------------------------


def test_the_first_session_of_a_process_collects_in_the_background(
    runtime: Runtime, engine: Engine, dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STOCKADE_GC", raising=False)
    _there(engine, "ses-old", dead)
    record = make_provider(wall=EngineWall(), runtime=runtime).open_record("agent")
    until = time.monotonic() + 20
    while engine.removed != ["ses-old"] and time.monotonic() < until:
        time.sleep(0.01)
    assert engine.removed == ["ses-old"]
    _there(engine, "ses-later", dead)
    runtime.destroy(make_provider(wall=EngineWall(), runtime=runtime).open_record("agent"))
    again = Runtime(discover_plugins=False, ledger=runtime.ledger)
    collect_quietly(again, "eng", EngineWall())  # within the minute: it is somebody's turn already
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
        _there(engine, f"ses-{number}", dead)
    done = collect(runtime=runtime)
    assert [entry[0] for entry in done.failed] == ["ses-0"], done.failed
    assert len(engine.removed) == 19
    monkeypatch.setattr(EngineWall, "leftovers", lambda _: hang.wait(60))
    _enter(runtime, "ses-1", dead)
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
        _there(engine, f"ses-{number}", dead)
    before = threading.active_count()
    done = collect(runtime=runtime)
    assert len(done.removed) == 1000 and done.clean
    assert most[0] - before < 40


def test_it_can_be_switched_off(
    runtime: Runtime, engine: Engine, dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOCKADE_GC", "off")
    _there(engine, "ses-1", dead)
    collect_quietly(runtime, "eng", EngineWall())
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
    _there(engine, "ses-1", dead)
    assert [entry[0] for entry in collect(runtime=runtime).removed] == ["ses-1"]
