"""Executions that are reached while they run: signals, open input, readers (D5, D17, D18)."""

from __future__ import annotations

import asyncio
import threading
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

import stockade
from core.policies.test_hooks import runtime
from core.walls import ScriptedRunning, ScriptedSandbox, ScriptedWall, make_provider, session
from stockade.aio import AsyncSession
from stockade.executions._kept import MOST_PIECES
from stockade.executions._output import BoundedOutput
from stockade.plugin import JudgedExecution, SandboxResult, hookimpl
from stockade.results import Chunk, Stream, Verdict
from stockade.session import Session
from stockade.wall import ExecRequest, Exit, Output, Running

OUT, ERR = Stream.STDOUT, Stream.STDERR


# -- output ----------------------------------------------------------------------


def test_D18_readers_start_where_they_ask() -> None:
    output = BoundedOutput(1000, joinable=True)
    output.write(OUT, b"abc")
    output.write(ERR, b"DEF")
    early, late, now = output.join(0), output.join(4), output.join(None)
    output.write(ERR, b"G")
    output.write(OUT, b"h")
    output.end()
    read = [[(c.stream, c.data, c.offset, c.dropped) for c in one] for one in (early, late, now)]
    assert read[0] == [(OUT, b"abc", 0, 0), (ERR, b"DEFG", 3, 0), (OUT, b"h", 7, 0)]
    assert read[1] == [(ERR, b"EFG", 4, 0), (OUT, b"h", 7, 0)]
    assert read[2] == [(ERR, b"G", 6, 0), (OUT, b"h", 7, 0)]
    assert [c.data for c in output.join(7)] == [b"h"] and list(output.join(8)) == []


def test_D18_an_offset_that_is_still_to_come() -> None:
    output = BoundedOutput(1000, joinable=True)
    output.write(OUT, b"x" * 5000)
    reader = output.join(5002)
    for stream, data in ((OUT, b"ab"), (ERR, b"cd"), (OUT, b"ef")):
        output.write(stream, data)
    assert reader.take(1) == Chunk(ERR, b"cd", offset=5002)


def test_D18_what_was_missed_is_counted_and_memory_bounded() -> None:
    output = BoundedOutput(10_000, joinable=True)
    for _ in range(100):
        output.write(OUT, bytes(1000))
    output.drop(ERR, 77)
    output.end()
    pieces = list(output.join(0))
    held = sum(len(c.data) for c in pieces)  # a piece that reaches over the limit stays whole
    assert pieces[0].dropped == 100_000 - held and 10_000 <= held < 14_096
    assert (pieces[-1].data, pieces[-1].dropped, pieces[-1].end) == (b"", 77, 100_077)


def test_D18_tiny_pieces_cost_no_more_than_large_ones() -> None:
    output = BoundedOutput(1 << 20, joinable=True)
    tracemalloc.start()
    try:
        for _ in range(10_000):
            output.write(OUT, b"o")
            output.write(ERR, b"e")
        grown = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert grown < 8 << 20
    output.end()
    assert len(list(output.join(0))) == MOST_PIECES


def test_D13_the_reader_of_a_stream_misses_nothing_of_tiny_pieces() -> None:
    output = BoundedOutput(1 << 20, live=True)

    def write() -> None:
        for _ in range(2 * MOST_PIECES):
            output.write(OUT, b"o")
            output.write(ERR, b"e")
        output.end()

    threading.Thread(target=write, daemon=True).start()
    time.sleep(0.2)
    pieces = list(output)
    assert sum(len(c.data) for c in pieces) == 4 * MOST_PIECES
    assert not any(c.dropped for c in pieces)


def test_D18_a_reader_keeps_output_coming_that_would_be_drained() -> None:
    output = BoundedOutput(10)
    output.write(OUT, bytes(10))
    assert output.full(OUT)
    reader = output.join(None)
    assert not output.full(OUT) and output.room(OUT) == 10
    reader.close()
    assert output.full(OUT) and reader.take() is None


