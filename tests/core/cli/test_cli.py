"""The command line, run as a person or a script would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

STOCKADE = [sys.executable, "-m", "stockade.cli"]


def run(*arguments: str, stdin: bytes = b"", **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*STOCKADE, *arguments],
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
        **options,
    )


def test_run_passes_streams_and_the_exit_code(landlock: str) -> None:
    done = run("run", "--", "sh", "-c", "cat; printf 'e\\377' >&2; exit 7", stdin=b"in\0\xff")
    assert (done.stdout, done.stderr, done.returncode) == (b"in\0\xff", b"e\xff", 7)


def test_run_code_and_shell(landlock: str) -> None:
    done = run("run", "-p", landlock, "--code", "print(6*7)", "--language", "python")
    assert done.stdout == b"42\n", done.stderr
    assert run("run", "--code", "-", stdin=b"print('piped')").stdout == b"piped\n"
    assert run("run", "--shell", "echo $((6*7))").stdout == b"42\n"


def test_run_reports_a_verdict_in_one_line(landlock: str) -> None:
    done = run("run", "--timeout", "0.5", "--", "sleep", "9")
    assert done.returncode == 137 and done.stderr.startswith(b"stockade: timed out after 0.")
    assert done.stderr.count(b"\n") == 1
    done = run("run", "--memory", "128", "--code", "x = bytearray(1 << 29)")
    assert b"stockade: out of memory" in done.stderr
    assert b"signalled (SIGTERM)" in run("run", "--shell", "kill $$").stderr


def test_run_json(landlock: str) -> None:
    done = run("run", "-p", landlock, "--json", "--", "printf", "a\\377")
    printed = json.loads(done.stdout)
    assert (
        printed["stdout_base64"] == "Yf8=" and printed["verdict"] == "exited" and printed["success"]
    )
    assert printed["provider"] == "landlock" and printed["stdout_total_bytes"] == 2


def test_run_loses_nothing_of_a_long_output(landlock: str) -> None:
    done = run("run", "--", "sh", "-c", "head -c 30000000 /dev/zero")
    assert len(done.stdout) == 30_000_000 and done.returncode == 0


def test_run_environment(landlock: str) -> None:
    env = {**os.environ, "PASSED": "on", "KEPT": "back"}
    done = run("run", "--env", "PASSED", "--env", "SET=x y", "--", "env", env=env)
    lines = done.stdout.decode().splitlines()
    assert "PASSED=on" in lines and "SET=x y" in lines and "KEPT=back" not in lines


def test_errors_are_one_line_and_125() -> None:
    done = run("run", "-p", "no-such-wall", "--", "true")
    assert done.returncode == 125 and done.stderr.startswith(b"stockade: ")
    assert b"Traceback" not in done.stderr
    assert run("run").returncode == 2
    assert run("run", "--code", "x", "--", "true").returncode == 2


def test_a_silent_open_pipe_is_not_waited_for_for_ever(landlock: str) -> None:
    reader, writer = os.pipe()
    try:
        done = subprocess.run(
            [*STOCKADE, "run", "--", "echo", "hi"],
            stdin=reader,
            capture_output=True,
            timeout=30,
            check=False,
        )
    finally:
        os.close(reader)
        os.close(writer)
    assert done.stdout == b"hi\n" and b"nothing came on standard input" in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupts_clean_up(landlock: str, number: int, code: int) -> None:
    mark = f"41{os.getpid()}{number}"
    process = subprocess.Popen(
        [*STOCKADE, "run", "--shell", f"echo up; sleep {mark} & setsid sleep {mark} & wait"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    process.send_signal(number)
    assert process.wait(20) == code
    process.communicate()
    deadline = time.monotonic() + 5
    while _sleeping(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _sleeping(mark)


def _sleeping(mark: str) -> list[str]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if words.startswith(b"sleep\0" + mark.encode()):
            found.append(pid)
    return found


def test_a_reader_that_goes_away_ends_it(landlock: str) -> None:
    line = f"{' '.join(STOCKADE)} run -- yes | head -n 1"
    done = subprocess.run(["sh", "-c", line], capture_output=True, timeout=30, check=False)
    assert done.stdout == b"y\n" and b"Traceback" not in done.stderr


def test_providers_and_doctor(landlock: str) -> None:
    assert b"stockade-landlock" in run("providers").stdout
    rows = json.loads(run("providers", "--json").stdout)
    assert [row["available"] for row in rows if row["name"] == "landlock"] == [True]
    done = run("doctor", "-p", "landlock")
    assert done.returncode == 0 and b"Landlock: interface version" in done.stdout
    assert run("doctor", "-p", "no-such-wall").returncode == 1


def test_doctor_measures_what_is_claimed(landlock: str) -> None:
    done = run("doctor", "--probe", "--json", "-p", "landlock")
    (report,) = json.loads(done.stdout)["walls"]
    broken = [row for row in report["measured"] if row["broken"]]
    assert not broken and done.returncode == 0, broken
    assert len(report["measured"]) >= 20
    held = [row for row in report["measured"] if row["measured"] == "held"]
    assert len(held) >= 18


def test_the_audit_log(landlock: str, tmp_path: Path) -> None:
    log = str(tmp_path / "audit.jsonl")
    assert run("run", "--audit", log, "--", "true").returncode == 0
    done = run("audit", "verify", log)
    assert done.returncode == 0 and b"6 lines, the chain holds" in done.stdout
    text = Path(log).read_text()
    Path(log).write_text(text.replace('"exit_code":0', '"exit_code":1'))
    done = run("audit", "verify", log)
    assert done.returncode == 1 and b"does not follow" in done.stderr


def test_without_its_extra_it_says_which(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError('no click', name='click')\n")
    done = run("--version", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 2 and b"pip install './core[cli]'" in done.stderr


def test_version_and_help() -> None:
    assert run("--version").stdout.startswith(b"stockade, version ")
    for command in ([], ["run"], ["providers"], ["doctor"], ["audit", "verify"]):
        assert run(*command, "--help").returncode == 0
