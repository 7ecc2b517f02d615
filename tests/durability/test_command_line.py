"""`stockade session`, `gc` and `top`: sessions from one command to the next."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from conftest import need

WALL = "docker:stockade-test/busybox"


@attrs.define
class Shell:
    """A user with a ledger of their own."""

    folder: Path

    def __call__(self, *args: str, code: int = 0, stdin: str | None = None) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "stockade.cli", *args],
            env=self.env,
            text=True,
            input=stdin,
            capture_output=True,
            check=False,
            timeout=100,
            cwd=self.folder,
        )
        assert done.returncode == code, f"{args}: {done.returncode}: {done.stdout}{done.stderr}"
        self.errors = done.stderr
        return done.stdout.strip()

    errors: str = ""

    @property
    def env(self) -> dict[str, str]:
        ledger = str(self.folder / "ledger.sqlite")
        return {**os.environ, "STOCKADE_LEDGER": ledger, "STOCKADE_GC": "off"}


@pytest.fixture
def sh(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    for entry in json.loads(shell("session", "list", "--json")):
        shell("gc", "--force", entry["session_id"])


@pytest.mark.timeout(240)
def test_a_sessions_whole_life(sh: Shell, tmp_path: Path) -> None:
    need("docker")
    session = sh("session", "create", "-p", WALL, "--agent", "me", "--lifetime", "600")
    assert re.fullmatch(r"ses-[0-9a-f]{40}", session)
    short = session[:12]

    (entry,) = json.loads(sh("session", "list", "--json"))
    assert entry["session_id"] == session and entry["state"] == "ready" and entry["durable"]
    assert entry["owner"] == "-" and entry["users"] == 0
    assert session[:16] in sh("session", "list")
    assert "state:         ready" in sh("session", "show", short)

    assert sh("session", "exec", "--agent", "me", short, "--", "echo", "hi") == "hi"
    assert sh("session", "exec", "--agent", "me", short, "--", "wc", "-c", stdin="12345") == "5"
    sh("session", "exec", "--agent", "me", short, "--shell", "exit 7", code=7)
    sh("session", "exec", "--agent", "me", "--timeout", "0.5", short, "--", "sleep", "60", code=137)
    assert "timed out" in sh.errors
    background = "(while :; do echo >>/workspace/ticks; sleep 0.1; done) >/dev/null 2>&1 &"
    sh("session", "exec", "--agent", "me", short, "--shell", background)

    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_bytes(b"\0\1\2")
    sh("session", "cp", "--agent", "me", "data", f"{short}:/workspace/data")
    sh("session", "cp", "--agent", "me", f"{short}:/workspace/data/file", "back")
    assert (tmp_path / "back").read_bytes() == b"\0\1\2"

    for command in ("pause", "resume"):
        sh("session", command, "--agent", "me", short)
        (entry,) = json.loads(sh("session", "list", "--json"))
        assert entry["state"] == {"pause": "paused", "resume": "ready"}[command]

    sh("session", "snapshot", "--agent", "me", short, "saved")
    copy = json.loads(sh("session", "create", "-p", WALL, "--snapshot", "saved", "--json"))
    wc = sh("session", "exec", copy["session_id"], "--", "wc", "-c", "/workspace/data/file")
    assert wc.split()[0] == "3"
    first = sh("session", "exec", "--agent", "me", short, "--", "wc", "-l", "/workspace/ticks")
    assert int(first.split()[0]) > 1  # it lived on, from command to command

    logged = json.loads(sh("session", "logs", "--json", short))
    assert [e["verdict"] for e in logged[:4]] == ["exited", "exited", "exited", "timed out"]
    assert logged[2]["exit_code"] == 7 and "echo" not in json.dumps(logged)
    assert "timed out" in sh("session", "logs", short)

    rows = json.loads(sh("top", "--once", "--json"))
    assert {row["session_id"] for row in rows} == {session, copy["session_id"]}
    assert all(row["processes"] >= 1 and row["cpu_seconds"] is not None for row in rows)
    assert session[:16] in sh("top", "--once")

    sh("session", "destroy", "--agent", "me", short)
    sh("session", "destroy", copy["session_id"])
    assert sh("session", "list") == "no session"


def test_F4_what_cannot_be_copied_is_named_and_shown_escaped(sh: Shell, tmp_path: Path) -> None:
    need("docker")
    session = sh("session", "create", "-p", WALL)
    fifo = "mkdir d; echo kept > d/file; mkfifo \"d/$(printf 'p\\033[31m')\""
    sh("session", "exec", session, "--shell", fifo)
    sh("session", "cp", f"{session}:/workspace/d", "back", code=1)
    assert r"not copied: 'p\x1b[31m': it is a FIFO" in sh.errors and "\x1b" not in sh.errors
    assert (tmp_path / "back" / "file").read_text() == "kept\n"
    sh("session", "cp", f"{session}:/workspace/d/file", "file")
    assert (tmp_path / "file").read_text() == "kept\n"
    sh("session", "cp", f"{session}:/workspace/none", "none", code=125)
    assert "No such file" in sh.errors and not (tmp_path / "none").exists()
    sh("session", "snapshot", session, "saved")
    assert "not kept: " in sh.errors


def test_C3_another_agents_and_an_unknown_session_get_one_error(sh: Shell) -> None:
    need("docker")
    session = sh("session", "create", "-p", WALL, "--agent", "me")
    sh("session", "exec", session, "--", "true", code=125)
    other = sh.errors.replace(session, "ID")
    sh("session", "exec", "ses-none", "--", "true", code=125)
    assert sh.errors.replace("ses-none", "ID") == other
    sh("session", "destroy", session, code=125)
    assert json.loads(sh("session", "list", "--json"))


def test_walls_that_end_with_their_process_say_so(sh: Shell) -> None:
    need("landlock")
    sh("session", "create", "-p", "landlock", code=125)
    assert "ends with the process" in sh.errors
    sh("session", "create", "-p", "nonsense", code=125)
    sh("session", "logs", "ses-none", code=125)
    sh("session", "cp", "a", "b", code=2)
    sh("session", "exec", "ses-1", code=2)


_OWNER = "import stockade, time; stockade.open('landlock'); print('up', flush=True); time.sleep(99)"


def test_living_sessions_of_other_processes_are_shown_and_left_alone(sh: Shell) -> None:
    need("landlock")
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER], env=sh.env, stdout=subprocess.PIPE, text=True
    )
    try:
        assert owner.stdout is not None and owner.stdout.readline() == "up\n"
        (row,) = json.loads(sh("top", "--once", "--json"))
        assert row["owner"] == f"pid {owner.pid}" and row["memory_bytes"] > 0
        done = json.loads(sh("gc", "--json"))
        assert row["session_id"] not in [entry[0] for entry in done["removed"]]
        sh("session", "exec", row["session_id"], "--", "true", code=125)
        assert "durable=True" in sh.errors
    finally:
        owner.kill()
        owner.communicate()
    sh("gc")
    assert sh("session", "list") == "no session"


def test_gc_watches_until_it_is_stopped(sh: Shell) -> None:
    watching = subprocess.Popen(
        [sys.executable, "-m", "stockade.cli", "gc", "--watch", "0.2", "--json"],
        env=sh.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    for _ in range(2):
        assert set(json.loads(watching.stdout.readline())) >= {"removed", "failed", "kept"}
    began = time.monotonic()
    watching.send_signal(signal.SIGTERM)
    watching.communicate(timeout=60)
    assert watching.returncode == 0 and time.monotonic() - began < 50


def test_a_bad_ledger_is_said_in_one_line(sh: Shell) -> None:
    (sh.folder / "ledger.sqlite").write_text("nonsense " * 50)
    sh("session", "list", code=125)
    assert "no ledger of stockade's" in sh.errors and "Traceback" not in sh.errors
    sh("gc", code=1)
    assert "ledger was not looked at" in sh.errors
    sh("gc", "--watch", "0", code=2)
    (sh.folder / "ledger.sqlite").unlink()


def test_a_forced_session_that_is_not_there_is_reported(sh: Shell) -> None:
    sh("gc", "--force", "ses-none", code=1)
    assert "no session ses-none" in sh.errors
