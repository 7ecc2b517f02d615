"""The whole life of many sessions against a model, one step at a time and from many threads.

Walls open and end, fail to, and lose sandboxes as the test says; the model is a table of
what there must be. Checked are states, who may reach what, permits, the ledger's story and
that no sandbox is forgotten (C3 to C8).
"""

from __future__ import annotations

import functools
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from conftest import examples
from core.walls import ScriptedRunning, ScriptedSandbox, ScriptedWall, make_provider
from stockade import (
    CapacityError,
    DestroyError,
    SandboxLostError,
    SandboxStartError,
    Session,
    SessionNotFoundError,
    SessionStateError,
    SessionStatus,
    Settings,
    StockadeError,
    Verdict,
)
from stockade.executions._execution import Execution
from stockade.ledger._interface import Recorded
from stockade.sessions._registry import MOVES, SessionRecord
from stockade.sessions._runtime import Runtime
from stockade.wall import Exit, OpenRequest, Output

MOST, EACH = 5, 3
AGENTS = ["alice", "bob", "carol"]


class Story:
    """A ledger that keeps every record, and objects to one that cannot follow the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.states: dict[str, SessionStatus | None] = {}
        self.wrong: list[str] = []

    def intend(self, record: Recorded) -> None:
        with self._lock:
            if record.session_id in self.states or record.sandbox is not None:
                self.wrong.append(f"{record.session_id} was intended late or twice")
            self.states[record.session_id] = SessionStatus.PROVISIONING

    def change(self, record: Recorded) -> None:
        with self._lock:
            before = self.states.get(record.session_id)
            if before is not record.status and (
                before is None or record.status not in MOVES[before]
            ):
                self.wrong.append(f"{record.session_id} went from {before} to {record.status}")
            self.states[record.session_id] = record.status

    def forget(self, record: Recorded) -> None:
        with self._lock:
            self.states.pop(record.session_id, None)


class Fickle:
    """A wall whose openings and endings fail on request; counts what is alive."""

    def __init__(self) -> None:
        self.wall = ScriptedWall()
        self.wall.on_open = self._open
        self._lock = threading.Lock()
        self.alive: set[int] = set()
        self.made = 0
        self.fail_open = False
        self.stuck: set[int] = set()

    def _open(self, _: OpenRequest) -> ScriptedSandbox:
        if self.fail_open:
            raise SandboxStartError("not now", retryable=False)
        with self._lock:
            self.made += 1
            number = self.made
            self.alive.add(number)
        sandbox = ScriptedSandbox(body=self._body, on_close=lambda: self._close(number))
        sandbox.number = number  # type: ignore[attr-defined]
        return sandbox

    def _close(self, number: int) -> None:
        with self._lock:
            if number in self.stuck:
                raise OSError("stuck")
            self.alive.discard(number)

    @staticmethod
    def _body(running: ScriptedRunning, _: Output) -> Exit:
        running.killed.wait(30)
        if getattr(running, "lose", False):
            raise SandboxLostError("gone")
        return Exit(signal=9)


def fresh(**settings_: Any) -> tuple[Fickle, Story, Any]:
    fickle, story = Fickle(), Story()
    runtime = Runtime(discover_plugins=False, ledger=story, settings=Settings(**settings_))
    return fickle, story, make_provider(wall=fickle.wall, runtime=runtime)


@attrs.define(eq=False)
class Model:
    """What there must be of one session."""

    record: SessionRecord
    agent: str
    state: SessionStatus = SessionStatus.READY
    running: list[Execution] = attrs.field(factory=list)

    @property
    def number(self) -> int:
        sandbox: Any = self.record.sandbox
        return int(sandbox.number)


class Registry(RuleBasedStateMachine):
    """Random lives of sessions."""

    sessions = Bundle("sessions")

    def __init__(self) -> None:
        super().__init__()
        self.fickle, self.story, self.provider = fresh(
            max_sessions=MOST, max_sessions_per_agent=EACH
        )
        self.runtime: Runtime = self.provider.runtime
        self.models: list[Model] = []

    # -- steps -------------------------------------------------------------------

    @rule(target=sessions, agent=st.sampled_from(AGENTS))
    def open(self, agent: str) -> Any:
        mine = sum(model.agent == agent for model in self.models)
        if len(self.models) >= MOST or mine >= EACH:
            with pytest.raises(CapacityError):
                self.provider.open_record(agent)
            return multiple()
        model = Model(self.provider.open_record(agent), agent)
        self.models.append(model)
        return model

    @rule(agent=st.sampled_from(AGENTS))
    def open_in_vain(self, agent: str) -> None:
        self.fickle.fail_open = True
        try:
            with pytest.raises((SandboxStartError, CapacityError)):
                self.provider.open_record(agent)
        finally:
            self.fickle.fail_open = False

    @rule(model=sessions)
    def start(self, model: Model) -> None:
        session = Session(self.provider, model.record)
        if model.state in (SessionStatus.READY, SessionStatus.EXECUTING):
            model.running.append(session.start(["x"]))
            model.state = SessionStatus.EXECUTING
        else:
            with pytest.raises(SessionStateError):
                session.start(["x"])

    @rule(model=sessions, which=st.integers(0, 5))
    def cancel(self, model: Model, which: int) -> None:
        if not model.running:
            return
        execution = model.running.pop(which % len(model.running))
        execution.cancel()
        assert str(execution.result(10).verdict) == "cancelled"
        if not model.running and model.state is SessionStatus.EXECUTING:
            model.state = SessionStatus.READY

    @rule(model=sessions)
    def lose(self, model: Model) -> None:
        """The sandbox dies under an execution: the session is failed for good."""
        if not model.running:
            return
        execution = model.running.pop()
        deadline = time.monotonic() + 10
        while execution._running is None and time.monotonic() < deadline:
            time.sleep(0.001)
        running: Any = execution._running
        running.__class__ = type("Losing", (ScriptedRunning,), {"lose": True})
        running.killed.set()
        with pytest.raises(SandboxLostError):
            execution.result(10)
        model.state = SessionStatus.FAILED

    @rule(model=sessions)
    def end_in_vain(self, model: Model) -> None:
        self.fickle.stuck.add(model.number)
        with pytest.raises(DestroyError):
            self.runtime.destroy(model.record)
        self.fickle.stuck.discard(model.number)
        self._ended(model)
        model.state = SessionStatus.FAILED

    @rule(model=consumes(sessions))
    def end(self, model: Model) -> None:
        self.runtime.destroy(model.record)
        self._ended(model)
        model.state = SessionStatus.DESTROYED
        self.models.remove(model)
        with pytest.raises(SessionNotFoundError):
            self.runtime.destroy(model.record)

    def _ended(self, model: Model) -> None:
        """Whoever waits for a result gets a cancelled one (C7)."""
        for execution in model.running:
            assert str(execution.result(10).verdict) == "cancelled"
        model.running.clear()

    # -- what holds at any time ----------------------------------------------------

    @invariant()
    def everything_is_as_the_model_says(self) -> None:
        for model in self.models:
            record = model.record
            assert record.status is model.state
            assert set(record.executions.values()) == set(model.running)
            registry = self.runtime.registry
            assert registry.get(model.agent, record.session_id) is record
            for other in AGENTS:
                if other != model.agent:
                    with pytest.raises(SessionNotFoundError):
                        registry.get(other, record.session_id)

    @invariant()
    def nothing_is_forgotten_and_nothing_stays(self) -> None:
        ids = {model.record.session_id for model in self.models}
        assert {record.session_id for record in self.runtime.registry.records()} == ids
        assert set(self.story.states) == ids and not self.story.wrong
        assert self.fickle.alive == {model.number for model in self.models}
        assert self.runtime.capacity.used == len(self.models)
        for agent in AGENTS:
            mine = sum(model.agent == agent for model in self.models)
            assert self.runtime.capacity.used_by(agent) == mine

    def teardown(self) -> None:
        self.runtime.close_all(20)
        assert not self.fickle.alive and not self.story.states and not self.story.wrong
        assert self.runtime.capacity.used == 0


Registry.TestCase.settings = settings(examples(40), stateful_step_count=40)
TestRegistry = Registry.TestCase


# -- from many threads -----------------------------------------------------------------------


def one(provider: Any, fickle: Fickle, shared: list[SessionRecord], dice: random.Random) -> None:
    """One random step on sessions that all threads share; typed errors are fine."""
    runtime: Runtime = provider.runtime
    record = dice.choice(shared) if shared else None
    step = dice.choice(["open", "open", "start", "start", "cancel", "destroy", "stuck", "expire"])
    if step == "open" or record is None:
        shared.append(provider.open_record(dice.choice(AGENTS)))
    elif step == "start":
        Session(provider, record).start(["x"])
    elif step == "cancel":
        for execution in list(record.executions.values()):
            execution.stop(Verdict.CANCELLED)
    elif step == "stuck":
        sandbox: Any = record.sandbox
        if sandbox is not None:
            fickle.stuck.add(sandbox.number)
            try:
                runtime.destroy(record)
            finally:
                fickle.stuck.discard(sandbox.number)
    elif step == "expire":
        runtime.expire(record, "the test says so")
    else:
        runtime.destroy(record)


@pytest.mark.parametrize("seed", range(5))
def test_many_threads_on_the_same_sessions(seed: int) -> None:
    """Any interleaving: the story makes sense, no thread hangs, all can be ended."""
    fickle, story, provider = fresh(max_sessions=8, max_sessions_per_agent=4)
    shared: list[SessionRecord] = []
    errors: list[BaseException] = []
    done: list[int] = []

    def work(number: int) -> None:
        dice = random.Random(seed * 100 + number)
        for _ in range(400):
            try:
                one(provider, fickle, shared, dice)
                done.append(1)
            except StockadeError:
                pass
            except BaseException as error:
                errors.append(error)
            if len(provider.runtime.registry.records()) > 8:
                errors.append(AssertionError("more sessions than there may be"))

    run_all([functools.partial(work, number) for number in range(8)])
    assert not errors and not story.wrong
    assert len(done) > 300  # the other steps met a session that had gone, or a limit
    assert len(fickle.alive) == len(provider.runtime.registry.records())
    provider.runtime.close_all(30)
    assert provider.runtime.registry.records() == [] and not fickle.alive
    assert not story.states and not story.wrong
    assert provider.runtime.capacity.used == 0 and provider.runtime.capacity.waiting == 0
    assert all(record.status is SessionStatus.DESTROYED for record in shared)
    assert not any(record.executions for record in shared)


def run_all(calls: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
        assert not thread.is_alive(), "a thread hangs"


def test_an_ending_while_all_is_opened_and_run() -> None:
    """close_all in the middle of everything: nothing that is opened meanwhile stays."""
    fickle, story, provider = fresh()
    stop = threading.Event()
    refused: list[int] = []

    def work() -> None:
        while not stop.is_set():
            try:
                session = Session(provider, provider.open_record("alice"))
                session.start(["x"])
            except SessionStateError:
                refused.append(1)
            except StockadeError:
                pass

    threads = [threading.Thread(target=work, daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    provider.runtime.shutdown(60)
    stop.set()
    for thread in threads:
        thread.join(30)
    assert refused and not fickle.alive and not story.states and not story.wrong
    assert provider.runtime.registry.records() == [] and provider.runtime.capacity.used == 0