@pytest.mark.parametrize(
    ("keep", "kept", "gap"),
    [("head", b"012345", 6), ("tail", b"efghij", 0), ("both", b"012hij", 3)],
)
@pytest.mark.parametrize("size", [1, 3, 20])
def test_D5_the_part_that_is_kept(keep: str, kept: bytes, gap: int, size: int) -> None:
    output = BoundedOutput(6, keep=stockade.OutputKeep(keep))
    data = b"0123456789abcdefghij"
    for at in range(0, len(data), size):
        output.write(OUT, data[at : at + size])
    output.write(ERR, b"whole")
    assert (output.data(OUT), output.gap(OUT), output.total(OUT)) == (kept, gap, 20)
    assert (output.data(ERR), output.gap(ERR)) == (b"whole", None)


# -- a wall that is reached ------------------------------------------------------


class Reached(ScriptedRunning):
    """Takes what comes, once ``begins`` lets the wall start it."""

    def __init__(self, body: Callable[[Any, Output], Exit], output: Output) -> None:
        super().__init__(body, output)
        self.signals: list[tuple[int, bool]] = []
        self.input = b""
        self.closed = threading.Event()
        self.room = 1 << 30

    def signal(self, number: int, *, group: bool) -> None:
        self.signals.append((number, group))

    def write(self, data: bytes, seconds: float) -> int:
        if len(self.input) >= self.room:
            self.killed.wait(seconds)
            return 0
        self.input += data
        return len(data)

    def close_input(self) -> None:
        self.closed.set()


class Reachable(ScriptedSandbox):
    def __init__(self, body: Callable[[Any, Output], Exit]) -> None:
        super().__init__(body)
        self.begins = threading.Event()
        self.begins.set()
        self.made: list[Reached] = []

    def start(self, request: ExecRequest, output: Output) -> Running:
        self.requests.append(request)
        self.begins.wait(10)
        self.made.append(Reached(self.body, output))
        return self.made[-1]


def until_closed(running: Any, _: Output) -> Exit:
    running.closed.wait(10)
    return Exit(code=0)


def until_killed(running: Any, _: Output) -> Exit:
    running.killed.wait(10)
    return Exit(signal=9)


def opened(body: Callable[[Any, Output], Exit], *plugins: object) -> tuple[Session, Reachable]:
    wall = ScriptedWall()
    wall.sandbox = Reachable(body)
    provider = make_provider(wall=wall, runtime=runtime(*plugins))
    return Session(provider, provider.open_record("a")), wall.sandbox


def test_what_comes_before_the_program_waits_for_it() -> None:
    plain, sandbox = opened(until_closed)
    sandbox.begins.clear()
    with plain:
        execution = plain.start(["x"], stdin=stockade.PIPE)
        calls = [
            threading.Thread(target=execution.signal, args=("USR1",), kwargs={"group": True}),
            threading.Thread(target=execution.write, args=("word",)),
        ]
        for call in calls:
            call.start()
        time.sleep(0.1)
        sandbox.begins.set()
        for call in calls:
            call.join(5)
        execution.close_stdin()
        assert execution.result(5).success
        assert sandbox.made[0].signals == [(10, True)] and sandbox.made[0].input == b"word"
        assert sandbox.requests[0].live_input and sandbox.requests[0].stdin == b""


def test_input_that_is_closed_before_the_program_is_there() -> None:
    plain, sandbox = opened(until_closed)
    sandbox.begins.clear()
    with plain:
        execution = plain.start(["x"], stdin=stockade.PIPE)
        execution.close_stdin()
        sandbox.begins.set()
        assert execution.result(5).success


def test_a_write_ends_with_its_execution_and_with_its_session() -> None:
    plain, sandbox = opened(until_killed)
    ends: list[BaseException] = []

    def write(execution: stockade.Execution) -> None:
        try:
            execution.write(bytes(1 << 20))
        except stockade.ExecutionEndedError as error:
            ends.append(error)

    with plain:
        for count in (1, 2):
            execution = plain.start(["x"], stdin=stockade.PIPE)
            while len(sandbox.made) < count:
                time.sleep(0.01)
            sandbox.made[-1].room = 1000
            writers = [threading.Thread(target=write, args=(execution,)) for _ in range(2)]
            for writer in writers:
                writer.start()
            (execution.cancel if count == 1 else plain.close)()
            for writer in writers:
                writer.join(5)
            assert len(ends) == 2 * count
            assert isinstance(ends[-1], ProcessLookupError)


