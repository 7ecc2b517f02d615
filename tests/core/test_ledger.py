"""The ledger: what it keeps, what it never keeps, and what it does with a bad file (C9)."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from core.walls import ScriptedSandbox, ScriptedWall, make_provider
from stockade import LedgerError, SandboxConfig, SessionStatus
from stockade.ids import agent_hash
from stockade.ledger import SqliteLedger, default_ledger, default_ledger_path
from stockade.owner import Owner
from stockade.registry import SessionRecord
from stockade.runtime import Runtime
from stockade.wall import OpenRequest


def _record(session_id: str = "ses-1", **config: Any) -> SessionRecord:
    record = SessionRecord(session_id, "agent", "wall", None, SandboxConfig(**config), "wall")
    record.expires_at = record.created_at + 60
    return record


@pytest.fixture
def ledger(tmp_path: Path) -> SqliteLedger:
    return SqliteLedger(tmp_path / "state" / "ledger.sqlite", timeout_seconds=0.3)


def test_C9_the_intent_is_written_before_the_sandbox_is_made(ledger: SqliteLedger) -> None:
    seen: list[list[str]] = []

    def on_open(request: OpenRequest) -> ScriptedSandbox:
        seen.append([r.state for r in SqliteLedger(ledger.path).sessions()])
        assert request.owner == str(Owner.current())
        return ScriptedSandbox()

    wall = ScriptedWall()
    wall.on_open = on_open
    runtime = Runtime(discover_plugins=False, ledger=ledger)
    record = make_provider(wall=wall, runtime=runtime).open_record("agent")
    assert seen == [["provisioning"]]
    (kept,) = ledger.sessions()
    assert kept.session_id == record.session_id and kept.agent == agent_hash("agent")
    assert kept.owner == str(Owner.current()) and not kept.durable
    runtime.destroy(record)
    assert ledger.sessions() == []


def test_C5_a_failed_opening_leaves_no_record(ledger: SqliteLedger) -> None:
    def fail(_: OpenRequest) -> None:
        raise RuntimeError("no")

    wall = ScriptedWall()
    wall.on_open = fail
    runtime = Runtime(discover_plugins=False, ledger=ledger)
    with pytest.raises(Exception, match="no"):
        make_provider(wall=wall, runtime=runtime).open_record("agent")
    assert ledger.sessions() == []


def test_the_state_follows_soon(ledger: SqliteLedger) -> None:
    runtime = Runtime(discover_plugins=False, ledger=ledger)
    record = make_provider(runtime=runtime).open_record("agent")
    ledger.flush()
    assert [r.state for r in ledger.sessions()] == ["ready"]
    record.fail("it broke")
    for _ in range(100):
        (kept,) = SqliteLedger(ledger.path).sessions()
        if kept.state == "failed":
            break
        time.sleep(0.05)
    assert (kept.state, kept.reason) == ("failed", "it broke")
    runtime.destroy(record)


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_C11_setting_the_clock_changes_no_lifetime(
    jump: float, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the record is written again after it was set."""
    runtime = Runtime(discover_plugins=False, ledger=ledger)
    record = make_provider(runtime=runtime, lifetime_seconds=600).open_record("agent")
    real = time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: real() + jump)
        record.told()
        ledger.flush()
        (kept,) = ledger.sessions()
        assert kept.expires_at is not None and 590 < kept.expires_at - time.time() < 601
    (kept,) = ledger.sessions()
    assert kept.expires_at is not None and 590 < kept.expires_at - time.time() < 601
    runtime.destroy(record)


