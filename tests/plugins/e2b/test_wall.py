"""What the suite does not know of a wall over a service: its limits, its refusals, its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import stockade
from plugins.e2b.conftest import leads_to, need_parts
from plugins.server.serving import Caller, Served, made_key, serving
from stockade.errors import ConfigError, SandboxLostError, SandboxStartError, UnsupportedError
from stockade.results import Verdict

need_parts()
pytestmark = pytest.mark.usefixtures("here")

Until = Callable[[Callable[[], object], float], bool]


def sandboxes(served: Served) -> list[dict[str, Any]]:
    status, found = Caller(served.url, served.key).ask("GET", "/v2/sandboxes")
    assert status == 200
    return list(found)


def doctor() -> str:
    command = [sys.executable, "-m", "stockade.cli", "doctor", "-p", "e2b"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout


def test_a_bare_name_opens_with_the_templates_limits() -> None:
    with stockade.open("e2b", agent_id="a") as session:
        assert session.shell("echo hi").stdout == "hi\n"
        limits = session.limits
    assert (limits.memory_mb, limits.cpu_limit) == (512, 1)
    assert (limits.max_processes, limits.disk_mb) == (256, 256)


def test_doctor_shows_the_templates_figures() -> None:
    assert "base: 512 MiB of memory, 1 cpus, 256 MiB of disk, 256 processes" in doctor()


def test_another_limit_is_refused_and_named() -> None:
    with pytest.raises(UnsupportedError, match="memory_mb=64 needs memory .*the template's"):
        stockade.open("e2b?memory_mb=64", agent_id="a")


def test_a_network_that_the_template_lacks_is_refused_and_nothing_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving("--template", "base=local") as offline:
        leads_to(offline, monkeypatch)
        with pytest.raises(SandboxStartError, match="gives base no network") as error:
            stockade.open("e2b?network_enabled=true", agent_id="a")
        assert not error.value.retryable
        assert not sandboxes(offline)
        with stockade.open("e2b", agent_id="a") as session:
            assert session.shell("echo hi").stdout == "hi\n"


def test_an_unknown_template_says_which_there_are() -> None:
    with pytest.raises(SandboxStartError, match="no template 'other'; there are: base") as error:
        stockade.open("e2b:other", agent_id="a")
    assert not error.value.retryable


def test_a_working_folder_that_is_none_is_named(here: Served) -> None:
    with pytest.raises(ConfigError, match="'/nowhere' is no folder of base"):
        stockade.open("e2b?working_dir=/nowhere", agent_id="a")
    assert not sandboxes(here)  # (C5)


def test_a_key_that_the_service_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2B_API_KEY", "e2b_wrong")
    assert "no such API key" in doctor()


def test_what_is_written_in_is_bytes_whatever_they_are() -> None:
    every = bytes(range(256)) * 4096
    with stockade.open("e2b", agent_id="a") as session:
        assert session.run(["cat"], stdin=every).stdout_bytes == every


def test_a_supervisor_that_came_in_changed_is_not_started(
    here: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    import stockade_supervisor

    content = stockade_supervisor.content
    monkeypatch.setattr(stockade_supervisor, "content", lambda machine: content(machine) + b"x")
    with pytest.raises(SandboxStartError, match="is not what was sent") as error:
        stockade.open("e2b", agent_id="a")
    assert not error.value.retryable and not sandboxes(here)


def test_nothing_of_the_way_in_stays(here: Served) -> None:
    with stockade.open("e2b", agent_id="a") as session:
        assert session.shell("ls -A /tmp /workspace").stdout == "/tmp:\n\n/workspace:\n"
        said = session.shell("env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'").stdout
        assert here.key not in said and "E2B" not in said


def test_it_pauses_and_goes_on() -> None:
    with stockade.open("e2b", agent_id="a") as session:
        session.shell("(for i in 1 2 3 4 5 6 7 8 9; do date >>ticks; sleep 0.1; done) &")
        session.pause()
        session.resume()
        assert session.shell("echo on").stdout == "on\n"


def test_a_sandbox_that_the_service_ends_is_lost_at_once(here: Served) -> None:
    with stockade.open("e2b", agent_id="a") as session:
        (found,) = sandboxes(here)
        execution = session.stream(shell="echo begun; sleep 60")
        execution.take()
        Caller(here.url, here.key).ask("DELETE", f"/sandboxes/{found['sandboxID']}")
        with pytest.raises(SandboxLostError, match="the service has ended it"):
            execution.result(10)


_OWNER = """
import stockade, sys, time
session = stockade.open("e2b?timeout=3", agent_id="a")
print("open", flush=True)
time.sleep(60)
"""


def test_a_sandbox_outlasts_its_process_by_its_timeout_and_no_more(
    here: Served, until: Until
) -> None:
    """Nobody collects here: the service ends it."""
    with subprocess.Popen([sys.executable, "-c", _OWNER], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"open\n"
        assert not until(lambda: not sandboxes(here), 6)  # it is put off while its owner lives
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    assert until(lambda: not sandboxes(here), 8)


@pytest.fixture
def narrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A server that gives its key one sandbox at a time."""
    file = tmp_path / "stockade.toml"
    key = made_key(file, "one")
    table = '[serve]\nmax_sandboxes = 1\n[serve.templates.base]\nprovider = "local?memory_mb=128"\n'
    file.write_text(file.read_text() + table)
    with serving("--config", str(file), key=key) as found:
        leads_to(found, monkeypatch)
        yield found


