"""Output where middleware stands around an execution: live, held, and of many at once."""

from __future__ import annotations

import threading
import time

import attrs
import pytest

from core.executions.middleware import (
    Redacts,
    Wrapper,
    opened,
    says_secret,
)
from core.walls import ScriptedRunning
from stockade import (
    MiddlewareError,
    Stream,
)
from stockade.plugin import JudgedExecution, hookimpl
from stockade.wall import Exit, Output


def test_a_live_reader_gets_nothing_before_middleware_where_output_is_held() -> None:
    with opened(says_secret, Redacts(hold=True)) as session:
        with session.stream(["x"]) as execution:
            chunks = list(execution)
            assert execution.result().exit_code == 3
    assert [(c.stream, c.text) for c in chunks] == [
        (Stream.STDOUT, "the ****** is out"),
        (Stream.STDERR, "******, too"),
    ]


def test_a_live_reader_gets_output_as_it_comes_where_it_is_not_held() -> None:
    read = threading.Event()

    def waits_for_its_reader(running: ScriptedRunning, output: Output) -> Exit:
        output.write(Stream.STDOUT, b"secret")
        assert read.wait(10)
        return Exit(code=0)

    redacts = Redacts()
    with opened(waits_for_its_reader, redacts) as session:
        with session.stream(["x"]) as execution:
            chunk = execution.take()
            read.set()
            assert chunk is not None and chunk.text == "secret" and execution.take() is None
            assert execution.result().stdout == "******"
    assert redacts.seen[0].live


def test_held_output_holds_no_program_back() -> None:
    """A reader that reads nothing meanwhile is not waited for."""

    def much(running: ScriptedRunning, output: Output) -> Exit:
        for _ in range(100):
            output.write(Stream.STDOUT, b"x" * 1000)
        return Exit(code=0)

    with opened(much, Redacts(hold=True), output_limit_bytes=5000) as session:
        with session.stream(["x"]) as execution:
            result = execution.result(20)
            assert (len(result.stdout_bytes), result.stdout_total_bytes) == (5000, 100_000)
            assert sum(len(chunk.data) for chunk in execution) == 5000


def test_output_is_held_before_the_execution_or_not_at_all() -> None:
    class Late:
        @hookimpl(wrapper=True)
        def stockade_execution(self, execution: JudgedExecution) -> Wrapper:
            result = yield
            execution.hold_output()
            return result

    with opened(says_secret, Late()) as session:
        with pytest.raises(MiddlewareError, match="too late"):
            session.run(["x"])


def test_without_middleware_an_execution_has_no_way_to_go() -> None:
    redacts = Redacts()
    with opened(says_secret) as session:
        hooks = session.provider.runtime.hooks
        assert session.start(["x"])._passage is None
        hooks.add(redacts)
        assert session.run(["x"]).stdout == "the ****** is out"
        hooks.remove(redacts)
        assert session.start(["x"])._passage is None
        assert session.run(["x"]).stdout == "the secret is out"


def test_many_at_once_each_go_their_own_way() -> None:
    def echo(running: ScriptedRunning, output: Output) -> Exit:
        time.sleep(0.01)
        output.write(Stream.STDOUT, b"secret")
        return Exit(code=0)

    class Marks:
        @hookimpl(wrapper=True)
        def stockade_execution(self, execution: JudgedExecution) -> Wrapper:
            result = yield
            mark = execution.request.argv[1].encode()
            return attrs.evolve(result, stdout_bytes=result.stdout_bytes + mark)

    with opened(echo, Redacts(), Marks()) as session:
        started = [session.start(["x", str(n)]) for n in range(40)]
        assert [e.result(20).stdout for e in started] == [f"******{n}" for n in range(40)]