def test_B4_no_secret_is_written(ledger: SqliteLedger) -> None:
    from stockade.spec import recipe
    from stockade.wall import Option

    class Secretive(ScriptedWall):
        options = {
            "engine": Option(str),
            "token": Option(str, secret=True),
        }

    wall = Secretive("image", {"engine": "tcp://me:s3cret@host:1", "token": "t0ken"})
    wall.texts = {"engine": "tcp://me:s3cret@host:1", "token": "t0ken"}
    config = SandboxConfig(env_vars={"KEY": "hidden"}, memory_mb=64)
    record = _record("ses-2", env_vars={"KEY": "hidden"})
    record.string = recipe("wall", wall, config)
    ledger.intend(record)
    written = b"".join(path.read_bytes() for path in Path(ledger.path).parent.iterdir())
    for secret in (b"hidden", b"s3cret", b"t0ken"):
        assert secret not in written
    (kept,) = ledger.sessions()
    assert kept.string == "wall:image?memory_mb=64&engine=tcp://me@host:1"


def test_the_file_is_the_users_alone(ledger: SqliteLedger) -> None:
    ledger.intend(_record())
    folder = Path(ledger.path).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_reading_makes_no_file(ledger: SqliteLedger) -> None:
    assert ledger.sessions() == [] and ledger.session("x") is None
    assert not os.path.exists(ledger.path)


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STOCKADE_LEDGER", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_ledger_path() == str(tmp_path / "stockade" / "ledger.sqlite")
    optional = default_ledger()
    assert optional is not None and optional.optional
    monkeypatch.setenv("STOCKADE_LEDGER", str(tmp_path / "there"))
    told = default_ledger()
    assert told is not None and not told.optional and told.path == str(tmp_path / "there")
    monkeypatch.setenv("STOCKADE_LEDGER", "off")
    assert default_ledger() is None


# -- files that are not as they should be -------------------------------------------


def _bytes(path: str) -> bytes:
    return Path(path).read_bytes()


def _foreign(path: str) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE mine (a)")
    other.commit()
    other.close()


def _damaged(path: str) -> None:
    """A page in the middle is overwritten, as a bad disk does it."""
    ledger = SqliteLedger(path)
    for number in range(60):
        ledger.intend(_record(f"ses-{number}"))
    ledger.file.close()
    checkpoint = sqlite3.connect(path)
    checkpoint.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    checkpoint.close()
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        for page in range(4096, size, 4096):
            file.seek(page)
            file.write(b"\xff" * 4096)


def _newer(path: str) -> None:
    ledger = SqliteLedger(path)
    ledger.intend(_record())
    with ledger.file.writing() as db:
        db.execute("PRAGMA user_version = 99")
    ledger.file.close()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: Path(path).write_bytes(b"a letter to my aunt\n" * 50), "no ledger"),
        (lambda path: Path(path).write_bytes(b"short"), "no ledger"),
        (_foreign, "another program"),
        (_damaged, "damaged"),
        (_newer, "pip install --upgrade stockade"),
    ],
    ids=["text", "short", "foreign", "damaged", "newer"],
)
def test_a_bad_file_is_told_and_never_overwritten(make: Any, words: str, tmp_path: Path) -> None:
    path = str(tmp_path / "ledger.sqlite")
    make(path)
    before = _bytes(path)
    ledger = SqliteLedger(path)
    with pytest.raises(LedgerError, match=words) as caught:
        ledger.sessions()
    assert not caught.value.retryable
    with pytest.raises(LedgerError, match=words):
        ledger.intend(_record("ses-new"))
        ledger.sessions()
    assert _bytes(path) == before


def test_a_row_that_makes_no_sense_is_damage(ledger: SqliteLedger) -> None:
    for column, value in [
        ("created_at", "yesterday"), ("owner", b"\xff"), ("used", "soon"), ("expires", "nan"),
        ("generation", -1), ("idle_seconds", float("inf")),
    ]:  # fmt: skip
        ledger.intend(_record())
        with ledger.file.writing() as db:
            db.execute(f"UPDATE sessions SET {column} = ?", (value,))
        with pytest.raises(LedgerError, match="damaged"):
            ledger.sessions()
        ledger.drop("ses-1")


def test_a_file_that_others_may_write_is_not_trusted(ledger: SqliteLedger) -> None:
    ledger.intend(_record())
    ledger.file.close()
    os.chmod(ledger.path, 0o666)
    with pytest.raises(LedgerError, match="chmod 600"):
        ledger.sessions()


