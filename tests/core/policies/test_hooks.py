"""Policies and observers."""

from __future__ import annotations

import logging
from typing import Any

import attrs
import pluggy
import pytest

from core.walls import ScriptedWall, make_provider
from stockade import Mount, OutputPolicy, PolicyError, PolicyRefusedError, SandboxConfig, Secret
from stockade._proposals import RULES, loosened
from stockade.plugin import (
    Event,
    ExecutionProposal,
    Refuse,
    SessionProposal,
    Tighten,
    hookimpl,
)
from stockade.session import Session
from stockade.sessions._runtime import Runtime


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


def test_events_hold_what_happened_and_no_secrets() -> None:
    observer = Observer()
    provider = make_provider(runtime=runtime(observer), env_vars={"TOKEN": "hunter2"})
    with Session(provider, provider.open_record("a")) as session:
        session.run(["prog", "argument7"], stdin=b"input7")
    kinds = [str(event.kind) for event in observer.events]
    assert kinds == [
        "session.creating",
        "session.ready",
        "execution.started",
        "execution.finished",
        "session.destroying",
        "session.destroyed",
    ]
    reported = repr(observer.events)
    assert not any(secret in reported for secret in ("hunter2", "argument7", "input7"))
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
        ({"labels": {"judged": "yes"}}, []),
        ({"cpu_limit": None}, ["cpu_limit"]),
        ({"network_allow": (), "network_enabled": True}, ["network_enabled"]),
        ({"memory_mb": 1, "user": "1000", "cpu_limit": None}, ["cpu_limit", "user"]),
    ],
)
def test_what_counts_as_looser(changes: dict[str, Any], fields: list[str]) -> None:
    assert loosened(OLD.with_(**changes), OLD) == fields


STRICT = SandboxConfig(output_policy=OutputPolicy.END, idle_seconds=60.0, network_allow=("a.org",))
#: Of every field, what allows more than STRICT does; None where nothing can.
LOOSER: dict[str, Any] = {
    "timeout_seconds": {"timeout_seconds": 61.0},
    "memory_mb": {"memory_mb": 513},
    "cpu_limit": {"cpu_limit": None},
    "network_enabled": {"network_enabled": True, "network_allow": ()},
    "read_only_fs": {"read_only_fs": False},
    "env_vars": {"env_vars": {"PATH": "/evil"}},
    "user": {"user": "1000"},
    "working_dir": {"working_dir": "/etc"},
    "disk_mb": {"disk_mb": 257},
    "max_processes": {"max_processes": None},
    "output_limit_bytes": {"output_limit_bytes": 2**21},
    "output_policy": {"output_policy": "drain"},
    "output_keep": None,
    "lifetime_seconds": {"lifetime_seconds": None},
    "idle_seconds": {"idle_seconds": None},
    "durable": {"durable": True},
    "startup_timeout_seconds": {"startup_timeout_seconds": 61.0},
    "mounts": {"mounts": (Mount("/srv", "/srv"),)},
    "network_allow": {"network_allow": ("a.org", "b.org")},
    "secrets": {"secrets": (Secret("a", env="A", hosts=["a.org"]),)},
    "ports": {"ports": (8080,), "network_enabled": True, "network_allow": ()},
    "labels": None,
}


@pytest.mark.parametrize("field", [field.name for field in attrs.fields(SandboxConfig)])
def test_every_field_has_a_rule_that_finds_what_is_looser(field: str) -> None:
    assert field in RULES, f"say in stockade._proposals.RULES when {field} allows more"
    assert field in LOOSER, f"say here what of {field} allows more"
    assert not RULES[field](STRICT, STRICT)
    if LOOSER[field] is None:
        return
    new = STRICT.with_(**LOOSER[field])
    assert RULES[field](new, STRICT) and field in loosened(new, STRICT)
    policy = SessionPolicy(lambda p: p.config.with_(**LOOSER[field]))
    provider = make_provider(runtime=runtime(policy), **attrs.asdict(STRICT, recurse=False))
    with pytest.raises(PolicyError, match=field):
        provider.create_session("a")


def test_ports_are_tightened_and_never_loosened() -> None:
    published = SandboxConfig(network_enabled=True, ports=(80, 8080))
    assert loosened(published.with_(ports=(80,)), published) == []
    assert loosened(published.with_(ports=(80, 81)), published) == ["ports"]
    assert loosened(published.with_(durable=True), published) == ["durable"]
    kept = published.with_(durable=True)
    assert loosened(kept.with_(durable=False), kept) == []


def test_a_field_without_a_rule_may_not_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(RULES, "memory_mb")
    assert loosened(SandboxConfig(memory_mb=1), SandboxConfig()) == ["memory_mb"]
