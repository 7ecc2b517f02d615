"""What core makes of walls that end, hang, raise and lie (C6, C7, D3, D6, D12, D14)."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import stockade.executions._execution
import stockade.sessions._runtime
from core.walls import ScriptedRunning, ScriptedWall, make_provider, session, until_killed
from stockade import (
    ConfigError,
    DestroyError,
    ExecutionStatus,
    SandboxLostError,
    SandboxStartError,
    SessionNotFoundError,
    SessionStateError,
    SessionStatus,
    UnsupportedError,
    Verdict,
    WallError,
    WorkingDirectoryError,
)
from stockade.capabilities import Capabilities
from stockade.results import Stream
from stockade.session import Session
from stockade.wall import Exit, Output


@pytest.mark.parametrize(
    ("ended", "verdict", "code", "signal", "reason"),
    [
        (Exit(code=0), Verdict.EXITED, 0, None, None),
        (Exit(code=137), Verdict.EXITED, 137, None, None),
        (Exit(code=143), Verdict.EXITED, 143, None, None),
        (Exit(signal=9), Verdict.SIGNALLED, 137, 9, "SIGKILL"),
        (Exit(signal=15), Verdict.SIGNALLED, 143, 15, "SIGTERM"),
        (Exit(signal=9, out_of_memory=True), Verdict.OUT_OF_MEMORY, 137, 9, "out of memory"),
    ],
)
def test_D3_verdicts(
    ended: Exit, verdict: Verdict, code: int, signal: int | None, reason: str | None
) -> None:
    with session(lambda _r, _o: ended) as opened:
        result = opened.run(["x"])
    assert (result.verdict, result.exit_code, result.signal) == (verdict, code, signal)
    assert result.kill_reason == reason and result.killed is (reason is not None)
    assert result.success is (code == 0)


def test_D3_a_timeout_is_never_out_of_memory() -> None:
    def body(running: ScriptedRunning, _: Output) -> Exit:
        running.killed.wait(10)
        return Exit(signal=9, out_of_memory=True)

    with session(body) as opened:
        assert opened.run(["x"], timeout=0.05).verdict is Verdict.TIMED_OUT


def test_D6_keeps_the_output_so_far() -> None:
    def body(running: ScriptedRunning, output: Output) -> Exit:
        output.write(Stream.STDOUT, b"so far")
        return until_killed(running, output)

    with session(body) as opened:
        result = opened.run(["x"], timeout=0.1)
        assert result.stdout == "so far" and result.verdict is Verdict.TIMED_OUT
        assert opened.status is SessionStatus.READY


def test_D12_cancel_from_another_thread() -> None:
    with session(until_killed) as opened:
        execution = opened.start(["x"])
        assert opened.status is SessionStatus.EXECUTING
        assert execution.status is ExecutionStatus.RUNNING
        threading.Timer(0.05, execution.cancel).start()
        assert execution.result(10).verdict is Verdict.CANCELLED
        assert execution.status is ExecutionStatus.CANCELLED


def test_result_times_out_and_leaves_it_running() -> None:
    with session(until_killed) as opened:
        execution = opened.start(["x"])
        with pytest.raises(TimeoutError):
            execution.result(0.05)
        assert execution.status is ExecutionStatus.RUNNING


def test_D5_policy_end() -> None:
    def body(running: ScriptedRunning, output: Output) -> Exit:
        while not running.killed.is_set():
            output.write(Stream.STDOUT, bytes(1000))
        return Exit(signal=9)

    with session(body, output_limit_bytes=5000, output_policy="end") as opened:
        result = opened.run(["x"])
        assert result.verdict is Verdict.OUTPUT_LIMIT and len(result.stdout_bytes) == 5000
        assert result.stdout_truncated


def test_C7_destroying_gives_a_cancelled_result() -> None:
    with session(until_killed) as opened:
        executions = [opened.start(["x"]) for _ in range(5)]
        opened.close()
        assert {e.result(5).verdict for e in executions} == {Verdict.CANCELLED}
        assert opened.status is SessionStatus.DESTROYED


def test_D14_a_lost_sandbox_raises_with_the_output_so_far() -> None:
    def body(_: ScriptedRunning, output: Output) -> Exit:
        output.write(Stream.STDERR, b"last words")
        raise SandboxLostError("the engine says it is gone")

    with session(body) as opened:
        with pytest.raises(SandboxLostError) as caught:
            opened.run(["x"])
        assert caught.value.partial is not None and caught.value.retryable
        assert caught.value.partial.stderr == "last words"
        assert opened.status is SessionStatus.FAILED
        with pytest.raises(SessionStateError, match="the engine says it is gone"):
            opened.run(["x"])


def test_a_wrong_request_leaves_the_session_usable() -> None:
    calls = iter([True, False])

    def body(_: ScriptedRunning, __: Output) -> Exit:
        if next(calls):
            raise WorkingDirectoryError("/nowhere")
        return Exit(code=0)

    with session(body) as opened:
        with pytest.raises(FileNotFoundError, match="/nowhere"):
            opened.run(["x"])
        assert opened.run(["x"]).success


@pytest.mark.parametrize(
    "nonsense", [None, 0, "done", Exit(), Exit(code=1000), Exit(code=-9), Exit(code=True)]
)
def test_a_wall_that_returns_nonsense(nonsense: Any) -> None:
    with session(lambda _r, _o: nonsense) as opened, pytest.raises(WallError):
        opened.run(["x"])


def test_a_wall_that_raises_anything() -> None:
    def body(_: ScriptedRunning, __: Output) -> Exit:
        raise RuntimeError("oops")

    with session(body) as opened:
        with pytest.raises(WallError, match="RuntimeError: oops") as caught:
            opened.run(["x"])
        assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_wall_that_never_ends_an_execution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stockade.executions._execution, "KILL_GRACE_SECONDS", 0.2)
    stuck = threading.Event()

    def body(_: ScriptedRunning, __: Output) -> Exit:
        stuck.wait(30)
        return Exit(code=0)

    try:
        with session(body) as opened:
            with pytest.raises(SandboxLostError, match="did not end"):
                opened.run(["x"], timeout=0.1)
            assert opened.status is SessionStatus.FAILED
    finally:
        stuck.set()


def test_a_wall_that_hangs_in_open_is_cleaned_up_late() -> None:
    wall = ScriptedWall()
    provider = make_provider(wall=wall, startup_timeout_seconds=0.1)
    go, closed = threading.Event(), threading.Event()
    wall.sandbox.on_close = closed.set

    def slow(_: object) -> object:
        go.wait(30)
        return wall.sandbox

    wall.on_open = slow
    with pytest.raises(SandboxStartError, match="startup_timeout_seconds"):
        provider.create_session("a")
    assert provider.runtime.registry.records() == []
    go.set()
    assert closed.wait(5), "the sandbox that came up late was not removed (C5)"


def test_C5_a_failed_creation_leaves_nothing() -> None:
    wall = ScriptedWall()
    provider = make_provider(wall=wall)

    def fail(_: object) -> object:
        raise OSError("no space")

    wall.on_open = fail
    with pytest.raises(SandboxStartError, match="no space"):
        provider.create_session("a")
    assert provider.runtime.registry.records() == []


def test_open_that_returns_nonsense() -> None:
    wall = ScriptedWall()
    provider = make_provider(wall=wall)
    wall.on_open = lambda _request: "a sandbox"
    with pytest.raises(WallError, match="not a Sandbox"):
        provider.create_session("a")
    assert provider.runtime.registry.records() == []


def test_C6_a_failed_destruction_can_be_tried_again() -> None:
    wall = ScriptedWall()
    provider = make_provider(wall=wall)
    failures = iter([True, False])

    def close() -> None:
        if next(failures):
            raise RuntimeError("engine away")

    wall.sandbox.on_close = close
    handle = provider.create_session("a")
    with pytest.raises(DestroyError, match="engine away") as caught:
        provider.destroy_session("a", handle.session_id)
    assert caught.value.retryable and handle.status is SessionStatus.FAILED
    provider.destroy_session("a", handle.session_id)
    assert handle.status is SessionStatus.DESTROYED
    with pytest.raises(SessionNotFoundError):
        provider.destroy_session("a", handle.session_id)


def test_a_wall_that_hangs_in_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stockade.sessions._ending, "CLOSE_SECONDS", 0.1)
    wall = ScriptedWall()
    provider = make_provider(until_killed, wall=wall)
    stuck = threading.Event()
    wall.sandbox.on_close = lambda: stuck.wait(30) and None
    opened = Session(provider, provider.open_record("a"))
    execution = opened.start(["x"])
    with pytest.raises(DestroyError):
        opened.close()
    assert execution.result(5).verdict is Verdict.CANCELLED
    stuck.set()
    opened.close()


def test_C3_wrong_agent_and_unknown_session_are_alike() -> None:
    provider = make_provider()
    handle = provider.create_session("a")
    errors = []
    for agent, session_id in (("b", handle.session_id), ("a", "ses-unknown"), ("b", "ses-unknown")):
        with pytest.raises(SessionNotFoundError) as caught:
            provider.execute_code(agent, session_id, "x")
        errors.append(str(caught.value).replace(session_id, "ID"))
    assert len(set(errors)) == 1


@pytest.mark.parametrize("agent", ["", "x" * 129, "a\nb", "a\0", None, 5])
def test_C1_agent_ids_are_checked(agent: Any) -> None:
    with pytest.raises(ConfigError, match="agent_id"):
        make_provider().create_session(agent)


def test_C2_ids_are_random_and_long() -> None:
    provider = make_provider()
    ids = {provider.create_session("a").session_id for _ in range(50)}
    assert len(ids) == 50 and all(len(i.removeprefix("ses-")) * 4 >= 128 for i in ids)


def test_C11_a_busy_session_past_its_lifetime_is_destroyed() -> None:
    with session(until_killed, lifetime_seconds=0.2) as opened:
        assert opened.run(["x"]).verdict is Verdict.CANCELLED
        _eventually(lambda: opened.status is SessionStatus.DESTROYED)


def test_C11_an_idle_session_is_destroyed_and_a_used_one_lives() -> None:
    with session(idle_seconds=2.0) as opened:
        for _ in range(5):
            time.sleep(0.5)
            opened.run(["x"])
        assert opened.status is SessionStatus.READY
        _eventually(lambda: opened.status is SessionStatus.DESTROYED)


def _eventually(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_unsupported_is_refused_before_anything_starts() -> None:
    wall = ScriptedWall()
    wall.capabilities = Capabilities({"argv": "native", "memory": "native"})
    provider = make_provider(wall=wall)
    with pytest.raises(UnsupportedError, match=r"cpu_limit=1\.0 needs cpu.*cpu_limit=None"):
        provider.create_session("a")
    assert not wall.sandbox.requests and not provider.runtime.registry.records()


def test_D1_forms_that_a_wall_lacks_are_refused_by_name() -> None:
    wall = ScriptedWall()
    wall.capabilities = wall.capabilities.with_(argv="unsupported", shell="unsupported")
    with session(wall=wall) as opened:
        with pytest.raises(UnsupportedError, match="argv"):
            opened.run(["x"])
        with pytest.raises(UnsupportedError, match="shell"):
            opened.shell("x")
        assert opened.code("x").success
        with pytest.raises(UnsupportedError, match="argv"):
            opened.provider.run("a", ["x"])


@pytest.mark.parametrize("argv", ["ls -l", [], [""], ["a\0"], [1], None, b"ls", {"a"}])
def test_argv_is_checked(argv: Any) -> None:
    with session() as opened, pytest.raises(ConfigError):
        opened.run(argv)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": float("inf")},
        {"timeout": float("nan")},
        {"stdin": 7},
        {"stdin": "\ud800"},
        {"stdin": stockade.PIPE},
        {"output_keep": "middle"},
        {"user": "root"},
        {"env": {"A=": "x"}},
        {"working_dir": "../rel"},
        {"output_limit_bytes": 0},
        {"output_policy": "?"},
    ],
)
def test_execution_options_are_checked(options: Any) -> None:
    with session() as opened, pytest.raises(ConfigError):
        opened.run(["x"], **options)


def test_D9_environment_is_merged_and_the_folder_passed() -> None:
    wall = ScriptedWall()
    with session(wall=wall, env_vars={"A": "1", "B": "2"}) as opened:
        opened.run(["x"], env={"B": "3"}, working_dir="/tmp", stdin=b"in", timeout=5)
    (request,) = wall.sandbox.requests
    assert dict(request.env) == {"A": "1", "B": "3"}
    assert (request.working_dir, request.stdin, request.timeout_seconds) == ("/tmp", b"in", 5)


def test_leaving_a_stream_early_cancels() -> None:
    def body(running: ScriptedRunning, output: Output) -> Exit:
        while not running.killed.is_set():
            output.write(Stream.STDOUT, b"x")
        return Exit(signal=9)

    with session(body) as opened:
        with opened.stream(["x"]) as execution:
            for _ in execution:
                break
        assert execution.result(5).verdict is Verdict.CANCELLED


def test_exactly_one_form() -> None:
    with session() as opened:
        with pytest.raises(ConfigError, match="exactly one"):
            opened.start()
        with pytest.raises(ConfigError, match="exactly one"):
            opened.start(["a"], shell="b")


def test_close_all_ends_everything_in_parallel() -> None:
    provider = make_provider()
    handles = [provider.create_session("a") for _ in range(20)]
    provider.runtime.close_all()
    assert {handle.status for handle in handles} == {SessionStatus.DESTROYED}
    assert provider.runtime.registry.records() == []