def test_a_file_that_was_moved_away_is_made_anew(ledger: SqliteLedger, tmp_path: Path) -> None:
    ledger.intend(_record("ses-1"))
    for path in Path(ledger.path).parent.iterdir():
        path.rename(tmp_path / path.name)
    ledger.intend(_record("ses-2"))
    assert [r.session_id for r in ledger.sessions()] == ["ses-2"]


def test_an_older_version_is_migrated(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stockade import ledger_file

    ledger.intend(_record())
    ledger.file.close()
    later = (*ledger_file._MIGRATIONS, "ALTER TABLE notes ADD COLUMN more TEXT")
    monkeypatch.setattr(ledger_file, "_MIGRATIONS", later)
    assert [r.session_id for r in ledger.sessions()] == ["ses-1"]
    with ledger.file.reading() as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(later),)
        db.execute("SELECT more FROM notes")


# -- several at once -----------------------------------------------------------------


def _hold(path: str, held: threading.Event, let_go: threading.Event) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    held.set()
    let_go.wait(60)
    other.execute("ROLLBACK")
    other.close()


def test_a_ledger_that_is_held_gives_a_typed_error_in_time_and_recovers(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stockade.ledger._RETRY_SECONDS", 0.2)
    runtime = Runtime(discover_plugins=False, ledger=ledger)
    provider = make_provider(runtime=runtime)
    record = provider.open_record("agent")
    held, let_go = threading.Event(), threading.Event()
    holder = threading.Thread(target=_hold, args=(ledger.path, held, let_go))
    holder.start()
    held.wait(10)
    began = time.monotonic()
    with pytest.raises(LedgerError, match="held by another process") as caught:
        provider.open_record("agent")
    assert caught.value.retryable
    runtime.destroy(record)  # nothing that lives is lost by it: it ends as it should
    assert record.status is SessionStatus.DESTROYED
    assert time.monotonic() - began < 10
    let_go.set()
    holder.join()
    for _ in range(200):  # what could not be written then is written now
        if not ledger.sessions():
            break
        time.sleep(0.05)
    assert ledger.sessions() == []
    provider.open_record("agent")


def test_many_threads_do_not_wait_one_after_another(ledger: SqliteLedger) -> None:
    ledger.intend(_record("ses-first"))
    held, let_go = threading.Event(), threading.Event()
    holder = threading.Thread(target=_hold, args=(ledger.path, held, let_go))
    holder.start()
    held.wait(10)
    errors: list[LedgerError] = []

    def intend(number: int) -> None:
        try:
            ledger.intend(_record(f"ses-{number}"))
        except LedgerError as error:
            errors.append(error)

    threads = [threading.Thread(target=intend, args=(number,)) for number in range(40)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    let_go.set()
    holder.join()
    assert len(errors) == 40 and all(error.retryable for error in errors)
    assert took < 40 * 0.3  # the time-out of each, had they waited in a row
    ledger.intend(_record("ses-last"))


def test_who_waited_for_a_thread_waits_no_longer_in_all(tmp_path: Path) -> None:
    """A write in the background has the connection while the ledger is held; a call that
    comes meanwhile is told within the time that one call may take."""
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", timeout_seconds=2)
    ledger.intend(_record("ses-first"))
    held, let_go = threading.Event(), threading.Event()
    holder = threading.Thread(target=_hold, args=(ledger.path, held, let_go))
    holder.start()
    held.wait(10)
    ledger.put_off("ses-first", lambda: ledger.drop("ses-first"))
    time.sleep(1)  # by now it waits
    began = time.monotonic()
    with pytest.raises(LedgerError, match="held by another process"):
        ledger.intend(_record("ses-next"))
    took = time.monotonic() - began
    let_go.set()
    holder.join()
    assert took < 3, took
    ledger.intend(_record("ses-last"))


def test_nobody_is_held_up_by_a_ledger_that_nobody_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    ledger = SqliteLedger(tmp_path / "file" / "ledger.sqlite", optional=True)
    runtime = Runtime(discover_plugins=False, ledger=ledger)
    provider = make_provider(runtime=runtime)
    with caplog.at_level(logging.WARNING, "stockade"):
        for _ in range(3):
            runtime.destroy(provider.open_record("agent"))
    assert len([r for r in caplog.records if "without a ledger" in r.getMessage()]) == 1
    with pytest.raises(LedgerError):  # but what was asked for is not left out in silence
        make_provider(runtime=runtime, durable=True).open_record("agent")


def test_a_durable_session_needs_a_ledger() -> None:
    with pytest.raises(LedgerError, match="needs a ledger"):
        make_provider(durable=True).open_record("agent")


_LOCK = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)  # where SQLite shares it
"""


def test_opening_it_again_keeps_the_locks_of_this_process(ledger: SqliteLedger) -> None:
    """To close a file drops all locks of the process on it, whoever took them."""
    ledger.intend(_record())
    for _ in range(2):
        other = SqliteLedger(ledger.path)
        assert other.sessions() and other.session("ses-1")
        locking = [sys.executable, "-c", _LOCK, ledger.path]
        taken = subprocess.run(locking, check=False, capture_output=True, text=True)
        assert taken.returncode != 0 and "BlockingIOError" in taken.stderr


def test_many_processes_make_the_file_at_once(ledger: SqliteLedger) -> None:
    code = (
        "import sys; from stockade.ledger import SqliteLedger as L; l = L(sys.argv[1]); "
        "sys.stdin.read(1); print(l.take_turn(60))"
    )
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", code, ledger.path], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )
        for _ in range(6)
    ]  # fmt: skip
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.write("x")
        maker.stdin.flush()
    said = [maker.communicate(timeout=60)[0].strip() for maker in makers]
    assert sorted(said) == ["False"] * 5 + ["True"]


_MANY = """
import sys
from stockade import SandboxConfig
from stockade.ledger import SqliteLedger
from stockade.registry import SessionRecord
ledger = SqliteLedger(sys.argv[1])
for number in range(50):
    record = SessionRecord(f"ses-{sys.argv[2]}-{number}", "a", "w", None, SandboxConfig(), "w")
    ledger.intend(record)
    if number % 2:
        ledger.forget(record)
"""


def test_several_processes_write_at_once(ledger: SqliteLedger) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", _MANY, ledger.path, str(number)])
        for number in range(4)
    ]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    assert len(ledger.sessions()) == 100


def test_a_forked_child_has_a_connection_and_an_owner_of_its_own(ledger: SqliteLedger) -> None:
    ledger.intend(_record("ses-parent"))
    pid = os.fork()
    if pid == 0:
        try:
            ledger.intend(_record("ses-child"))
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    owners = {r.session_id: Owner.parse(r.owner) for r in ledger.sessions()}
    parent, child = owners["ses-parent"], owners["ses-child"]
    assert parent is not None and parent.pid == os.getpid()
    assert child is not None and child.pid == pid


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_told_and_overcome(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no mount: {mounted.stderr.decode()}")
    try:
        ledger = SqliteLedger(disk / "ledger.sqlite", timeout_seconds=1)
        ledger.intend(_record("ses-first"))
        filler = disk / "filler"
        with pytest.raises(OSError), open(filler, "wb", buffering=0) as file:
            while True:
                file.write(b"x" * 1024)
        with pytest.raises(LedgerError, match="room|could not be read or written") as caught:
            for number in range(2000):
                ledger.intend(_record(f"ses-{number}"))
        assert caught.value.retryable
        filler.unlink()
        kept = {r.session_id for r in ledger.sessions()}
        assert "ses-first" in kept
        ledger.intend(_record("ses-after"))
        assert {r.session_id for r in ledger.sessions()} == kept | {"ses-after"}
        ledger.file.close()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
