"""The ledger: what it keeps, what it never keeps, and what it does with a bad file (C9)."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from core.walls import ScriptedSandbox, ScriptedWall, made_record, make_provider
from stockade import LedgerError, SandboxConfig
from stockade.ledger._sqlite import SqliteLedger, default_ledger, default_ledger_path
from stockade.sessions._runtime import Runtime
from stockade.system.owner import Owner
from stockade.values.ids import agent_hash
from stockade.wall import OpenRequest


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


def test_C5_a_failed_opening_leaves_nomade_record(ledger: SqliteLedger) -> None:
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
        record.save()
        ledger.flush()
        (kept,) = ledger.sessions()
        assert kept.expires_at is not None and 590 < kept.expires_at - time.time() < 601
    (kept,) = ledger.sessions()
    assert kept.expires_at is not None and 590 < kept.expires_at - time.time() < 601
    runtime.destroy(record)


def test_B4_no_secret_is_written(ledger: SqliteLedger) -> None:
    from stockade.selection._spec import recipe
    from stockade.wall import Option

    class Secretive(ScriptedWall):
        options = {
            "engine": Option(str),
            "token": Option(str, secret=True),
        }

    wall = Secretive("image", {"engine": "tcp://me:s3cret@host:1", "token": "t0ken"})
    wall.texts = {"engine": "tcp://me:s3cret@host:1", "token": "t0ken"}
    config = SandboxConfig(env_vars={"KEY": "hidden"}, memory_mb=64)
    record = made_record("ses-2", env_vars={"KEY": "hidden"})
    record.string = recipe("wall", wall, config)
    ledger.intend(record)
    written = b"".join(path.read_bytes() for path in Path(ledger.path).parent.iterdir())
    for secret in (b"hidden", b"s3cret", b"t0ken"):
        assert secret not in written
    (kept,) = ledger.sessions()
    assert kept.string == "wall:image?memory_mb=64&engine=tcp://me@host:1"


def test_the_file_is_the_users_alone(ledger: SqliteLedger) -> None:
    ledger.intend(made_record())
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
    named = default_ledger()
    assert named is not None and not named.optional and named.path == str(tmp_path / "there")
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
        ledger.intend(made_record(f"ses-{number}"))
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
    ledger.intend(made_record())
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
        (_newer, "pip install --upgrade ./core"),
    ],
    ids=["text", "short", "foreign", "damaged", "newer"],
)
def test_a_bad_file_is_reported_and_never_overwritten(
    make: Any, words: str, tmp_path: Path
) -> None:
    path = str(tmp_path / "ledger.sqlite")
    make(path)
    before = _bytes(path)
    ledger = SqliteLedger(path)
    with pytest.raises(LedgerError, match=words) as caught:
        ledger.sessions()
    assert not caught.value.retryable
    with pytest.raises(LedgerError, match=words):
        ledger.intend(made_record("ses-new"))
        ledger.sessions()
    assert _bytes(path) == before


def test_a_row_that_makes_no_sense_is_damage(ledger: SqliteLedger) -> None:
    for column, value in [
        ("created_at", "yesterday"),
        ("owner", b"\xff"),
        ("used", "soon"),
        ("expires", "nan"),
        ("generation", -1),
        ("idle_seconds", float("inf")),
    ]:
        ledger.intend(made_record())
        with ledger.file.writing() as db:
            db.execute(f"UPDATE sessions SET {column} = ?", (value,))
        with pytest.raises(LedgerError, match="damaged"):
            ledger.sessions()
        ledger.drop("ses-1")


def test_a_file_that_others_may_write_is_not_trusted(ledger: SqliteLedger) -> None:
    ledger.intend(made_record())
    ledger.file.close()
    os.chmod(ledger.path, 0o666)
    with pytest.raises(LedgerError, match="chmod 600"):
        ledger.sessions()


def test_where_files_have_no_modes_it_works_and_says_so(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As on Windows, or on a memory stick: every file reads 0666, whatever was asked."""
    honest = os.stat

    def everybodys(*arguments: Any, **options: Any) -> os.stat_result:
        found = honest(*arguments, **options)
        return os.stat_result((found.st_mode | 0o666, *found[1:]))

    monkeypatch.setattr(os, "stat", everybodys)
    ledger.intend(made_record())
    assert [record.session_id for record in ledger.sessions()] == ["ses-1"]
    assert "have no modes of their own" in caplog.text
    assert not [name for name in os.listdir(os.path.dirname(ledger.path)) if len(name) > 30]


