"""What stands around executions: it sees and answers them, and undoes nothing of core's."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from typing import Any

import attrs
import pytest

from core.executions.middleware import (
    ALWAYS,
    Answers,
    Listener,
    Redacts,
    Wrapper,
    asked,
    opened,
    says_secret,
)
from core.walls import ScriptedRunning, until_killed
from stockade import (
    MiddlewareError,
    PolicyRefusedError,
    SandboxLostError,
    SandboxResult,
    SandboxStartError,
    SessionStatus,
    Stream,
    Verdict,
)
from stockade.plugin import JudgedExecution, Refuse, hookimpl
from stockade.wall import Exit, Output


def test_a_wrapper_sees_the_request_and_changes_the_result() -> None:
    redacts, listener = Redacts(), Listener()
    with opened(says_secret, redacts, listener) as session:
        result = session.run(["prog", "argument"], stdin=b"input", env={"A": "1"})
        assert result.stdout == "the ****** is out" and result.exit_code == 3
        (seen,) = redacts.seen
        assert seen.request.argv == ("prog", "argument") and seen.request.stdin == b"input"
        assert seen.request.env == {"A": "1"} and not seen.live
        assert seen.config == session.provider.config
        assert (seen.agent_id, seen.session_id) == ("agent", session.session_id)
        assert threading.get_ident() not in redacts.threads  # the execution's own thread
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            seen.request.argv = ("other",)  # type: ignore[misc]
    finished = next(e for e in listener.events if str(e.kind) == "execution.finished")
    assert finished.exit_code == 3


def test_one_that_is_no_wrapper_answers_in_the_sandboxs_place() -> None:
    with opened(says_secret, Answers()) as session:
        assert session.run(["cached"]).stdout == "from the cache"
        assert asked(session) == 0 and session.status is SessionStatus.READY
        assert session.run(["prog"]).exit_code == 3
        assert asked(session) == 1
        # A live reader gets what nobody streamed to it.
        with session.stream(["cached"]) as execution:
            assert [(c.stream, c.data) for c in execution] == [(Stream.STDOUT, b"from the cache")]
            assert execution.result().success


def test_who_comes_last_comes_before_cores_own() -> None:
    class Last(Answers):
        @hookimpl(trylast=True)
        def stockade_execution(self, execution: JudgedExecution) -> SandboxResult | None:
            return super().stockade_execution(execution)

    with opened(says_secret, Last()) as session:
        assert session.run(["cached"]).stdout == "from the cache"
        assert session.run(["prog"]).exit_code == 3


def test_order_of_middleware() -> None:
    seen: list[str] = []

    class Around:
        def __init__(self, name: str) -> None:
            self.name = name

        @hookimpl(wrapper=True)
        def stockade_execution(self) -> Wrapper:
            seen.append(f"{self.name} in")
            result = yield
            seen.append(f"{self.name} out")
            return result

    class Outermost(Around):
        @hookimpl(wrapper=True, tryfirst=True)
        def stockade_execution(self) -> Wrapper:
            return super().stockade_execution()

    class Old:
        @hookimpl(hookwrapper=True, trylast=True)
        def stockade_execution(self) -> Generator[None, Any, None]:
            seen.append("old in")
            outcome = yield
            seen.append(f"old out {outcome.get_result().exit_code}")

    with opened(says_secret, Outermost("first"), Around("a"), Around("b"), Old()) as session:
        session.run(["x"])
    assert seen == [
        "first in",
        "b in",
        "a in",
        "old in",
        "old out 3",
        "a out",
        "b out",
        "first out",
    ]


class RaisesBefore:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    @hookimpl(wrapper=True)
    def stockade_execution(self) -> Wrapper:
        if ALWAYS:
            raise self.error
        return (yield)


class RaisesAfter(RaisesBefore):
    @hookimpl(wrapper=True)
    def stockade_execution(self) -> Wrapper:
        yield
        raise self.error


class RaisesPlain(RaisesBefore):
    @hookimpl
    def stockade_execution(self) -> Any:
        raise self.error


@pytest.mark.parametrize("kind", [RaisesBefore, RaisesAfter, RaisesPlain])
@pytest.mark.parametrize("error", [RuntimeError("broke"), SystemExit(3), KeyboardInterrupt()])
def test_what_fails_gives_no_result(kind: type[RaisesBefore], error: BaseException) -> None:
    with opened(says_secret, kind(error)) as session:
        with pytest.raises(MiddlewareError, match=f"{type(error).__name__}.*Mend it") as caught:
            session.run(["x"])
        assert caught.value.__cause__ is error
        assert asked(session) == (kind is RaisesAfter)
        assert session.status is SessionStatus.READY


@pytest.mark.parametrize("kind", [RaisesBefore, RaisesAfter, RaisesPlain])
def test_stockades_own_errors_reach_the_caller_as_they_are(kind: type[RaisesBefore]) -> None:
    error = SandboxStartError("as if")
    with opened(says_secret, kind(error)) as session:
        with pytest.raises(SandboxStartError) as caught:
            session.run(["x"])
        assert caught.value is error


class ReturnsNonsense:
    @hookimpl(wrapper=True)
    def stockade_execution(self) -> Generator[None, Any, Any]:
        yield
        return "fine"


class AnswersNonsense:
    @hookimpl
    def stockade_execution(self) -> Any:
        return 0


class ForcesNonsense:
    @hookimpl(hookwrapper=True)
    def stockade_execution(self) -> Generator[None, Any, None]:
        outcome = yield
        outcome.force_result(None)


@pytest.mark.parametrize("plugin", [ReturnsNonsense(), AnswersNonsense(), ForcesNonsense()])
def test_what_is_no_result_is_refused(plugin: object) -> None:
    with opened(says_secret, plugin) as session:
        with pytest.raises(MiddlewareError, match="no SandboxResult"):
            session.run(["x"])


def test_it_sees_nothing_that_a_policy_refused() -> None:
    class Policy:
        @hookimpl
        def stockade_execution_policy(self) -> Refuse:
            return Refuse("no")

    redacts = Redacts()
    with opened(says_secret, redacts, Answers(), Policy()) as session:
        for argv in (["x"], ["cached"]):
            with pytest.raises(PolicyRefusedError):
                session.run(argv)
    assert redacts.seen == []


class Waits:
    """At work until it may go on; where it was, and whether it came to its end."""

    def __init__(self, *, before: bool) -> None:
        self.before = before
        self.there, self.go, self.over = (threading.Event() for _ in range(3))

    @hookimpl(wrapper=True)
    def stockade_execution(self) -> Wrapper:
        try:
            if self.before:
                self._wait()
                return (yield)
            result = yield
            self._wait()
            return result
        finally:
            self.over.set()

    def _wait(self) -> None:
        self.there.set()
        assert self.go.wait(30)


@pytest.mark.parametrize("before", [True, False])
def test_D6_the_deadline_finds_it_at_work(before: bool) -> None:
    waits = Waits(before=before)
    session = opened(says_secret, waits)
    began = time.monotonic()
    result = session.run(["x"], timeout=0.2)
    assert time.monotonic() - began < 5  # and not once it has come to its end
    assert result.verdict is Verdict.TIMED_OUT
    assert (result.stdout, result.stderr) == ("", ""), "output that no middleware passed"
    assert result.stdout_truncated is not before
    waits.go.set()
    assert waits.over.wait(10)
    assert asked(session) == (0 if before else 1)  # nothing is started after the end
    assert session.status is SessionStatus.READY
    session.close()


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("how", ["cancel", "close"])
def test_C7_cancelling_and_closing_find_it_at_work(before: bool, how: str) -> None:
    waits = Waits(before=before)
    session = opened(says_secret, waits)
    execution = session.start(["x"])
    assert waits.there.wait(10)
    execution.cancel() if how == "cancel" else session.close()
    result = execution.result(10)
    assert result.verdict is Verdict.CANCELLED and result.stdout == ""
    waits.go.set()
    assert waits.over.wait(10)
    session.close()
    assert execution.result() is result  # what it came to afterwards is not used


def test_D6_a_program_that_is_ended_gives_its_output_through_middleware() -> None:
    def secret_then_wait(running: ScriptedRunning, output: Output) -> Exit:
        says_secret(running, output)
        return until_killed(running, output)

    with opened(secret_then_wait, Redacts()) as session:
        result = session.run(["x"], timeout=0.2)
    assert result.verdict is Verdict.TIMED_OUT and result.stdout == "the ****** is out"


def test_a_wall_that_hangs_gives_no_output_by_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stockade.executions._execution.KILL_GRACE_SECONDS", 0.2)
    stuck = threading.Event()

    def deaf(running: ScriptedRunning, output: Output) -> Exit:
        says_secret(running, output)
        stuck.wait(30)
        return Exit(signal=9)

    session = opened(deaf, Redacts())
    with pytest.raises(SandboxLostError) as caught:
        session.run(["x"], timeout=0.1)
    assert caught.value.partial is not None and caught.value.partial.stdout == ""
    assert session.status is SessionStatus.FAILED
    stuck.set()
    session.close()


def test_D14_a_sandbox_that_was_lost_stays_lost_whatever_is_returned_for_it() -> None:
    partials = []

    class Consoles:
        @hookimpl(wrapper=True)
        def stockade_execution(self) -> Wrapper:
            try:
                return (yield)
            except SandboxLostError as error:
                partials.append(error.partial)
                return SandboxResult(exit_code=0)

    def dies(running: ScriptedRunning, output: Output) -> Exit:
        says_secret(running, output)
        raise SandboxLostError("it died")

    session = opened(dies, Consoles())
    assert session.run(["x"]).success
    assert partials[0] is not None and partials[0].stdout == "the secret is out"
    assert session.status is SessionStatus.FAILED
    session.close()
