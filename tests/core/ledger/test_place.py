"""A sandbox is looked for where it was made, whatever the environment says now (C9)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

import stockade
from core.durable_walls import Held
from core.walls import ScriptedWall
from stockade import (
    ProviderUnavailableError,
    SandboxLostError,
    SandboxStartError,
    WallError,
    collect,
)
from stockade.ledger import _collecting as gc_module
from stockade.ledger._judging import Look, why_forget
from stockade.ledger._overview import overview, usages
from stockade.ledger._sqlite import SqliteLedger
from stockade.session import Session
from stockade.sessions._providers import provider, provider_at
from stockade.sessions._runtime import Runtime
from stockade.system.owner import Owner, boot_id, this_space
from stockade.wall import AttachRequest, Leftover, OpenRequest, Option, Place, Sandbox, Usage


@attrs.define
class Engines:
    """What stands where; ``now`` is where an environment leads."""

    there: dict[str, list[str]] = attrs.field(factory=dict)
    asked: list[str] = attrs.field(factory=list)
    now: str = "a"


class PlacedWall(ScriptedWall):
    """Finds its engine by an option that core knows nothing of, else by an environment."""

    engines: Engines
    options = {"server": Option(str, None, "where")}
    at: str | None = None

    def place(self) -> Place:
        return Place.anywhere(self.at or self.chosen["server"] or self.engines.now)

    def look_at(self, place: Place) -> None:
        self.at = place.word

    def open(self, request: OpenRequest) -> Sandbox:
        self.engines.there.setdefault(self.place().word, []).append(request.session_id)
        return Held(name=request.session_id)

    def leftovers(self) -> Sequence[Leftover]:
        where = self.place().word
        self.engines.asked.append(where)
        return [
            Leftover(session_id=name, handle=f"{where}/{name}", durable=True)
            for name in self.engines.there.get(where, ())
        ]

    def remove(self, leftover: Leftover) -> None:
        where, _, name = leftover.handle.partition("/")
        assert where == self.place().word
        self.engines.there[where].remove(name)

    def usage(self, leftover: Leftover) -> Usage | None:
        return Usage(processes=1)

    def attach(self, request: AttachRequest) -> Sandbox:
        if request.session_id not in self.engines.there.get(self.place().word, ()):
            raise SandboxLostError("it is not there; open a new session.")
        return Held(name=request.session_id)


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Engines:
    engines = Engines()
    monkeypatch.setattr(PlacedWall, "engines", engines, raising=False)
    from stockade.selection._discovery import InstalledPlugin

    monkeypatch.setattr(gc_module, "installed", lambda: [InstalledPlugin("placed", "d", "1", "x")])
    return engines


@pytest.fixture
def make(tmp_path: Path, engines: Engines, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("STOCKADE_GC", "off")
    made: list[Runtime] = []

    def runtime() -> Runtime:
        fresh = Runtime(discover_plugins=False, ledger=SqliteLedger(tmp_path / "ledger.sqlite"))
        fresh.walls._walls["placed"] = PlacedWall
        made.append(fresh)
        return fresh

    yield runtime
    for fresh in made:
        fresh.close_all(10)


def _durable(runtime: Runtime, string: str = "placed") -> str:
    chosen = provider(string, runtime=runtime, durable=True)
    session = Session(chosen, chosen.open_record("agent"))
    session.detach()
    return session.session_id


def test_a_living_session_of_another_place_is_not_forgotten(make: Any, engines: Engines) -> None:
    """It was made where an environment led that leads elsewhere now."""
    session_id = _durable(make())
    engines.now = "b"
    runtime = make()
    done = collect(runtime=runtime)
    assert (done.removed, done.forgotten, done.kept) == ([], [], 1) and done.clean
    session = stockade.attach(session_id, agent_id="agent", runtime=runtime)
    assert session.run(["x"]).success and engines.there == {"a": [session_id]}
    session.close()


def test_options_that_core_does_not_know_lead_to_places_of_their_own(
    make: Any, engines: Engines
) -> None:
    runtime = make()
    ids = [_durable(runtime, f"placed?server={server}") for server in "ab"]
    assert collect(runtime=runtime).kept == 2
    engines.there["b"].clear()  # it is gone for sure
    done = collect(runtime=runtime)
    assert done.forgotten == [(ids[1], "nothing of it is left")] and done.kept == 1


def test_what_is_left_is_removed_where_it_is(make: Any, engines: Engines) -> None:
    runtime = make()
    session_id = _durable(runtime)
    with runtime.ledger.file.writing() as db:
        db.execute("UPDATE sessions SET state = 'failed'")
    engines.now = "b"
    done = collect(runtime=runtime)
    assert [entry[0] for entry in done.removed] == [session_id] and engines.there == {"a": []}


def test_top_asks_where_they_live(make: Any, engines: Engines) -> None:
    runtime = make()
    session_id = _durable(runtime)
    engines.now = "b"
    sessions = overview(runtime.ledger)
    assert usages(runtime.workers, runtime.selector.wall_at, sessions) == {
        session_id: Usage(processes=1)
    }
    assert json.loads(json.dumps(sessions[0].plain()))["place"] == "a"
    assert set(engines.asked) == {"a"}


def test_many_records_of_one_place_ask_it_once(make: Any, engines: Engines) -> None:
    runtime = make()
    for _ in range(5):
        _durable(runtime)
    engines.now = "b"
    collect(runtime=runtime)
    assert sorted(engines.asked) == ["a", "b"]


def _move(runtime: Runtime, place: str, **more: Any) -> None:
    with runtime.ledger.file.writing() as db:  # type: ignore[union-attr]
        db.execute("UPDATE sessions SET place = ?", (place,))
        for name, value in more.items():
            db.execute(f"UPDATE sessions SET {name} = ?", (value,))


ANOTHER = str(Owner("another", "boot", "4026531836.1", 0, 0))


def test_another_machines_is_left_to_that(make: Any, engines: Engines) -> None:
    """A word such as a socket's means something else there."""
    runtime = make()
    session_id = _durable(runtime)
    _move(runtime, f"{ANOTHER} a")
    engines.there.clear()
    engines.asked.clear()
    engines.now = "b"
    done = collect(runtime=runtime)
    assert (done.forgotten, done.kept, engines.asked) == ([], 1, ["b"]) and done.clean
    with pytest.raises(ProviderUnavailableError, match="another machine"):
        stockade.attach(session_id, agent_id="agent", runtime=runtime)
    assert usages(runtime.workers, runtime.selector.wall_at, overview(runtime.ledger)) == {}
    from stockade.system.moments import moment

    _move(runtime, f"{ANOTHER} a", expires=moment(1.0))
    assert collect(runtime=runtime).forgotten == [(session_id, "its lifetime is over")]


