"""The audit log and its chain."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from core.walls import make_provider
from stockade import AuditError
from stockade.policies.audit import GENESIS, AuditLog, verify
from stockade.session import Session
from stockade.sessions._runtime import Runtime


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "audit.jsonl"
    audit = AuditLog(path)
    for number in range(5):
        audit.append({"kind": "test", "number": number})
    return path


def test_every_line_carries_the_hash_of_the_one_before(log: Path) -> None:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines[0]["previous"] == GENESIS and len({line["previous"] for line in lines}) == 5
    checked = verify(log)
    assert checked.lines == 5 and verify(log, head=checked.head) == checked
    assert log.stat().st_mode & 0o077 == 0


def test_an_empty_log_verifies(tmp_path: Path) -> None:
    AuditLog(tmp_path / "new")
    assert verify(tmp_path / "new").lines == 0


@pytest.mark.parametrize("damage", ["change", "remove", "reorder", "insert", "cut a line"])
def test_damage_is_found(log: Path, damage: str) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    if damage == "change":
        lines[2] = lines[2].replace(b'"number":2', b'"number":7')
    elif damage == "remove":
        del lines[2]
    elif damage == "reorder":
        lines[2], lines[3] = lines[3], lines[2]
    elif damage == "insert":
        lines.insert(2, lines[1])
    else:
        lines[-1] = lines[-1][:-5]
    log.write_bytes(b"".join(lines))
    with pytest.raises(AuditError, match="line"):
        verify(log)


def test_cut_off_lines_are_found_with_the_head(log: Path) -> None:
    head = verify(log).head
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-1]))
    assert verify(log).lines == 4
    with pytest.raises(AuditError, match="cut off"):
        verify(log, head=head)


def test_a_foreign_file_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary\n")
    with pytest.raises(AuditError, match="Move it away"):
        AuditLog(path)
    assert path.read_text() == "dear diary\n"


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="cannot be opened"):
        AuditLog(tmp_path / "missing" / "audit")
    with pytest.raises(AuditError):
        verify(tmp_path / "missing")


_APPEND = """
import sys
from stockade.policies.audit import AuditLog
audit = AuditLog(sys.argv[1])
for number in range(50):
    audit.append({"number": number, "padding": "x" * 500})
"""


def test_many_processes_make_one_chain(tmp_path: Path) -> None:
    path = str(tmp_path / "audit")
    processes = [subprocess.Popen([sys.executable, "-c", _APPEND, path]) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0, 0, 0, 0]
    assert verify(path).lines == 200


def test_it_observes_a_runtime(tmp_path: Path) -> None:
    runtime = Runtime(discover_plugins=False)
    runtime.hooks.add(AuditLog(tmp_path / "audit"))
    provider = make_provider(runtime=runtime, env_vars={"TOKEN": "hunter2"})
    with Session(provider, provider.open_record("agent-7")) as session:
        session.run(["x"])
    text = (tmp_path / "audit").read_text()
    assert verify(tmp_path / "audit").lines == 6 and "hunter2" not in text
    entry = json.loads(text.splitlines()[3])
    assert entry["kind"] == "execution.finished" and entry["agent_id"] == "agent-7"
    assert entry["verdict"] == "exited" and entry["time"].endswith("+00:00")
