"""The ledger among threads and processes: held, full, forked, and many at once."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from core.walls import made_record, make_provider
from stockade import LedgerError, SessionStatus
from stockade.ledger._sqlite import SqliteLedger
from stockade.sessions._runtime import Runtime
from stockade.system.owner import Owner


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
    monkeypatch.setattr("stockade.ledger._sqlite.RETRY_SECONDS", 0.2)
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
    ledger.intend(made_record("ses-first"))
    held, let_go = threading.Event(), threading.Event()
    holder = threading.Thread(target=_hold, args=(ledger.path, held, let_go))
    holder.start()
    held.wait(10)
    errors: list[LedgerError] = []

    def intend(number: int) -> None:
        try:
            ledger.intend(made_record(f"ses-{number}"))
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
    ledger.intend(made_record("ses-last"))


def test_who_waited_for_a_thread_waits_no_longer_in_all(tmp_path: Path) -> None:
    """A write in the background has the connection while the ledger is held; a call that
    comes meanwhile gets an answer within the time that one call may take."""
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", timeout_seconds=2)
    ledger.intend(made_record("ses-first"))
    held, let_go = threading.Event(), threading.Event()
    holder = threading.Thread(target=_hold, args=(ledger.path, held, let_go))
    holder.start()
    held.wait(10)
    ledger.put_off("ses-first", lambda: ledger.drop("ses-first"))
    time.sleep(1)  # by now it waits
    began = time.monotonic()
    with pytest.raises(LedgerError, match="held by another process"):
        ledger.intend(made_record("ses-next"))
    took = time.monotonic() - began
    let_go.set()
    holder.join()
    assert took < 3, took
    ledger.intend(made_record("ses-last"))


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
    ledger.intend(made_record())
    for _ in range(2):
        other = SqliteLedger(ledger.path)
        assert other.sessions() and other.session("ses-1")
        locking = [sys.executable, "-c", _LOCK, ledger.path]
        taken = subprocess.run(locking, check=False, capture_output=True, text=True)
        assert taken.returncode != 0 and "BlockingIOError" in taken.stderr


def test_many_processes_make_the_file_at_once(ledger: SqliteLedger) -> None:
    code = (
        "import sys; from stockade.ledger._sqlite import SqliteLedger as L; l = L(sys.argv[1]); "
        "sys.stdin.read(1); print(l.take_turn(60))"
    )
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", code, ledger.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.write("x")
        maker.stdin.flush()
    said = [maker.communicate(timeout=60)[0].strip() for maker in makers]
    assert sorted(said) == ["False"] * 5 + ["True"]


_MANY = """
import sys
from stockade import SandboxConfig
from stockade.ledger._sqlite import SqliteLedger
from stockade.sessions._registry import SessionRecord
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
    ledger.intend(made_record("ses-parent"))
    pid = os.fork()
    if pid == 0:
        try:
            ledger.intend(made_record("ses-child"))
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    owners = {r.session_id: Owner.parse(r.owner) for r in ledger.sessions()}
    parent, child = owners["ses-parent"], owners["ses-child"]
    assert parent is not None and parent.pid == os.getpid()
    assert child is not None and child.pid == pid


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_reported_and_overcome(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no mount: {mounted.stderr.decode()}")
    try:
        ledger = SqliteLedger(disk / "ledger.sqlite", timeout_seconds=1)
        ledger.intend(made_record("ses-first"))
        filler = disk / "filler"
        with pytest.raises(OSError), open(filler, "wb", buffering=0) as file:
            while True:
                file.write(b"x" * 1024)
        with pytest.raises(LedgerError, match="room|could not be read or written") as caught:
            for number in range(2000):
                ledger.intend(made_record(f"ses-{number}"))
        assert caught.value.retryable
        filler.unlink()
        kept = {r.session_id for r in ledger.sessions()}
        assert "ses-first" in kept
        ledger.intend(made_record("ses-after"))
        assert {r.session_id for r in ledger.sessions()} == kept | {"ses-after"}
        ledger.file.close()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