def test_a_limit_of_the_services_is_worth_another_try_and_bounded(narrow: Served) -> None:
    with stockade.open("e2b", agent_id="a"):
        with pytest.raises(SandboxStartError, match="which is its limit") as error:
            stockade.open("e2b", agent_id="a")
        assert error.value.retryable
    with stockade.open("e2b", agent_id="a") as session:
        assert session.shell("true").success


def test_a_program_past_the_templates_memory_is_out_of_memory(narrow: Served) -> None:
    """Though the limit is the server's, and not asked for here."""
    code = "x = bytearray(400 << 20)\nfor at in range(0, len(x), 4096): x[at] = 1"
    with stockade.open("e2b", agent_id="a") as session:
        if not session.shell("command -v python3").success:
            pytest.skip("no Python in this sandbox")
        assert session.code(code).verdict is Verdict.OUT_OF_MEMORY
        assert session.shell("echo on").stdout == "on\n"


def test_a_service_that_is_gone_is_unavailable_and_says_so(narrow: Served) -> None:
    session = stockade.open("e2b", agent_id="a")
    narrow.process.send_signal(signal.SIGTERM)
    narrow.process.wait(60)
    with pytest.raises(SandboxLostError):
        session.shell("true", timeout=20)
    said = doctor()
    assert "not available" in said and narrow.url in said


def test_an_execution_is_one_call_and_ten_at_once_are_fewer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with stockade.open("e2b", agent_id="a") as session:
        session.shell("true")
        commands = session._record.sandbox.box.commands  # type: ignore[union-attr]
        send, calls = commands.send_stdin, []

        def counted(pid: int, data: bytes, **options: Any) -> None:
            calls.append(len(data))
            time.sleep(0.05)  # as a service does that is far away
            send(pid, data, **options)

        monkeypatch.setattr(commands, "send_stdin", counted)
        for _ in range(10):
            assert session.shell("echo x").stdout == "x\n"
        assert len(calls) == 10, calls
        calls.clear()
        running = [session.start(shell="echo x") for _ in range(10)]
        assert all(one.result().success for one in running)
        assert len(calls) < 10, calls


def test_many_executions_at_once_keep_their_output_apart() -> None:
    seen: dict[int, str] = {}
    with stockade.open("e2b", agent_id="a") as session:

        def run(number: int) -> None:
            seen[number] = session.shell(f"sleep 0.1; echo {number}").stdout

        threads = [threading.Thread(target=run, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert seen == {number: f"{number}\n" for number in range(20)}


def test_the_clients_environment_leads_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the SDK reads by itself at each call may have changed by then."""
    with stockade.open("e2b", agent_id="a") as session:
        for name in ("E2B_API_URL", "E2B_SANDBOX_URL"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        assert session.shell("true").success
        assert os.environ["E2B_API_URL"].endswith(":9")
