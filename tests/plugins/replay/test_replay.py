"""Recordings: made around any wall, and answered from in the place of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

import stockade
from stockade import (
    ProviderUnavailableError,
    SandboxLostError,
    SandboxResult,
    SessionStatus,
    Stream,
    UnsupportedError,
    Verdict,
    WorkingDirectoryError,
)
from stockade.session import Session
from stockade.sessions._providers import WallProvider
from stockade.testing.reference import Answer, answers
from stockade_replay import NotRecordedError, Recording, RecordingError, record

WALL = "reference-no-isolation"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "calls.jsonl"


def recorded(file: Path, script: dict[object, Answer], *commands: str) -> list[SandboxResult]:
    """Have the scripted wall answer these shell lines, and record that."""
    with answers(script), record(file), stockade.open(WALL) as session:
        return [session.shell(command) for command in commands]


# -- the same requests ---------------------------------------------------------


def test_the_same_requests_get_the_same_results(file: Path) -> None:
    script: dict[object, Answer] = {
        "make": Answer(stdout="made\n", stderr="slowly\n"),
        "bytes": Answer(stdout=b"\xff\x00\r\n", exit_code=7),
        "kill": Answer(signal=15),
        "eat": Answer(out_of_memory=True),
    }
    before = recorded(file, script, *script)  # type: ignore[arg-type]
    assert [r.verdict for r in before] == [
        Verdict.EXITED,
        Verdict.EXITED,
        Verdict.SIGNALLED,
        Verdict.OUT_OF_MEMORY,
    ]
    with stockade.open(f"replay:{file}") as session:
        # In another order, and with the times as they were.
        after = [session.shell(command) for command in reversed(list(script))]  # type: ignore[arg-type]
    assert after == before[::-1]


def test_a_deadline_that_passed_then_has_passed_now_and_takes_no_time(file: Path) -> None:
    with answers({"sleep": Answer(stdout="begun", seconds=60)}), record(file):
        with stockade.open(WALL, timeout_seconds=0.2) as session:
            before = session.shell("sleep")
    assert before.verdict is Verdict.TIMED_OUT
    # Were it executed, this would take the hour.
    with stockade.open(f"replay:{file}", timeout_seconds=3600) as session:
        assert session.shell("sleep") == before


def test_answers_come_in_their_order_and_end(file: Path) -> None:
    counted = iter(range(3))
    with answers({"next": lambda _: Answer(stdout=str(next(counted)))}), record(file):
        with stockade.open(WALL) as session:
            for _ in range(3):
                session.shell("next")
    for _ in range(2):  # each session begins with the first
        with stockade.open(f"replay:{file}") as session:
            assert [session.shell("next").stdout for _ in range(3)] == ["0", "1", "2"]
            with pytest.raises(NotRecordedError, match=r"3 answers.*'next'.*repeat=true"):
                session.shell("next")
            assert session.status is SessionStatus.READY
    with stockade.open(f"replay:{file}?repeat=true") as session:
        assert [session.shell("next").stdout for _ in range(5)] == ["0", "1", "2", "2", "2"]


def test_one_session_of_several(file: Path) -> None:
    with record(file):
        for word in ("first", "second"):
            with answers({"say": Answer(stdout=word)}), stockade.open(WALL) as session:
                session.shell("say")
    with stockade.open(f"replay:{file}?session=2") as session:
        assert session.shell("say").stdout == "second"
    with pytest.raises(ProviderUnavailableError, match="no session 3"):
        stockade.provider(f"replay:{file}?session=3", check_available=True)


@pytest.mark.parametrize(
    ("differs", "changed"),
    [
        ("stdin", {"stdin": b"other"}),
        ("env", {"env": {"A": "2"}}),
        ("env", {"env": {"B": "1"}}),
        ("working_dir", {"working_dir": "sub"}),
    ],
)
def test_any_other_request_is_refused_and_says_what_differs(
    file: Path, differs: str, changed: dict[str, object]
) -> None:
    same: dict[str, object] = {"stdin": b"in", "env": {"A": "1"}, "working_dir": "."}
    with answers({"cat": Answer(stdout="in")}), record(file), stockade.open(WALL) as session:
        session.run(["cat"], **same)  # type: ignore[arg-type]
    with stockade.open(f"replay:{file}") as session:
        with pytest.raises(NotRecordedError, match=rf"\['cat'\] with this {differs};"):
            session.run(["cat"], **{**same, **changed})  # type: ignore[arg-type]
        with pytest.raises(LookupError, match=r"no answer to argv \['dog'\]"):
            session.run(["dog"], **same)  # type: ignore[arg-type]
        with pytest.raises(NotRecordedError, match="no answer to shell 'cat'"):
            session.shell("cat", **same)  # type: ignore[arg-type]
        # A deadline is no part of the request, and what was refused has used nothing up.
        assert session.run(["cat"], timeout=5, **same).stdout == "in"  # type: ignore[arg-type]


def test_code_has_its_language_and_the_named_interpreter(file: Path) -> None:
    with answers({"x = 1": Answer(stdout="set")}), record(file), stockade.open(WALL) as session:
        session.code("x = 1", language="python", state="one")
    with stockade.open(f"replay:{file}") as session:
        with pytest.raises(NotRecordedError, match="with this state"):
            session.code("x = 1", language="python", state="two")
        with pytest.raises(NotRecordedError, match="with this state"):
            session.code("x = 1", language="python")
        assert session.code("x = 1", language="python", state="one").stdout == "set"
        with pytest.raises(stockade.LanguageError):
            session.code("x = 1", language="ruby")


def test_errors_come_again(file: Path) -> None:
    with answers({"die": Answer(stdout="so far", lost=True)}), record(file):
        with stockade.open(WALL) as session, pytest.raises(SandboxLostError) as then:
            session.shell("die")
    for _ in range(2):
        with stockade.open(f"replay:{file}") as session:
            with pytest.raises(SandboxLostError) as now:
                session.shell("die")
            assert str(now.value) == str(then.value)
            assert session.status is SessionStatus.FAILED


def test_a_wrong_working_folder_is_that_error_again(file: Path, landlock: str) -> None:
    with record(file), stockade.open(landlock) as session:
        with pytest.raises(WorkingDirectoryError) as then:
            session.run(["true"], working_dir="/nowhere")
    with stockade.open(f"replay:{file}") as session:
        with pytest.raises(WorkingDirectoryError) as now:
            session.run(["true"], working_dir="/nowhere")
        assert now.value == then.value
        assert session.status is SessionStatus.READY


def test_live_output_is_there_and_bounds_hold(file: Path) -> None:
    recorded(file, {"much": Answer(stdout="x" * 100)}, "much")
    with stockade.open(f"replay:{file}?repeat=true") as session:
        with session.stream(shell="much") as execution:
            shown = b"".join(c.data for c in execution if c.stream is Stream.STDOUT)
            assert shown == b"x" * 100 == execution.result().stdout_bytes
        short = session.shell("much", output_limit_bytes=10)
        assert short.stdout == "x" * 10 and short.stdout_truncated
        assert short.stdout_total_bytes == 100


def test_below_another_wall_it_answers_piece_by_piece(file: Path) -> None:
    """The hook answers for sessions of ``replay`` alone; behind others the sandbox does."""
    script: dict[object, Answer] = {
        "fine": Answer(stdout="out", stderr="err", exit_code=3),
        "eat": Answer(out_of_memory=True),
    }
    before = recorded(file, script, *script)  # type: ignore[arg-type]
    replay = stockade.provider(f"replay:{file}").wall
    runtime = stockade.Runtime(discover_plugins=False)
    provider = WallProvider("other", replay, stockade.SandboxConfig(), runtime)
    with Session(provider, provider.open_record("agent")) as session:
        after = [session.shell(command) for command in script]  # type: ignore[arg-type]
    assert [attrs.evolve(r, duration_seconds=0.0) for r in after] == [
        attrs.evolve(r, duration_seconds=0.0) for r in before
    ]


# -- the file ------------------------------------------------------------------


def test_no_secret_of_input_or_environment_is_in_the_file(file: Path) -> None:
    with answers({"login": Answer()}), record(file), stockade.open(WALL) as session:
        session.shell("login", stdin=b"hunter2", env={"TOKEN": "swordfish"})
    text = file.read_text()
    assert "hunter2" not in text and "swordfish" not in text and "TOKEN" in text
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_recording_begins_anew_and_nothing_else_is_written_over(file: Path) -> None:
    for word in ("one", "two"):
        recorded(file, {"say": Answer(stdout=word)}, "say")
    assert len(Recording.read(file).entries) == 1
    file.write_text("a letter\n")
    with pytest.raises(RecordingError, match="is no recording"):
        with record(file):
            pass
    assert file.read_text() == "a letter\n"
    with pytest.raises(RecordingError, match="cannot be written"):
        with record(file.parent / "no such folder" / "file"):
            pass


def test_what_is_recorded_is_there_before_the_caller_has_the_result(file: Path) -> None:
    with answers({"say": Answer(stdout="x")}), record(file), stockade.open(WALL) as session:
        session.shell("say")
        assert len(Recording.read(file).entries) == 1
    with answers({"say": Answer()}), stockade.open(WALL) as session:
        session.shell("say")  # the block has ended: no more is recorded
    assert len(Recording.read(file).entries) == 1


def test_a_write_that_fails_lets_the_execution_fail(file: Path) -> None:
    with answers({"say": Answer()}), record(file) as recorder, stockade.open(WALL) as session:
        recorder.close()
        with pytest.raises(RecordingError, match="cannot be written"):
            session.shell("say")


def _line(file: Path, number: int, change: str) -> None:
    lines = file.read_text().splitlines()
    lines[number - 1] = change
    file.write_text("\n".join(lines) + "\n")


def test_a_file_that_is_wrong_says_where(file: Path) -> None:
    recorded(file, {"a": Answer(), "b": Answer()}, "a", "b")
    good = json.loads(file.read_text().splitlines()[2])
    wrong: list[object] = [
        {**good, "session": "1"},
        {**good, "result": {**good["result"], "verdict": "well"}},
        {**good, "request": []},
        {"session": 1, "request": good["request"]},
        {**good, "result": {**good["result"], "surprise": 1}},
        7,
    ]
    for one in wrong:
        _line(file, 3, json.dumps(one))
        with pytest.raises(RecordingError, match="line 3, is no recorded execution"):
            Recording.read(file)
    head = json.loads(file.read_text().splitlines()[0])
    _line(file, 1, json.dumps({**head, "stockade_recording": 2}))
    with pytest.raises(RecordingError, match="format 2"):
        Recording.read(file)


def test_a_file_names_no_errors_but_stockades_own(file: Path) -> None:
    recorded(file, {"a": Answer()}, "a")
    line = json.loads(file.read_text().splitlines()[1])
    del line["result"]
    line["error"] = {"type": "attrs", "message": "m", "fields": {}}
    _line(file, 2, json.dumps(line))
    (entry,) = Recording.read(file).entries
    assert type(entry.end) is stockade.StockadeError


# -- the provider --------------------------------------------------------------


@pytest.mark.parametrize(
    ("string", "why"),
    [("replay", "write replay:FILE"), ("replay:/nowhere/x", "cannot be read")],
)
def test_without_a_recording_it_is_not_available(string: str, why: str) -> None:
    with pytest.raises(ProviderUnavailableError, match=why):
        stockade.provider(string, check_available=True)


def test_what_no_recording_has_is_refused(file: Path) -> None:
    recorded(file, {"a": Answer()}, "a")
    with stockade.open(f"replay:{file}?memory_mb=64&network_enabled=true") as session:
        with pytest.raises(UnsupportedError, match="replay does not support files"):
            session.files.read("x")
    with pytest.raises(UnsupportedError, match="ports"):
        stockade.open(f"replay:{file}?ports=80&network_enabled=true")


# -- the command line ----------------------------------------------------------


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stockade.cli", "run", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_line_records_and_replays(tmp_path: Path) -> None:
    line = ["--", "sh", "-c", "echo out; echo err >&2; exit 3"]
    first = run(tmp_path, "-p", WALL, "--record", "calls", *line)
    assert (first.returncode, first.stdout) == (3, "out\n"), first.stderr
    again = run(tmp_path, "-p", "replay:calls", *line)
    assert (again.returncode, again.stdout) == (3, "out\n") and "err\n" in again.stderr
    other = run(tmp_path, "-p", "replay:calls", "--", "true")
    assert other.returncode == 125 and "no answer to argv ['true']" in other.stderr


def test_the_command_line_says_what_it_cannot_record(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("dear")
    done = run(tmp_path, "-p", WALL, "--record", "letter", "--", "true")
    assert done.returncode == 1 and "is no recording" in done.stderr
    assert (tmp_path / "letter").read_text() == "dear"
    much = "head -c 2000000 /dev/zero"
    done = run(tmp_path, "-p", WALL, "--record", "calls", "--shell", much)
    assert len(done.stdout) == 2_000_000
    assert "calls holds the output up to its limit, not all of it" in done.stderr
    blocked = run(tmp_path, "--record", "x", "--", "true", STOCKADE_DISABLED_PLUGINS="record")
    assert blocked.returncode == 2 and "--record" in blocked.stderr
