"""What gc removes, and what it never touches (C9, C11)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from core.engine_walls import Engine, EngineWall
from core.ledger.left import ELSEWHERE, enter, there
from stockade import collect
from stockade.ledger import _collecting as gc_module
from stockade.ledger._judging import why_remove
from stockade.ledger._sqlite import SqliteLedger
from stockade.sessions._runtime import Runtime
from stockade.system.owner import Owner
from stockade.wall import Leftover

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
    there(engine, "ses-1", owner, expires_at=time.time() + expires_in)
    if recorded:
        enter(runtime, "ses-1", owner, expires_in=expires_in)
    done = collect(runtime=runtime)
    assert engine.removed == (["ses-1"] if gone else [])
    assert [entry[0] for entry in done.removed] == engine.removed
    assert done.kept == (0 if gone else 1) and done.clean
    assert runtime.ledger is not None
    assert len(runtime.ledger.sessions()) == (recorded and not gone)


def test_an_owner_that_lives_gets_its_time_to_end_it(runtime: Runtime, engine: Engine) -> None:
    """It ends its sessions itself at their lifetime; gc steps in only where it does not."""
    there(engine, "ses-1", str(Owner.current()), expires_at=time.time() - 5)
    collect(runtime=runtime)
    assert engine.removed == []


def test_what_a_ledger_does_not_know_is_judged_by_its_marks(
    runtime: Runtime, engine: Engine, dead: str
) -> None:
    there(engine, "ses-1", dead)
    there(engine, "ses-2", dead, durable=True)
    there(engine, "ses-3", dead, durable=True, running=False)
    there(engine, "ses-4", dead, durable=True, expires_at=time.time() - 1)
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
    there(engine, "ses-1", dead, durable=True, running=running)
    enter(runtime, "ses-1", dead, durable=True, **record)
    collect(runtime=runtime)
    assert bool(engine.removed) is gone


def test_a_durable_session_that_is_being_made_is_its_makers(
    runtime: Runtime, engine: Engine
) -> None:
    there(engine, "ses-1", str(Owner.current()), durable=True, running=False)
    enter(runtime, "ses-1", str(Owner.current()), "provisioning", durable=True)
    collect(runtime=runtime)
    assert engine.removed == []


def test_one_that_a_living_process_uses_is_not_idle(
    runtime: Runtime, engine: Engine, dead: str
) -> None:
    there(engine, "ses-1", dead, durable=True)
    enter(runtime, "ses-1", dead, durable=True, idle_seconds=100.0, used_ago=1000)
    assert runtime.ledger is not None
    with runtime.ledger.file.writing() as db:
        db.execute("INSERT INTO attachments VALUES ('ses-1', ?, 1, 1)", (str(Owner.current()),))
    collect(runtime=runtime)
    assert engine.removed == []


# -- records ------------------------------------------------------------------------------


def test_a_record_of_nothing_is_forgotten_once_its_owner_is_dead(
    runtime: Runtime, engine: Engine, dead: str
) -> None:
    enter(runtime, "ses-dead", dead)
    enter(runtime, "ses-mine", str(Owner.current()), "provisioning")
    enter(runtime, "ses-far", ELSEWHERE)
    enter(runtime, "ses-over", ELSEWHERE, expires_in=-120)
    done = collect(runtime=runtime)
    assert sorted(entry[0] for entry in done.forgotten) == ["ses-dead", "ses-over"]
    assert runtime.ledger is not None
    assert {r.session_id for r in runtime.ledger.sessions()} == {"ses-mine", "ses-far"}


def test_while_the_engine_is_away_nothing_is_forgotten(
    runtime: Runtime, engine: Engine, dead: str
) -> None:
    engine.away = True
    enter(runtime, "ses-1", dead)
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
        enter(runtime, session_id, dead, durable=durable)
    with runtime.ledger.file.writing() as db:
        db.execute("UPDATE sessions SET string = 'other', provider = 'other'")
    done = collect(runtime=runtime)
    assert [entry[0] for entry in done.forgotten] == ["ses-2"]


def test_a_wall_that_is_gone_keeps_its_records(runtime: Runtime, dead: str) -> None:
    enter(runtime, "ses-1", dead)
    assert runtime.ledger is not None
    with runtime.ledger.file.writing() as db:
        db.execute("UPDATE sessions SET string = 'uninstalled', provider = 'uninstalled'")
    done = collect(runtime=runtime)
    assert done.skipped and not done.forgotten
    assert collect(runtime=runtime, force=["ses-1"]).forgotten == [("ses-1", "it was asked for")]


def test_C6_what_fails_is_tried_again_and_kept_with_its_reason(
    runtime: Runtime, engine: Engine, dead: str
) -> None:
    there(engine, "ses-1", dead)
    enter(runtime, "ses-1", dead)
    engine.fails = 3  # as often as one pass tries
    done = collect(runtime=runtime)
    assert [entry[0] for entry in done.failed] == ["ses-1"]
    assert runtime.ledger is not None
    (kept,) = runtime.ledger.sessions()
    assert kept.state == "failed" and "it is stuck" in kept.reason
    engine.fails = 1  # the same process, as with --watch
    assert collect(runtime=runtime).removed and not runtime.ledger.sessions()


def test_a_dry_run_touches_nothing(runtime: Runtime, engine: Engine, dead: str) -> None:
    there(engine, "ses-1", dead)
    enter(runtime, "ses-1", dead)
    enter(runtime, "ses-2", dead)
    done = collect(runtime=runtime, dry_run=True)
    assert done.removed and done.forgotten
    assert runtime.ledger is not None
    assert len(runtime.ledger.sessions()) == 2 and not engine.removed


def test_force_removes_whoever_owns_it(runtime: Runtime, engine: Engine) -> None:
    there(engine, "ses-1", ELSEWHERE)
    enter(runtime, "ses-1", ELSEWHERE)
    collect(runtime=runtime, force=["ses-1"])
    assert engine.removed == ["ses-1"]


@pytest.mark.parametrize("string", ["other | eng:x", "eng | nowhere?labels=a=secret", "local | x,"])
def test_each_wall_that_a_string_names_is_looked_at(
    runtime: Runtime, engine: Engine, dead: str, string: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the first one alone; what is wrong in a string is reported (A7)."""
    monkeypatch.setattr(gc_module, "installed", list)
    there(engine, "ses-1", dead)
    done = collect(runtime=runtime, strings=[string])
    skipped = [name for name, _ in done.skipped]
    assert "secret" not in str(done.skipped)
    if string.endswith(","):
        assert skipped == ["local | x,"] and not engine.removed
    else:
        assert engine.removed == ["ses-1"] and skipped == ([] if "other" in string else ["nowhere"])


