"""Durable sessions between processes, over a scripted engine (C3, C9, C10)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from core.durable_walls import DurableWall, MortalWall
from stockade import (
    ConfigError,
    LedgerError,
    Pool,
    SandboxStartError,
    SessionNotFoundError,
    SessionStateError,
    SessionStatus,
    UnsupportedError,
    Verdict,
    aio,
    attach,
)
from stockade import open as open_session
from stockade.events import Event, EventKind
from stockade.ledger._sqlite import SqliteLedger
from stockade.plugin import hookimpl
from stockade.sessions._runtime import Runtime
from stockade.system.owner import Owner
from stockade.wall import (
    AttachRequest,
    Sandbox,
)


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("STOCKADE_GC", "off")  # some processes here only seem to be dead
    yield
    DurableWall.there.clear()
    DurableWall.attached.clear()
    DurableWall.held.clear()
    DurableWall.fails = None
    DurableWall.slow = 0.0


@attrs.define
class Watch:
    events: list[Event] = attrs.field(factory=list)

    @hookimpl
    def stockade_event(self, event: Event) -> None:
        self.events.append(event)


def _process(path: Path, name: str) -> Runtime:
    """A runtime as another process has it: its own registry, another owner, one ledger."""
    ledger = SqliteLedger(path)
    runtime = Runtime(discover_plugins=False, ledger=ledger)
    runtime.walls._walls.update({"wall": DurableWall, "mortal": MortalWall})
    me = ledger.owner
    ledger._owner = me[: me.rindex(":") + 1] + str(int(me.rpartition(":")[2]) + hash(name) % 1000)
    return runtime


def _out_of_sight(process: Runtime, number: int) -> None:
    """Make it a process of another container: for all that the ledger knows it may live."""
    assert process.ledger is not None and process.ledger.owner
    process.ledger._owner = str(attrs.evolve(Owner.current(), space="another", pid=number + 1))


@pytest.fixture
def here(tmp_path: Path) -> Runtime:
    runtime = Runtime(discover_plugins=False, ledger=SqliteLedger(tmp_path / "ledger.sqlite"))
    runtime.walls._walls.update({"wall": DurableWall, "mortal": MortalWall})
    return runtime


@pytest.fixture
def there(tmp_path: Path) -> Runtime:
    """Another process; to this one it counts as dead (its start is another)."""
    return _process(tmp_path / "ledger.sqlite", "there")


def test_C10_another_process_attaches_and_destroys(here: Runtime, there: Runtime) -> None:
    first = open_session("wall?durable=true&memory_mb=64", agent_id="a", runtime=here)
    first.detach()
    second = attach(first.session_id, agent_id="a", runtime=there)
    assert second.session_id == first.session_id and second.status is SessionStatus.READY
    assert second._record.config.memory_mb == 64 and second._record.config.durable
    assert second._record.expires_at == pytest.approx(first._record.expires_at, abs=1)
    assert second.run(["true"]).success
    second.close()
    assert not DurableWall.there
    assert here.ledger is not None and here.ledger.sessions() == []


def test_C3_another_agent_and_an_unknown_id_get_one_error(here: Runtime, there: Runtime) -> None:
    first = open_session("wall?durable=true", agent_id="a", runtime=here)
    messages = []
    for agent, session_id in (("b", first.session_id), ("a", "ses-none")):
        with pytest.raises(SessionNotFoundError) as caught:
            attach(session_id, agent_id=agent, runtime=there)
        messages.append(str(caught.value).replace(session_id, "ID"))
    assert messages[0] == messages[1]
    assert DurableWall.attached == []


def test_B4_environment_values_are_given_anew(here: Runtime, there: Runtime) -> None:
    first = open_session("wall", agent_id="a", runtime=here, durable=True, env_vars={"K": "v"})
    first.detach()
    assert attach(first.session_id, agent_id="a", runtime=there)._record.config.env_vars == {}
    again = attach(first.session_id, agent_id="a", runtime=here, env_vars={"K": "w"})
    assert again._record.config.env_vars == {"K": "w"}


def test_awaited_too(here: Runtime, there: Runtime) -> None:
    async def life() -> None:
        first = await aio.open("wall?durable=true", agent_id="a", runtime=here)
        await first.detach()
        second = await aio.attach(first.session_id, agent_id="a", runtime=there)
        assert (await second.run(["true"])).success
        await second.close()

    asyncio.run(life())
    assert not DurableWall.there


def test_an_attaching_whose_await_is_cancelled_is_let_go_of(here: Runtime, there: Runtime) -> None:
    first = open_session("wall?durable=true", agent_id="a", runtime=here)
    first.detach()
    DurableWall.slow = 0.3

    async def life() -> None:
        waiting = asyncio.ensure_future(aio.attach(first.session_id, agent_id="a", runtime=there))
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(life())
    assert not there.registry.records() and first.session_id in DurableWall.there
    assert there.ledger is not None and there.ledger.users(first.session_id) == []


def test_what_is_not_durable_says_so(here: Runtime, there: Runtime) -> None:
    with pytest.raises(UnsupportedError, match="durable"):
        open_session("mortal", durable=True, runtime=here)
    first = open_session("wall", agent_id="a", runtime=here)
    with pytest.raises(UnsupportedError, match="durable=True"):
        attach(first.session_id, agent_id="a", runtime=there)
    with pytest.raises(SessionStateError, match="durable=True"):
        first.detach()
    assert first.run(["true"]).success
    with pytest.raises(ConfigError, match="pool"):
        Pool("wall?durable=true", runtime=here)


def test_attaching_needs_a_ledger() -> None:
    with pytest.raises(LedgerError, match="needs the ledger"):
        attach("ses-1", runtime=Runtime(discover_plugins=False))


def test_here_it_is_the_same_session(here: Runtime) -> None:
    first = open_session("wall?durable=true", agent_id="a", runtime=here)
    again = attach(first.session_id, agent_id="a", runtime=here)
    assert again._record is first._record and not DurableWall.attached
    first.close()


def test_detaching_ends_what_this_process_runs_and_closes_the_object(here: Runtime) -> None:
    session = open_session("wall?durable=true", agent_id="a", runtime=here)
    running = session.start(["sleep", "60"])
    session.detach()
    assert running.result(10).verdict is Verdict.CANCELLED
    assert DurableWall.held[0].detached == 1 and DurableWall.held[0].closed == 0
    with pytest.raises(SessionStateError):
        session.run(["true"])
    session.close()  # as often as one likes; it ends nothing now
    assert session.session_id in DurableWall.there
    with pytest.raises(SessionNotFoundError):
        session.detach()
    assert here.ledger is not None
    (kept,) = here.ledger.sessions()
    assert kept.state == "ready" and here.ledger.users(kept.session_id) == []


def test_the_end_of_the_process_lets_go_of_durable_sessions_alone(here: Runtime) -> None:
    lasting = open_session("wall?durable=true", agent_id="a", runtime=here)
    mortal = open_session("wall", agent_id="a", runtime=here)
    here.close_all()
    assert DurableWall.there == {lasting.session_id} and mortal.session_id
    assert here.ledger is not None
    assert [r.session_id for r in here.ledger.sessions()] == [lasting.session_id]


def test_two_at_once_both_hold_it_each_with_a_slot_of_its_own(
    here: Runtime, tmp_path: Path
) -> None:
    first = open_session("wall?durable=true", agent_id="a", runtime=here)
    assert here.ledger is not None
    processes = [_process(tmp_path / "ledger.sqlite", f"p{n}") for n in range(6)]
    for number, process in enumerate(processes):
        _out_of_sight(process, number)
    ready = threading.Barrier(len(processes))
    got: list[Any] = []

    def work(process: Runtime) -> None:
        ready.wait(20)
        got.append(attach(first.session_id, agent_id="a", runtime=process))

    threads = [threading.Thread(target=work, args=(process,)) for process in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(got) == 6
    slots = [request.slot for request in DurableWall.attached]
    assert sorted(slots) == [1, 2, 3, 4, 5, 6]
    assert len(here.ledger.users(first.session_id)) == 7
    assert all(session.run(["true"]).success for session in got)
    (kept,) = here.ledger.sessions()
    assert kept.owner == here.ledger.owner  # it lives, so it stays the owner
    got[0].detach()
    with_free = attach(first.session_id, agent_id="a", runtime=processes[0])
    assert DurableWall.attached[-1].slot in slots and with_free.run(["true"]).success


def test_ownership_goes_to_the_first_that_comes_after_the_owners_death(
    here: Runtime, there: Runtime
) -> None:
    first = open_session("wall?durable=true", agent_id="a", runtime=there)
    assert here.ledger is not None and there.ledger is not None
    assert here.ledger.sessions()[0].owner == there.ledger.owner
    attach(first.session_id, agent_id="a", runtime=here)
    assert here.ledger.sessions()[0].owner == here.ledger.owner
    assert DurableWall.attached[-1].slot == 0  # the dead one's is free


def test_an_attaching_that_fails_leaves_it_as_it_was(here: Runtime, there: Runtime) -> None:
    first = open_session("wall?durable=true", agent_id="a", runtime=here)
    first.detach()
    assert there.ledger is not None
    for error in (SandboxStartError("the engine is away"), RuntimeError("a bug")):
        DurableWall.fails = error
        with pytest.raises(SandboxStartError):
            attach(first.session_id, agent_id="a", runtime=there)
        assert there.ledger.users(first.session_id) == [] and not there.registry.records()
    DurableWall.fails = None
    assert attach(first.session_id, agent_id="a", runtime=there).run(["true"]).success


def test_one_that_is_being_ended_or_has_failed_cannot_be_attached(
    here: Runtime, there: Runtime
) -> None:
    first = open_session("wall?durable=true", agent_id="a", runtime=here)
    first._record.fail("its sandbox was lost")
    with pytest.raises(SessionStateError, match="its sandbox was lost"):
        attach(first.session_id, agent_id="a", runtime=there)
    first.close()
    with pytest.raises(SessionNotFoundError):
        attach(first.session_id, agent_id="a", runtime=there)


def test_a_pause_is_seen_by_who_comes_later(here: Runtime, there: Runtime) -> None:
    first = open_session("wall?durable=true", agent_id="a", runtime=here)
    first.pause()
    assert here.ledger is not None and here.ledger.sessions()[0].paused
    first.detach()
    second = attach(first.session_id, agent_id="a", runtime=there)
    assert second.paused
    second.resume()
    assert not here.ledger.sessions()[0].paused
    assert second.run(["true"]).success


def test_C11_the_lifetime_is_the_sessions_not_the_processs(here: Runtime, there: Runtime) -> None:
    first = open_session("wall?durable=true", agent_id="a", runtime=here, lifetime_seconds=1.5)
    first.detach()
    second = attach(first.session_id, agent_id="a", runtime=there)
    until = time.monotonic() + 20
    while second.status is not SessionStatus.DESTROYED and time.monotonic() < until:
        time.sleep(0.05)
    assert second.status is SessionStatus.DESTROYED and not DurableWall.there


def test_use_by_another_process_counts_against_idleness(here: Runtime, tmp_path: Path) -> None:
    first = open_session("wall?durable=true", agent_id="a", runtime=here, idle_seconds=1.0)
    other = _process(tmp_path / "ledger.sqlite", "other")
    _out_of_sight(other, 1)
    second = attach(first.session_id, agent_id="a", runtime=other)
    running = second.start(["sleep", "60"])
    time.sleep(2.5)
    assert first.status is SessionStatus.READY  # idle here, busy there
    running.cancel()
    until = time.monotonic() + 20
    while first.session_id in DurableWall.there and time.monotonic() < until:
        time.sleep(0.05)
    assert first.session_id not in DurableWall.there


def test_executions_are_remembered_without_what_they_were(here: Runtime, there: Runtime) -> None:
    session = open_session("wall?durable=true", agent_id="a", runtime=here)
    session.run(["secret-command", "with-a-password"])
    session.detach()
    assert there.ledger is not None
    (entry,) = there.ledger.executions(session.session_id)
    assert (entry["verdict"], entry["exit_code"], entry["form"]) == ("exited", 0, "argv")
    assert isinstance(entry["started_at"], float) and isinstance(entry["ended_at"], float)
    written = b"".join(p.read_bytes() for p in Path(there.ledger.path).parent.glob("ledger*"))
    assert b"secret-command" not in written and b"with-a-password" not in written
    assert there.ledger.executions("ses-none") == []


def test_observers_are_notified(here: Runtime, there: Runtime) -> None:
    watch = Watch()
    here.hooks.add(watch)
    there.hooks.add(watch)
    first = open_session("wall?durable=true", agent_id="a", runtime=here)
    first.detach()
    attach(first.session_id, agent_id="a", runtime=there).close()
    kinds = [event.kind for event in watch.events]
    assert kinds[2:4] == [EventKind.SESSION_DETACHED, EventKind.SESSION_ATTACHED]
    assert kinds[-1] is EventKind.SESSION_DESTROYED


def test_a_hung_wall_does_not_hold_the_caller(here: Runtime, there: Runtime) -> None:
    first = open_session(
        "wall?durable=true", agent_id="a", runtime=here, startup_timeout_seconds=0.3
    )
    first.detach()
    hang = threading.Event()

    def attach_late(self: DurableWall, request: AttachRequest) -> Sandbox:
        hang.wait(30)
        return DurableWall.held[0]

    original = DurableWall.attach
    DurableWall.attach = attach_late  # type: ignore[method-assign]
    try:
        began = time.monotonic()
        with pytest.raises(SandboxStartError, match="did not reach"):
            attach(first.session_id, agent_id="a", runtime=there)
        assert time.monotonic() - began < 20
    finally:
        DurableWall.attach = original  # type: ignore[method-assign]
        hang.set()
