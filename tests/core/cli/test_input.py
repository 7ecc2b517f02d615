"""What a command does with its standard input: nothing of it is lost, nothing is read for ever."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from stockade.cli import feed as module
from stockade.cli.feed import Feed
from stockade.errors import ConfigError

STOCKADE = f"{sys.executable} -m stockade.cli"


def shell(line: str, seconds: float = 60) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["sh", "-c", line],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=seconds,
        check=False,
    )


def test_input_that_comes_late_is_waited_for(landlock: str) -> None:
    done = shell(f"(sleep 1; echo data) | {STOCKADE} run -- wc -c")
    assert done.stdout.split() == [b"5"] and not done.stderr
    done = shell(f"(printf a; sleep 1; printf b) | {STOCKADE} run -- cat")
    assert done.stdout == b"ab"


def test_input_from_files_and_by_name(landlock: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"in\0")
    assert shell(f"{STOCKADE} run -- cat < {tmp_path}/in").stdout == b"in\0"
    assert shell(f"{STOCKADE} run --stdin {tmp_path}/in -- cat").stdout == b"in\0"
    assert shell(f"(sleep 1; echo x) | {STOCKADE} run --stdin - -- cat").stdout == b"x\n"
    assert shell(f"{STOCKADE} run -- cat").stdout == b""
    assert shell(f"echo 'print(input())' | {STOCKADE} run --code -").stderr.count(b"EOFError")


def test_a_large_input_comes_whole(landlock: str) -> None:
    done = shell(f"head -c 30000000 /dev/zero | {STOCKADE} run -- wc -c")
    assert done.stdout.split() == [b"30000000"], done.stderr


def test_an_interrupt_ends_the_wait_for_input(landlock: str) -> None:
    line = [*STOCKADE.split(), "run", "--stdin", "-", "--", "cat"]
    process = subprocess.Popen(line, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(2)
    process.send_signal(2)
    assert process.wait(10) == 130
    process.communicate()


def test_a_pipe_that_stays_silent_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    given = Feed(reader, patience=0.2)
    data, note = given.wait()
    assert data == b"" and "nothing came on standard input within 0.2 s" in note
    os.close(writer)


def test_what_has_begun_is_waited_for_to_its_end() -> None:
    reader, writer = os.pipe()
    given = Feed(reader, patience=0.5)
    os.write(writer, b"a")

    def late() -> None:
        os.write(writer, b"b")
        os.close(writer)

    threading.Timer(1.0, late).start()
    assert given.wait() == (b"ab", "")
    os.close(reader)


def test_more_than_a_request_takes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_STDIN_BYTES", 1000)
    reader, writer = os.pipe()
    given = Feed(reader)
    os.write(writer, bytes(2000))
    with pytest.raises(ConfigError, match="more than 1000 bytes"):
        given.wait()
    os.close(writer)


def test_what_cannot_be_read_says_so(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(IsADirectoryError):
        Feed(descriptor).wait()
    os.close(descriptor)