@pytest.mark.parametrize("wrong", [0, 65, 32, -1, True, 1.5, "SIGFOO", None])
def test_what_is_no_signal_is_refused(wrong: Any) -> None:
    plain, _ = opened(until_killed)
    with plain:
        execution = plain.start(["x"])
        with pytest.raises(stockade.ConfigError):
            execution.signal(wrong)
        execution.cancel()


def test_errors_of_a_wall_are_its_own() -> None:
    class Broken(Reached):
        def signal(self, number: int, *, group: bool) -> None:
            raise RuntimeError("bug")

        def write(self, data: bytes, seconds: float) -> int:
            return len(data) + 1

    plain, sandbox = opened(until_killed)
    sandbox.start = lambda request, output: Broken(until_killed, output)  # type: ignore[method-assign]
    with plain:
        execution = plain.start(["x"], stdin=stockade.PIPE)
        with pytest.raises(stockade.WallError, match="signal"):
            execution.signal(15)
        with pytest.raises(stockade.WallError, match="write"):
            execution.write(b"x")
        execution.cancel()


def test_what_a_wall_does_not_claim_is_refused_before_anything_starts() -> None:
    plain, sandbox = opened(until_killed)
    wall = plain.provider.wall
    wall.capabilities = wall.capabilities.with_(
        live_input="unsupported", merged_output="unsupported", execution_user="unsupported"
    )
    asked: tuple[dict[str, Any], ...] = (
        {"stdin": stockade.PIPE},
        {"merge": True},
        {"user": "1234"},
    )
    with plain:
        for options in asked:
            with pytest.raises(stockade.UnsupportedError):
                plain.start(["x"], **options)
    assert not sandbox.requests


# -- readers beside middleware ---------------------------------------------------


class Holds:
    """Shows readers nothing before it has taken the secret out."""

    @hookimpl(wrapper=True)
    def stockade_execution(self, execution: JudgedExecution) -> Any:
        execution.hold_output()
        result: SandboxResult = yield
        import attrs

        return attrs.evolve(result, stdout_bytes=result.stdout_bytes.replace(b"secret", b"***"))


def test_readers_that_join_see_what_middleware_leaves_alone() -> None:
    go_on = threading.Event()

    def body(_: Any, output: Output) -> Exit:
        output.write(OUT, b"a secret")
        go_on.wait(10)
        return Exit(code=0)

    plain, _ = opened(body, Holds())
    with plain:
        execution = plain.start(["x"])
        reader = execution.follow()
        assert reader.take(0.2) is None
        go_on.set()
        assert b"".join(chunk.data for chunk in reader) == b"a ***"
        assert b"".join(chunk.data for chunk in execution.follow()) == b"a ***"


# -- awaited ---------------------------------------------------------------------


def test_awaited_readers_take_no_thread_and_lose_nothing() -> None:
    go_on = threading.Event()

    def body(_: Any, output: Output) -> Exit:
        output.write(OUT, b"one")
        go_on.wait(10)
        output.write(OUT, b"two")
        return Exit(code=0)

    async def main(plain: Session) -> None:
        async with AsyncSession(plain) as opened_:
            execution = await opened_.start(["x"])
            assert [one.execution_id for one in opened_.executions()] == [execution.execution_id]
            same = opened_.execution(execution.execution_id)
            readers = [same.follow() for _ in range(50)]
            assert {(await reader.take()).data for reader in readers} == {b"one"}  # type: ignore[union-attr]
            at_once = same.follow()
            assert (await at_once.take(timeout=0)).data == b"one"  # type: ignore[union-attr]
            assert await at_once.take(timeout=0) is None
            before = threading.active_count()
            waiting = [asyncio.create_task(reader.take()) for reader in readers[1:]]
            assert await readers[0].take(timeout=0.05) is None
            # Threads of earlier tests may come and go; one that a reader took would stay.
            deadline = time.monotonic() + 5
            while threading.active_count() > before and time.monotonic() < deadline:
                await asyncio.sleep(0.02)
            assert threading.active_count() <= before, threading.enumerate()
            assert not any(one.done() for one in waiting)
            waiting[0].cancel()
            go_on.set()
            assert {(await one).data for one in waiting[1:]} == {b"two"}  # type: ignore[union-attr]
            assert [chunk.data async for chunk in readers[1]] == [b"two"]
            assert (await execution.result()).verdict is Verdict.EXITED

    with session(body) as plain:
        asyncio.run(main(plain))
