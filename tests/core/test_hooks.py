"""Policies and observers."""

from __future__ import annotations

import logging
from typing import Any

import pluggy
import pytest

from core.walls import ScriptedWall, make_provider
from stockade import PolicyError, PolicyRefusedError, SandboxConfig
from stockade.plugin import (
    Event,
    ExecutionProposal,
    Refuse,
    SessionProposal,
    Tighten,
    hookimpl,
)
from stockade.proposals import loosened
from stockade.runtime import Runtime
from stockade.session import Session


def runtime(*plugins: object) -> Runtime:
    made = Runtime(discover_plugins=False)
    for plugin in plugins:
        made.hooks.add(plugin)
    return made


class SessionPolicy:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    @hookimpl
    def stockade_session_policy(self, proposal: SessionProposal) -> Any:
        return self.answer(proposal)


class ExecutionPolicy:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    @hookimpl
    def stockade_execution_policy(self, proposal: ExecutionProposal) -> Any:
        return self.answer(proposal)


class Observer:
    def __init__(self) -> None:
        self.events: list[Event] = []

    @hookimpl
    def stockade_event(self, event: Event) -> None:
        self.events.append(event)


class BrokenObserver:
    @hookimpl
    def stockade_event(self, event: Event) -> None:
        raise RuntimeError("observer broke")


def test_a_policy_refuses_with_its_reason() -> None:
    wall, observer = ScriptedWall(), Observer()
    policy = SessionPolicy(lambda p: Refuse(f"not for {p.agent_id}"))
    provider = make_provider(wall=wall, runtime=runtime(policy, observer))
    with pytest.raises(PolicyRefusedError, match="not for mallory"):
        provider.create_session("mallory")
    assert provider.runtime.registry.records() == []
    assert [str(event.kind) for event in observer.events] == ["session.refused"]


def test_a_policy_tightens_and_the_next_sees_it() -> None:
    seen = []

    def second(proposal: SessionProposal) -> None:
        seen.append(proposal.config.memory_mb)

    first = SessionPolicy(lambda p: p.config.with_(memory_mb=64, timeout_seconds=1.0))
    provider = make_provider(runtime=runtime(SessionPolicy(second), first))
    record = provider.open_record("a")
    assert record.config.memory_mb == 64 and record.config.timeout_seconds == 1.0
    assert seen == [64]


@pytest.mark.parametrize(
    "answer",
    [lambda p: p.config.with_(memory_mb=4096), lambda _: 1 // 0, lambda _: "yes", lambda _: True],
)
def test_a_policy_that_loosens_raises_or_babbles_refuses(answer: Any) -> None:
    provider = make_provider(runtime=runtime(SessionPolicy(answer)))
    with pytest.raises(PolicyError):
        provider.create_session("a")
    assert provider.runtime.registry.records() == []


def test_execution_policies() -> None:
    def judge(proposal: ExecutionProposal) -> Any:
        program = proposal.request.argv[0]
        if program == "rm":
            return Refuse("rm is not for you")
        if program == "loose":
            return Tighten(timeout_seconds=1e6)
        return Tighten(timeout_seconds=2.0)

    wall = ScriptedWall()
    provider = make_provider(wall=wall, runtime=runtime(ExecutionPolicy(judge)))
    session = Session(provider, provider.open_record("a"))
    session.run(["ls"])
    assert wall.sandbox.requests[0].timeout_seconds == 2.0
    with pytest.raises(PolicyRefusedError, match="rm is not for you"):
        session.run(["rm", "-rf", "/"])
    with pytest.raises(PolicyError, match="loosen"):
        session.run(["loose"])
    assert len(wall.sandbox.requests) == 1


def test_events_tell_what_happened_and_no_secrets() -> None:
    observer = Observer()
    provider = make_provider(runtime=runtime(observer), env_vars={"TOKEN": "hunter2"})
    with Session(provider, provider.open_record("a")) as session:
        session.run(["prog", "argument7"], stdin=b"input7")
    kinds = [str(event.kind) for event in observer.events]
    assert kinds == [
        "session.creating", "session.ready", "execution.started", "execution.finished",
        "session.destroying", "session.destroyed",
    ]  # fmt: skip
    told = repr(observer.events)
    assert not any(secret in told for secret in ("hunter2", "argument7", "input7"))
    finished = observer.events[3]
    assert finished.verdict == "exited" and finished.exit_code == 0
    assert finished.duration_seconds is not None and finished.stdout_bytes == 0
    assert observer.events[-1].duration_seconds is not None


def test_a_broken_observer_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    observer = Observer()
    provider = make_provider(runtime=runtime(BrokenObserver(), observer))
    with caplog.at_level(logging.ERROR), Session(provider, provider.open_record("a")) as session:
        assert session.run(["x"]).success
    assert len(observer.events) == 6 and "observer broke" in caplog.text


def test_a_misspelled_hook_is_refused() -> None:
    class Misspelled:
        @hookimpl
        def stockade_evnt(self, event: Event) -> None: ...

    with pytest.raises(pluggy.PluginValidationError):
        runtime(Misspelled())


OLD = SandboxConfig(
    network_allow=("a.org", "b.org"), env_vars={"A": "1"}, idle_seconds=10.0, memory_mb=None
)


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"memory_mb": 512, "idle_seconds": 5.0, "network_allow": ("a.org",)}, []),
        ({"network_allow": (), "env_vars": {}}, []),
        ({"idle_seconds": None}, ["idle_seconds"]),
        ({"cpu_limit": None}, ["cpu_limit"]),
        ({"network_allow": ("c.org",)}, ["network_allow"]),
        ({"network_allow": (), "network_enabled": True}, ["network_enabled"]),
        ({"read_only_fs": False}, ["read_only_fs"]),
        ({"env_vars": {"A": "2"}}, ["env_vars"]),
        ({"user": "1000"}, ["user"]),
        ({"output_limit_bytes": 2**21}, ["output_limit_bytes"]),
    ],
)
def test_what_counts_as_looser(changes: dict[str, Any], fields: list[str]) -> None:
    assert loosened(OLD.with_(**changes), OLD) == fields
