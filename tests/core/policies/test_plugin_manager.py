"""What people who know pluggy expect of its order, wrappers and names holds for every hook."""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import Any

import pluggy
import pytest

from core.walls import ScriptedWall, make_provider
from stockade import PolicyError, PolicyRefusedError
from stockade.plugin import Event, Refuse, SessionProposal, Tighten, hookimpl
from stockade.session import Session
from stockade.sessions._runtime import Runtime

Wrapper = Generator[None, Any, Any]
#: Keeps a generator function one for the type checker.
ALWAYS: bool = True


def runtime(*plugins: object) -> Runtime:
    made = Runtime(discover_plugins=False)
    for plugin in plugins:
        made.hooks.add(plugin)
    return made


class Policy:
    """Notes that it was asked, and answers."""

    def __init__(self, name: str, seen: list[str], answer: Any = None) -> None:
        self.name, self.seen, self.answer = name, seen, answer

    @hookimpl
    def stockade_session_policy(self, proposal: SessionProposal) -> Any:
        self.seen.append(self.name)
        return self.answer


class First(Policy):
    @hookimpl(tryfirst=True)
    def stockade_session_policy(self, proposal: SessionProposal) -> Any:
        return super().stockade_session_policy(proposal)


class Last(Policy):
    @hookimpl(trylast=True)
    def stockade_session_policy(self, proposal: SessionProposal) -> Any:
        return super().stockade_session_policy(proposal)


class Around(Policy):
    @hookimpl(wrapper=True)
    def stockade_session_policy(self, proposal: SessionProposal) -> Wrapper:
        self.seen.append(f"{self.name} before {proposal.config.memory_mb}")
        try:
            answers = yield
        except Exception as error:
            self.seen.append(f"{self.name} saw {type(error).__name__}")
            raise
        self.seen.append(f"{self.name} after {len(answers)}")
        return answers


class OldAround(Policy):
    @hookimpl(hookwrapper=True)
    def stockade_session_policy(self, proposal: SessionProposal) -> Generator[None, Any, None]:
        self.seen.append(f"{self.name} before")
        outcome = yield
        self.seen.append(f"{self.name} after {len(outcome.get_result())}")


def test_the_newest_is_asked_first_and_tryfirst_and_trylast_hold() -> None:
    seen: list[str] = []
    made = runtime(
        First("first", seen), Policy("old", seen), Policy("new", seen), Last("last", seen)
    )
    make_provider(runtime=made).create_session("a")
    assert seen == ["first", "new", "old", "last"]


def test_wrappers_of_both_kinds_stand_around_all_policies() -> None:
    seen: list[str] = []
    made = runtime(Around("w", seen), OldAround("old w", seen), Policy("p", seen, None))
    make_provider(runtime=made).create_session("a")
    # Answers of None are no answers in pluggy.
    assert seen == ["old w before", "w before 512", "p", "w after 0", "old w after 0"]


def test_a_refusal_ends_the_asking_and_wrappers_see_it() -> None:
    seen: list[str] = []
    made = runtime(Policy("old", seen), Policy("new", seen, Refuse("no")), Around("w", seen))
    with pytest.raises(PolicyRefusedError, match="no"):
        make_provider(runtime=made).create_session("a")
    assert seen == ["w before 512", "new", "w saw PolicyRefusedError"]


class Swallows:
    """Would undo every refusal."""

    @hookimpl(wrapper=True, tryfirst=True)
    def stockade_session_policy(self) -> Wrapper:
        try:
            return (yield)
        except BaseException:
            return []

    @hookimpl(wrapper=True, tryfirst=True)
    def stockade_execution_policy(self) -> Wrapper:
        try:
            return (yield)
        except BaseException:
            return []


class OldSwallows:
    @hookimpl(hookwrapper=True, tryfirst=True)
    def stockade_session_policy(self) -> Generator[None, Any, None]:
        outcome = yield
        outcome.force_result([])


@pytest.mark.parametrize("wrapper", [Swallows(), OldSwallows()])
@pytest.mark.parametrize("answer", [Refuse("no"), "nonsense"])
def test_no_wrapper_undoes_a_refusal(wrapper: object, answer: Any) -> None:
    made = runtime(Policy("p", [], answer), wrapper)
    provider = make_provider(runtime=made)
    with pytest.raises((PolicyRefusedError, PolicyError)):
        provider.create_session("a")
    assert made.registry.records() == []


def test_no_wrapper_undoes_a_refused_execution() -> None:
    class Never:
        @hookimpl
        def stockade_execution_policy(self, proposal: Any) -> Any:
            return Refuse("never")

    wall = ScriptedWall()
    provider = make_provider(wall=wall, runtime=runtime(Never(), Swallows()))
    session = Session(provider, provider.open_record("a"))
    with pytest.raises(PolicyRefusedError, match="never"):
        session.run(["x"])
    assert wall.sandbox.requests == []


def test_what_a_policys_wrapper_returns_loosens_nothing() -> None:
    class Loosens:
        @hookimpl(wrapper=True)
        def stockade_session_policy(self, proposal: SessionProposal) -> Wrapper:
            yield
            return [proposal.config.with_(memory_mb=4096)]

    provider = make_provider(runtime=runtime(Loosens()))
    assert provider.open_record("a").config.memory_mb == 512


class RaisesBefore:
    @hookimpl(wrapper=True)
    def stockade_session_policy(self) -> Wrapper:
        if ALWAYS:
            raise RuntimeError("broke")
        return (yield)


