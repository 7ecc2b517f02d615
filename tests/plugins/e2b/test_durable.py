"""Durable sessions at a service: held, paused and found again (C10)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import stockade
from plugins.e2b.conftest import need_parts
from plugins.server.serving import Caller, Served
from stockade.errors import SandboxLostError, SessionStateError
from stockade.ledger._sqlite import SqliteLedger
from stockade.sessions._runtime import Runtime

need_parts()

Until = Callable[[Callable[[], object], float], bool]


@pytest.fixture
def ledger(tmp_path: Path) -> SqliteLedger:
    return SqliteLedger(tmp_path / "ledger.sqlite")


@pytest.fixture
def runtime(here: Served, ledger: SqliteLedger) -> Iterator[Runtime]:
    runtime = Runtime(discover_plugins=False, ledger=ledger)
    yield runtime
    for record in ledger.sessions():
        stockade.collect(runtime=runtime, force=[record.session_id])
    runtime.close_all()


@pytest.fixture
def other(ledger: SqliteLedger) -> Iterator[Runtime]:
    """As another process has it."""
    runtime = Runtime(discover_plugins=False, ledger=ledger)
    yield runtime
    runtime.close_all()


def ids(served: Served) -> list[str]:
    _, found = Caller(served.url, served.key).ask("GET", "/v2/sandboxes")
    return [one["sandboxID"] for one in found]


def test_a_paused_one_is_held_resumed_and_destroyed(here: Served, runtime: Runtime) -> None:
    session = stockade.open("e2b?durable=true", agent_id="a", runtime=runtime)
    session.shell("echo kept >mark")
    session.pause()
    session.detach()
    again = stockade.attach(session.session_id, agent_id="a", runtime=runtime)
    assert again.paused and ids(here)
    with pytest.raises(SessionStateError, match="paused"):
        again.shell("true")
    again.resume()
    assert again.shell("cat mark").stdout == "kept\n"
    again.pause()
    again.close()
    assert not ids(here)


def test_two_hold_one_at_the_same_time(runtime: Runtime, other: Runtime) -> None:
    with stockade.open("e2b?durable=true", agent_id="a", runtime=runtime) as first:
        second = stockade.attach(first.session_id, agent_id="a", runtime=other)
        running = first.start(shell="sleep 1; cat mark")
        assert second.shell("echo of the second >mark").success
        assert running.result().stdout == "of the second\n"
        second.detach()
        assert first.shell("echo on").stdout == "on\n"


def test_who_lets_go_leaves_no_supervisor(runtime: Runtime, other: Runtime, until: Until) -> None:
    with stockade.open("e2b?durable=true", agent_id="a", runtime=runtime) as first:

        def supervisors() -> int:
            line = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '"
            return first.shell(line).stdout.count("/proc/self/fd/3 serve")

        before = supervisors()
        second = stockade.attach(first.session_id, agent_id="a", runtime=other)
        second.shell("true")
        assert supervisors() > before > 0
        second.detach()
        assert until(lambda: supervisors() == before, 5)


def test_without_a_lifetime_it_lasts_its_timeout_after_the_last_who_held_it(
    here: Served, runtime: Runtime, until: Until
) -> None:
    string = "e2b?durable=true&lifetime_seconds=none&timeout=3"
    session = stockade.open(string, agent_id="a", runtime=runtime)
    assert not until(lambda: not ids(here), 5)
    session.detach()
    assert until(lambda: not ids(here), 8)
    with pytest.raises((SandboxLostError, LookupError)):
        stockade.attach(session.session_id, agent_id="a", runtime=runtime)
