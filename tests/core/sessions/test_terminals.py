"""Policies judge terminals, observers are notified of them, and they end with their session."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import pytest

from core.policies.test_hooks import ExecutionPolicy, Observer, runtime
from core.walls import ScriptedSandbox, ScriptedWall, make_provider
from stockade import (
    ConfigError,
    PolicyRefusedError,
    SandboxLostError,
    SessionStateError,
    SessionStatus,
    UnsupportedError,
    WallError,
)
from stockade.plugin import ExecutionProposal, Refuse, Tighten
from stockade.session import Session
from stockade.wall import Terminal, TerminalRequest


class PipeTerminal(Terminal):
    """What is written to ``shows`` is read; an end of it is the program's."""

    def __init__(self) -> None:
        self._read, self.shows = os.pipe()
        self.typed: list[bytes] = []
        self.closed = 0
        self.ended_once = False

    def read(self) -> bytes:
        return os.read(self._read, 65536)

    def write(self, data: bytes) -> None:
        self.typed.append(data)

    def resize(self, rows: int, columns: int) -> None: ...

    def exit_code(self) -> int:
        return 7

    def end(self) -> None:
        if not self.ended_once:
            self.ended_once = True
            os.close(self.shows)

    def close(self) -> None:
        self.closed += 1
        self.end()


class TerminalSandbox(ScriptedSandbox):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[TerminalRequest] = []
        self.made: list[PipeTerminal] = []
        self.fails: BaseException | None = None

    def terminal(self, request: TerminalRequest) -> Terminal:
        self.asked.append(request)
        if self.fails is not None:
            raise self.fails
        self.made.append(PipeTerminal())
        return self.made[-1]


def opened(*plugins: object, **config: Any) -> tuple[Session, TerminalSandbox]:
    wall = ScriptedWall()
    wall.sandbox = TerminalSandbox()
    provider = make_provider(wall=wall, runtime=runtime(*plugins), **config)
    return Session(provider, provider.open_record("a")), wall.sandbox


def kinds(observer: Observer) -> list[str]:
    return [str(event.kind) for event in observer.events if event.execution_id]


def verdicts(observer: Observer) -> list[str]:
    return [str(event.verdict) for event in observer.events if event.verdict]


def until(condition: Any) -> bool:
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(condition())


def test_a_policy_refuses_a_terminal_before_there_is_one() -> None:
    seen: list[ExecutionProposal] = []

    def judge(proposal: ExecutionProposal) -> Any:
        seen.append(proposal)
        return Refuse("no shells here") if proposal.request.argv[0] == "sh" else None

    observer = Observer()
    session, sandbox = opened(ExecutionPolicy(judge), observer, env_vars={"A": "1"})
    with session:
        with pytest.raises(PolicyRefusedError, match="no shells here"):
            session.terminal()
        assert not sandbox.asked and session.status is SessionStatus.READY
        session.terminal(["top"], env={"B": "2"}).close()
    first, second = seen
    assert first.terminal and first.request.timeout_seconds is None
    assert first.output_limit_bytes is None
    assert second.request.argv == ("top",) and dict(second.request.env) == {"A": "1", "B": "2"}
    assert kinds(observer) == ["execution.refused", "execution.started", "execution.finished"]
    assert {event.form for event in observer.events if event.form} == {"terminal"}


def test_observers_hear_how_it_ended_and_the_session_executes_meanwhile() -> None:
    observer = Observer()
    session, sandbox = opened(observer, idle_seconds=0.3)
    with session:
        terminal = session.terminal(["top"], rows=10, columns=20)
        assert (sandbox.asked[0].rows, sandbox.asked[0].columns) == (10, 20)
        assert session.status is SessionStatus.EXECUTING
        time.sleep(0.6)
        assert session.status is SessionStatus.EXECUTING, "it is not idle while it is used"
        os.write(sandbox.made[0].shows, b"shown")
        assert terminal.read() == b"shown"
        terminal.write(b"typed")
        assert sandbox.made[0].typed == [b"typed"]
        sandbox.made[0].end()
        assert terminal.read() == b"" and terminal.exit_code() == 7
        assert session.status is SessionStatus.READY
        terminal.close()
        terminal.close()
    finished = observer.events[3]
    assert (finished.exit_code, str(finished.verdict), finished.stdout_bytes) == (7, "exited", 5)
    assert kinds(observer) == ["execution.started", "execution.finished"]


def test_a_deadline_of_a_policy_ends_it() -> None:
    observer = Observer()
    policy = ExecutionPolicy(lambda _: Tighten(timeout_seconds=0.3))
    session, sandbox = opened(policy, observer)
    with session:
        terminal = session.terminal()
        began = time.monotonic()
        assert terminal.read() == b"" and time.monotonic() - began < 3
        assert terminal.exit_code() == 137 and until(lambda: sandbox.made[0].closed)
    assert until(lambda: verdicts(observer))
    assert verdicts(observer) == ["timed out"]


def test_an_output_limit_of_a_policy_ends_it() -> None:
    observer = Observer()
    policy = ExecutionPolicy(lambda _: Tighten(output_limit_bytes=10))
    session, sandbox = opened(policy, observer)
    with session:
        terminal = session.terminal()
        os.write(sandbox.made[0].shows, b"0123456")
        assert terminal.read() == b"0123456"
        os.write(sandbox.made[0].shows, b"789abc")
        assert terminal.read() == b"789" and terminal.read() == b""
        assert until(lambda: sandbox.made[0].closed)
    assert until(lambda: verdicts(observer))
    assert verdicts(observer) == ["output limit"]


def test_it_ends_with_its_session() -> None:
    observer = Observer()
    session, sandbox = opened(observer)
    terminal = session.terminal()
    seen: list[bytes] = []
    reader = threading.Thread(target=lambda: seen.append(terminal.read()))
    reader.start()
    session.close()
    reader.join(5)
    assert seen == [b""] and sandbox.made[0].closed
    assert until(lambda: verdicts(observer))
    assert verdicts(observer) == ["cancelled"]
    terminal.close()


@pytest.mark.parametrize(
    ("raised", "expected"),
    [(SandboxLostError("gone"), SandboxLostError), (RuntimeError("bug"), WallError)],
)
def test_one_that_does_not_start_leaves_no_execution(
    raised: BaseException, expected: type[BaseException]
) -> None:
    observer = Observer()
    session, sandbox = opened(observer)
    sandbox.fails = raised
    with session:
        with pytest.raises(expected):
            session.terminal()
        assert not session._record.executions
    assert kinds(observer) == ["execution.started", "execution.failed"]


@pytest.mark.parametrize(
    "options",
    [{"argv": "top"}, {"env": {"A=": "1"}}, {"rows": 0}, {"columns": 1 << 20}, {"rows": True}],
)
def test_what_is_asked_is_checked(options: dict[str, Any]) -> None:
    session, sandbox = opened()
    with session, pytest.raises(ConfigError):
        session.terminal(**options)
    assert not sandbox.asked


def test_where_there_can_be_none() -> None:
    session, sandbox = opened()
    session.pause()
    with pytest.raises(SessionStateError, match="paused"):
        session.terminal()
    session.resume()
    session.provider.wall.capabilities = session.provider.wall.capabilities.with_(
        terminal="unsupported"
    )
    with pytest.raises(UnsupportedError, match="terminal"):
        session.terminal()
    session.close()
    assert not sandbox.asked