class RaisesAfter:
    @hookimpl(wrapper=True)
    def stockade_session_policy(self) -> Wrapper:
        yield
        raise RuntimeError("broke")


class NeverYields:
    @hookimpl(wrapper=True)
    def stockade_session_policy(self) -> Wrapper:
        if not ALWAYS:
            yield
        return None


class YieldsTwice:
    @hookimpl(wrapper=True)
    def stockade_session_policy(self) -> Wrapper:
        yield
        yield


@pytest.mark.parametrize("broken", [RaisesBefore(), RaisesAfter(), NeverYields(), YieldsTwice()])
def test_a_policys_wrapper_that_fails_refuses(broken: object) -> None:
    made = runtime(broken)
    with pytest.raises(PolicyError, match="failed, so nothing was started"):
        make_provider(runtime=made).create_session("a")
    assert made.registry.records() == []


class Listener:
    def __init__(self) -> None:
        self.kinds: list[str] = []

    @hookimpl
    def stockade_event(self, event: Event) -> None:
        self.kinds.append(str(event.kind))


class EventBefore:
    @hookimpl(wrapper=True)
    def stockade_event(self) -> Wrapper:
        if ALWAYS:
            raise RuntimeError("broke")
        return (yield)


class EventAfter:
    @hookimpl(wrapper=True)
    def stockade_event(self) -> Wrapper:
        yield
        raise RuntimeError("broke")


class OldEventAfter:
    @hookimpl(hookwrapper=True)
    def stockade_event(self) -> Wrapper:
        yield
        raise RuntimeError("broke")


class EventTwice:
    @hookimpl(wrapper=True)
    def stockade_event(self) -> Wrapper:
        yield
        yield


@pytest.mark.parametrize(
    "broken",
    [EventBefore(), EventAfter(), OldEventAfter(), EventTwice()],
    ids=lambda one: type(one).__name__,
)
def test_an_observers_wrapper_that_fails_stops_nobody(
    broken: object, caplog: pytest.LogCaptureFixture
) -> None:
    first, last = Listener(), Listener()
    provider = make_provider(runtime=runtime(first, broken, last))
    with caplog.at_level(logging.ERROR), Session(provider, provider.open_record("a")) as session:
        assert session.run(["x"]).success
    assert len(first.kinds) == 6 and first.kinds == last.kinds
    assert "observer" in caplog.text and "failed on" in caplog.text


def test_an_implementation_may_leave_the_argument_out_and_say_its_hook() -> None:
    asked = []

    class Short:
        @hookimpl(specname="stockade_session_policy")
        def house_rule(self) -> None:
            asked.append("rule")

        @hookimpl
        def stockade_event(self) -> None:
            asked.append("event")

    make_provider(runtime=runtime(Short())).create_session("a")
    assert asked == ["rule", "event", "event"]


def test_an_argument_that_the_hook_has_not_is_refused_and_nothing_is_left_of_it() -> None:
    asked = []

    class Wrong:
        @hookimpl
        def stockade_event(self, event: Event) -> None:
            asked.append(event)

        @hookimpl
        def stockade_session_policy(self, proposition: object) -> None: ...

    made = runtime()
    with pytest.raises(pluggy.PluginValidationError, match="proposition"):
        made.hooks.add(Wrong())
    make_provider(runtime=made).create_session("a")
    assert asked == []


def test_registering_twice_and_taking_out() -> None:
    seen: list[str] = []
    policy, made = Policy("p", seen), runtime()
    made.hooks.add(policy)
    with pytest.raises(ValueError, match="registered"):
        made.hooks.add(policy)
    with pytest.raises(ValueError, match="name"):
        made.hooks.add(Policy("q", seen), made.hooks.implementers("stockade_session_policy")[0])
    made.hooks.remove(policy)
    with pytest.raises(ValueError, match="not registered"):
        made.hooks.remove(policy)
    make_provider(runtime=made).create_session("a")
    assert seen == []
    made.hooks.add(policy, "named")
    assert made.hooks.implementers("stockade_session_policy") == ["named"]


def test_a_policy_that_opens_a_session_of_its_own_is_judged_anew() -> None:
    """One call's refusals are not the other's."""

    class Nested:
        def __init__(self) -> None:
            self.inner: list[str] = []

        @hookimpl
        def stockade_session_policy(self, proposal: SessionProposal) -> Any:
            if proposal.agent_id != "outer":
                return Refuse("inner")
            try:
                make_provider(runtime=made).create_session("inner")
            except PolicyRefusedError as error:
                self.inner.append(str(error))
            return proposal.config.with_(memory_mb=64)

    nested = Nested()
    made = runtime(nested)
    assert make_provider(runtime=made).open_record("outer").config.memory_mb == 64
    assert len(nested.inner) == 1


def test_tighten_goes_on_from_policy_to_policy() -> None:
    seen = []

    class Older:
        @hookimpl
        def stockade_execution_policy(self, proposal: Any) -> None:
            seen.append((proposal.request.timeout_seconds, proposal.output_limit_bytes))

    class Newer:
        @hookimpl
        def stockade_execution_policy(self, proposal: Any) -> Any:
            return Tighten(timeout_seconds=2.0, output_limit_bytes=100)

    provider = make_provider(runtime=runtime(Older(), Newer()))
    Session(provider, provider.open_record("a")).run(["x"])
    assert seen == [(2.0, 100)]