def test_another_containers_may_be_looked_at_and_is_not_forgotten(
    make: Any, engines: Engines
) -> None:
    """Of the same machine: its socket may be this one's, or not."""
    runtime = make()
    session_id = _durable(runtime)
    sibling = str(Owner("other", boot_id(), "4026530000.1", 0, 0))
    _move(runtime, f"{sibling} a")
    engines.now = "b"
    stockade.attach(session_id, agent_id="agent", runtime=runtime).detach()
    engines.there.clear()
    done = collect(runtime=runtime)
    assert (done.forgotten, done.kept) == ([], 1)


def test_records_without_a_place_are_kept_where_that_matters(make: Any, engines: Engines) -> None:
    """An older stockade wrote them."""
    runtime = make()
    session_id = _durable(runtime)
    _move(runtime, "")
    engines.now = "b"
    done = collect(runtime=runtime)
    assert (done.forgotten, done.kept) == ([], 1)
    engines.now = "a"
    stockade.attach(session_id, agent_id="agent", runtime=runtime).close()


def test_a_place_that_cannot_be_looked_at_is_reported(
    make: Any, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = make()
    for _ in range(3):
        _durable(runtime)

    def away(self: PlacedWall, place: Place) -> None:
        raise OSError("no route")

    monkeypatch.setattr(PlacedWall, "look_at", away)
    engines.now = "b"
    done = collect(runtime=runtime)
    assert not done.forgotten and not done.clean
    assert [name for name, _ in done.skipped] == ["placed"] and "no route" in done.skipped[0][1]


def test_a_wall_without_look_at_serves_its_own_place_alone(
    make: Any, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stockade.wall import Wall

    runtime = make()
    session_id = _durable(runtime)
    monkeypatch.setattr(PlacedWall, "look_at", Wall.look_at)
    stockade.attach(session_id, agent_id="agent", runtime=runtime).detach()
    engines.now = "b"
    with pytest.raises(ProviderUnavailableError, match="'a'"):
        stockade.attach(session_id, agent_id="agent", runtime=runtime)
    assert collect(runtime=runtime).kept == 0  # not looked at, and reported


@pytest.mark.parametrize("place", ["x", None, Place.anywhere("x" * 3000)], ids=repr)
def test_a_place_that_is_none_is_its_walls_fault(
    place: Any, make: Any, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = make()
    monkeypatch.setattr(PlacedWall, "place", lambda _: place)
    with pytest.raises(WallError, match="place"):
        provider("placed", runtime=runtime).open_record("agent")
    assert not engines.there and not runtime.registry.records()
    assert runtime.capacity.used == 0


def test_a_place_that_raises_starts_nothing(
    make: Any, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = make()

    def fails(_: PlacedWall) -> Place:
        raise KeyError("no such context")

    monkeypatch.setattr(PlacedWall, "place", fails)
    with pytest.raises(SandboxStartError, match="no such context"):
        provider("placed", runtime=runtime).open_record("agent")
    assert not engines.there and runtime.ledger.sessions() == []


def test_the_place_is_in_the_ledger_before_the_sandbox_is_made(
    make: Any, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = make()
    seen: list[Any] = []

    def fails(self: PlacedWall, request: OpenRequest) -> Sandbox:
        seen.extend(SqliteLedger(runtime.ledger.path).sessions())
        raise SandboxStartError("no", retryable=False)

    monkeypatch.setattr(PlacedWall, "open", fails)
    with pytest.raises(SandboxStartError):
        provider("placed", runtime=runtime).open_record("agent")
    (record,) = seen
    assert record.place == Place.anywhere("a") and record.state == "provisioning"


# -- the words -------------------------------------------------------------------------


def test_places_round_trip() -> None:
    for place in (Place.here(), Place.here("/tmp/a b"), Place.anywhere("tcp://host:1 x"), Place()):
        assert Place.parse(str(place)) == place
    for text in ("", "nonsense", "x y", "1:2 y"):
        assert Place.parse(text) is None
    assert Place.here().sure and not Place.here().elsewhere
    assert Place.anywhere("x").sure and not Place.anywhere("x").elsewhere


@pytest.mark.parametrize(
    ("changes", "sure", "elsewhere"),
    [
        ({}, True, False),
        ({"space": "4026530000.1"}, False, False),  # another container of this machine
        ({"host": "other"}, True, False),  # renamed since, under the same kernel
        ({"boot": "other"}, True, False),  # this machine, started anew
        ({"boot": "other", "space": "4026530000.1"}, False, False),
        ({"boot": "other", "host": "other"}, False, True),
        ({"boot": "other", "host": ""}, False, False),  # who knows
        ({"boot": "", "host": "other"}, False, False),
    ],
)
def test_whether_a_word_means_the_same_here(
    changes: dict[str, Any], sure: bool, elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stockade.system.owner._host", lambda: "mine")
    monkeypatch.setattr("stockade.system.owner._space", lambda: "4026531836.4026531834")
    owner = Owner.parse(this_space())
    assert owner is not None
    place = Place("socket", str(attrs.evolve(owner, **changes)))
    assert (place.sure, place.elsewhere) == (sure, elsewhere)


def test_a_provider_at_a_place(make: Any, engines: Engines) -> None:
    runtime = make()
    assert provider_at("placed", Place.anywhere("c"), runtime=runtime).wall.place().word == "c"
    assert provider_at("placed", None, runtime=runtime).wall.place().word == "a"


def test_a_wall_that_lists_nothing_never_says_that_nothing_is_left(make: Any) -> None:
    runtime = make()
    _durable(runtime)
    (record,) = runtime.ledger.sessions()
    for durable in (True, False):
        for owner in (record.owner, "x"):
            for expires_at in (None, 1.0):
                seen = attrs.evolve(record, durable=durable, owner=owner, expires_at=expires_at)
                for look in (Look.MUTE, Look.FAR, Look.AWAY):
                    why = why_forget(seen, look, runtime.ledger)
                    assert why is None or "left" not in why
                assert not durable or why_forget(seen, Look.MUTE, runtime.ledger) is None