def test_who_attaches_in_the_moment_of_its_removal_wins(
    runtime: Runtime, engine: Engine, dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the deed somebody takes it: the ledger decides, once."""
    there(engine, "ses-1", dead, durable=True)
    enter(runtime, "ses-1", dead, durable=True, idle_seconds=1.0, used_ago=100)
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
    runtime: Runtime,
    engine: Engine,
    dead: str,
    listed: bool,
    then: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was read while it was being made says nothing about it once it is there."""
    ledger: Any = runtime.ledger
    who = dead if then == "dies" else ledger.owner
    enter(runtime, "ses-1", who, "provisioning", durable=True)

    def leftovers(_: EngineWall) -> list[Leftover]:
        with ledger.file.writing() as db:
            db.execute("UPDATE sessions SET state = 'ready'")
        if then == "detaches":
            ledger.detach("ses-1")
        return list(engine.there)

    monkeypatch.setattr(EngineWall, "leftovers", leftovers)
    if listed:
        there(engine, "ses-1", dead, durable=True)
    done = collect(runtime=runtime)
    assert (engine.removed, done.forgotten, done.kept) == ([], [], 1)
    assert [found.state for found in ledger.sessions()] == ["ready"]


def test_a_bad_ledger_does_not_keep_walls_from_being_looked_at(
    runtime: Runtime, engine: Engine, dead: str
) -> None:
    assert runtime.ledger is not None
    Path(runtime.ledger.path).write_bytes(b"nonsense" * 100)
    there(engine, "ses-1", dead)
    done = collect(runtime=runtime)
    assert engine.removed == ["ses-1"] and done.skipped[0][0] == "ledger"
