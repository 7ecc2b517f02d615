"""The state machine against a model, and the ledger's place (C4, C9)."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from core.walls import make_provider
from stockade import SandboxConfig, SessionStateError, SessionStatus
from stockade.ledger._interface import Recorded
from stockade.sessions._registry import MOVES, SessionRecord, SessionRegistry
from stockade.sessions._runtime import Runtime


class _Stub:
    """What the registry needs of an execution."""

    def __init__(self, number: int) -> None:
        self.execution_id = f"exe-{number}"


class RecordMachine(RuleBasedStateMachine):
    """Random moves on a record; the model is a state and a count."""

    def __init__(self) -> None:
        super().__init__()
        self.record = SessionRecord("ses-1", "a", "w", None, SandboxConfig())
        self.model = SessionStatus.PROVISIONING
        self.running: list[Any] = []
        self.number = 0

    @rule(to=st.sampled_from(list(SessionStatus)))
    def move(self, to: SessionStatus) -> None:
        counted = {SessionStatus.READY, SessionStatus.EXECUTING}
        if to in counted and self.model is not SessionStatus.PROVISIONING:
            return  # those two follow from the count
        if to in MOVES[self.model]:
            self.record.move(to)
            self.model = to
        else:
            with pytest.raises(SessionStateError):
                self.record.move(to)

    @rule()
    def begin(self) -> None:
        self.number += 1
        stub: Any = _Stub(self.number)
        if self.model in (SessionStatus.READY, SessionStatus.EXECUTING):
            self.record.add(stub)
            self.running.append(stub)
            self.model = SessionStatus.EXECUTING
        else:
            with pytest.raises(SessionStateError):
                self.record.add(stub)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        stub = data.draw(st.sampled_from(self.running))
        self.running.remove(stub)
        self.record.discard(stub)
        if not self.running and self.model is SessionStatus.EXECUTING:
            self.model = SessionStatus.READY

    @invariant()
    def agrees(self) -> None:
        assert self.record.status is self.model
        assert len(self.record.executions) == len(self.running)
        if self.model is SessionStatus.EXECUTING:
            assert self.running


TestRecord = RecordMachine.TestCase


def test_destroyed_is_final() -> None:
    assert MOVES[SessionStatus.DESTROYED] == frozenset()
    assert set(MOVES) == set(SessionStatus)


class _Ledger:
    def __init__(self, fail: bool = False) -> None:
        self.recorded: list[str] = []
        self.fail = fail

    def intend(self, record: Recorded) -> None:
        if self.fail:
            raise OSError("disk full")
        self.recorded.append("intend")

    def change(self, record: Recorded) -> None:
        self.recorded.append(str(record.status))

    def forget(self, record: Recorded) -> None:
        self.recorded.append("forget")


def test_C9_the_ledger_hears_of_everything_in_order() -> None:
    ledger = _Ledger()
    provider = make_provider(runtime=Runtime(discover_plugins=False, ledger=ledger))
    handle = provider.create_session("a")
    provider.execute_code("a", handle.session_id, "x")
    provider.destroy_session("a", handle.session_id)
    assert ledger.recorded == [
        "intend",
        "ready",
        "executing",
        "ready",
        "destroying",
        "destroyed",
        "forget",
    ]


def test_C9_no_intent_no_sandbox() -> None:
    provider = make_provider(runtime=Runtime(discover_plugins=False, ledger=_Ledger(fail=True)))
    provider.wall.on_open = lambda _: pytest.fail("opened")  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="disk full"):
        provider.create_session("a")
    assert provider.runtime.registry.records() == []


def test_C8_sessions_from_many_threads() -> None:
    provider = make_provider()
    errors: list[BaseException] = []

    def work(agent: str) -> None:
        try:
            for _ in range(20):
                handle = provider.create_session(agent)
                assert provider.execute_code(agent, handle.session_id, "x").result is not None
                provider.destroy_session(agent, handle.session_id)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"agent{i}",)) for i in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors and provider.runtime.registry.records() == []


def test_only_one_of_two_destroys_wins() -> None:
    provider = make_provider()
    record = provider.open_record("a")
    outcomes: list[str] = []

    def destroy() -> None:
        try:
            provider.runtime.destroy(record)
            outcomes.append("ok")
        except Exception as error:
            outcomes.append(type(error).__name__)

    threads = [threading.Thread(target=destroy) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert outcomes.count("ok") == 1 and len(outcomes) == 8
    assert SessionRegistry().records() == []