def test_a_file_that_was_moved_away_is_made_anew(ledger: SqliteLedger, tmp_path: Path) -> None:
    ledger.intend(made_record("ses-1"))
    for path in Path(ledger.path).parent.iterdir():
        path.rename(tmp_path / path.name)
    ledger.intend(made_record("ses-2"))
    assert [r.session_id for r in ledger.sessions()] == ["ses-2"]


def test_an_older_version_is_migrated(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stockade.ledger import _file as ledger_file

    ledger.intend(made_record())
    ledger.file.close()
    later = (*ledger_file._MIGRATIONS, "ALTER TABLE notes ADD COLUMN more TEXT")
    monkeypatch.setattr(ledger_file, "_MIGRATIONS", later)
    assert [r.session_id for r in ledger.sessions()] == ["ses-1"]
    with ledger.file.reading() as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(later),)
        db.execute("SELECT more FROM notes")


# -- the writer ------------------------------------------------------------------------


def _soon(condition: Any, seconds: float = 15.0) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    return bool(condition())


def _states(path: str) -> dict[str, str]:
    return {r.session_id: r.state for r in SqliteLedger(path).sessions()}


def test_a_text_that_is_no_unicode_is_written_all_the_same(ledger: SqliteLedger) -> None:
    """As a file's name has it that a wall's error repeats: the writer went on, once dead."""
    runtime = Runtime(discover_plugins=False, ledger=ledger)
    provider = make_provider(runtime=runtime)
    one, two = provider.open_record("agent"), provider.open_record("agent")
    one.fail("no such file: \udc80\ud800")
    assert _soon(lambda: _states(ledger.path).get(one.session_id) == "failed")
    (kept,) = [r for r in ledger.sessions() if r.session_id == one.session_id]
    assert kept.reason == "no such file: \\udc80\\ud800"
    two.fail("it broke")
    assert _soon(lambda: _states(ledger.path).get(two.session_id) == "failed")
    ledger.fail(kept, "removing it failed: \udc80")
    ledger.note_execution(one.session_id, "exe-1", reason="\udc80", started_at=1.0)
    ledger.flush()
    assert ledger.session("\udc80") is None
    for record in (one, two):
        runtime.destroy(record)
    assert ledger.sessions() == []


def test_what_can_never_be_written_holds_nothing_up(
    ledger: SqliteLedger, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.intend(made_record())

    def breaks() -> None:
        raise OverflowError("too large for SQLite")

    ledger.put_off("a", breaks)
    ledger.note_execution("ses-1", "exe-1", stdout_bytes=10**30)
    ledger.put_off("b", lambda: ledger.drop("ses-1"))
    assert _soon(lambda: ledger.sessions() == [])
    assert ledger.flush() and "too large for SQLite" in caplog.text


def test_a_writer_that_died_is_replaced(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.intend(made_record())

    def dies() -> bool:
        raise SystemExit(1)

    with monkeypatch.context() as patch:
        patch.setattr(ledger._later, "flush", dies)
        patch.setattr("stockade.ledger._later._LAZY_SECONDS", 0.0)
        ledger.put_off("a", lambda: None)
        first = ledger._later._thread
        assert first is not None
        first.join(5)
    ledger.put_off("b", lambda: ledger.drop("ses-1"))
    assert _soon(lambda: ledger.sessions() == [])


def test_an_intent_that_cannot_be_kept_is_a_ledger_error(ledger: SqliteLedger) -> None:
    record = made_record()
    record.created_at = 10**400
    with pytest.raises(LedgerError, match="cannot be kept"):
        ledger.intend(record)
