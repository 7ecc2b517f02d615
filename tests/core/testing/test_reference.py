"""The reference wall as an application's own tests use it: scripted, and nothing executed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import stockade
from conftest import REGISTERED
from stockade.errors import SandboxLostError
from stockade.results import Verdict
from stockade.testing.reference import Answer, answers
from stockade.wall import ExecRequest

NAME = "reference-no-isolation"


def test_scripted_answers() -> None:
    script = {
        ("make", "test"): Answer(exit_code=2, stderr="no rule\n"),
        "pip install *": Answer(stdout="done\n"),
        "print(*)": Answer(stdout=b"\xff"),
        "crash": Answer(signal=11),
        "hog": Answer(out_of_memory=True),
    }
    with answers(script) as asked, stockade.open(NAME, memory_mb=64) as session:
        failed = session.run(["make", "test"])
        assert (failed.exit_code, failed.stderr) == (2, "no rule\n")
        assert session.run(["pip", "install", "a b"]).stdout == "done\n"
        assert session.shell("pip install attrs").stdout == "done\n"
        assert session.code("print(6 * 7)").stdout_bytes == b"\xff"
        assert session.shell("crash").signal_name == "SIGSEGV"
        assert session.shell("hog").verdict is Verdict.OUT_OF_MEMORY
    assert asked[0].argv == ("make", "test") and asked[2].script == "pip install attrs"


def test_what_is_not_scripted_is_not_executed(tmp_path: Path) -> None:
    target = tmp_path / "made"
    with answers({}), stockade.open(NAME) as session:
        result = session.run(["touch", str(target)])
        assert result.exit_code == 127 and "no answer is scripted" in result.stderr
        session.shell(f"touch {target}")
    assert not target.exists()


def test_time_cancel_and_loss() -> None:
    with answers({"slow": Answer(stdout="so far", seconds=30), "die": Answer(lost=True)}):
        with stockade.open(NAME) as session:
            late = session.shell("slow", timeout=0.2)
            assert late.verdict is Verdict.TIMED_OUT and late.stdout == "so far"
            execution = session.start(shell="slow")
            execution.cancel()
            assert execution.result(10).verdict is Verdict.CANCELLED
            with pytest.raises(SandboxLostError):
                session.shell("die")


def test_an_answer_may_look_at_the_request() -> None:
    def count(request: ExecRequest) -> Answer:
        return Answer(stdout=str(len(request.stdin)))

    with answers({"wc *": count}), stockade.open(NAME) as session:
        assert session.shell("wc -c", stdin=b"12345").stdout == "5"


def test_files_are_there_and_the_hosts_are_not(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    with answers({}) as asked, stockade.open(NAME) as session:
        session.files.write("/workspace/data/a.csv", b"1,2\n")
        assert session.files.read("data/a.csv") == b"1,2\n"
        assert [info.name for info in session.files.list("data")] == ["a.csv"]
        for path in (str(secret), f"/workspace/../../..{secret}"):
            with pytest.raises(FileNotFoundError):
                session.files.read(path)
        session.files.write("/etc/stockade-test-file", b"inside")
    assert not asked and not Path("/etc/stockade-test-file").exists()


def test_scripts_nest_and_end() -> None:
    with answers({"a": Answer(stdout="1")}):
        with answers({"a": Answer(stdout="2")}), stockade.open(NAME) as session:
            assert session.shell("a").stdout == "2"
        with stockade.open(NAME) as session:
            assert session.shell("a").stdout == "1"
    with stockade.open(NAME) as session:
        assert session.shell("echo $((6*7))").stdout == "42\n"


def test_D19_a_program_that_reads_nothing_is_ended_all_the_same() -> None:
    ends: list[Exception] = []

    def write() -> None:
        try:
            terminal.write(bytes(1 << 20))
        except stockade.ExecutionEndedError as error:
            ends.append(error)

    with stockade.open(NAME) as session:
        line = "stty raw; echo ready; exec sleep 60"
        terminal = session.terminal(["sh", "-c", line])
        shown = b""
        while b"ready" not in shown:
            shown += terminal.read(timeout=10)
        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        writer.join(0.5)
        assert writer.is_alive(), "nobody takes the rest"
        terminal.close()
        assert terminal.result(5).verdict is Verdict.CANCELLED
        writer.join(5)
        assert len(ends) == 1


def test_nobody_takes_it_for_a_wall() -> None:
    """The name, the listing, doctor and what is logged say so; it never gets in by a list."""
    done = subprocess.run(
        [sys.executable, "-m", "stockade.cli", "doctor", "-p", NAME],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "no-isolation" in NAME
    assert "NO ISOLATION" in done.stdout and "isolation: none" in done.stdout, done.stdout
    with pytest.raises(stockade.UnsupportedError, match="memory"):
        stockade.open(NAME, memory_mb=64)
    with pytest.raises(stockade.ProviderUnavailableError, match="network-off"):
        stockade.open(["stockade-no-such-wall", NAME])


def test_it_needs_no_pytest_and_is_there_where_answers_are() -> None:
    """As an application has it: no distribution registers it."""
    code = """
import sys; sys.modules["pytest"] = None
import stockade
from stockade.testing.reference import Answer, answers

NAME = "reference-no-isolation"
assert NAME not in {found.name for found in stockade.installed_providers()}
with answers({"a": Answer(stdout="1")}), answers({"a": Answer(stdout="2")}):
    with stockade.open(NAME, memory_mb=64) as session:
        assert session.shell("a").stdout == "2"
try:
    stockade.provider(NAME)
except stockade.ProviderNotFoundError:
    pass
else:
    raise AssertionError("it is still there")
"""
    places = os.environ["PYTHONPATH"].split(os.pathsep)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in places if p != REGISTERED)}
    subprocess.run([sys.executable, "-W", "error", "-c", code], env=env, check=True, timeout=60)
