"""`stockade diff`: what differs is reported, and nothing else; walls that fail are, too."""

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

from conftest import need
from stockade.cli.commands import compare
from stockade.cli.commands.compare import unified

LABELS = ("one", "other")


def diff(
    first: str, second: str, *arguments: str, **options: Any
) -> subprocess.CompletedProcess[str]:
    walls = ("-p", first, "--against", second)
    return subprocess.run(
        [sys.executable, "-m", "stockade.cli", "diff", *walls, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def compared(*arguments: str, **options: Any) -> tuple[int, dict[str, Any]]:
    done = diff(arguments[0], arguments[1], "--json", *arguments[2:], **options)
    return done.returncode, json.loads(done.stdout)


# -- against real walls ----------------------------------------------------------------


def test_alike(landlock: str) -> None:
    done = diff(landlock, landlock, "--shell", "echo hi; echo e >&2; echo x > f; exit 3")
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("\nalike\n") and "exited, 3" in done.stdout
    assert "differs" not in done.stdout and "times" in done.stdout


def test_time_is_reported_and_never_a_difference(landlock: str, beside: dict[str, str]) -> None:
    line = "[ $(pwd) = /workspace ] || sleep 0.7; echo done"
    code, report = compared(landlock, "plain", "--shell", line, env=beside)
    assert code == 0 and report["alike"] and not report["differences"]
    assert report["walls"][1]["duration_seconds"] >= 0.7 and report["time_ratio"] > 0


def test_output_and_files_that_differ(landlock: str) -> None:
    line = (
        "head -c 9 /dev/urandom > same-size; read id < /proc/sys/kernel/random/uuid;"
        "printf '%s\\n' first $id last; mkdir d; ln -s $id d/link; echo same > d/same;"
        "echo x > only-$id"
    )
    done = diff(landlock, landlock, "--shell", line)
    assert done.returncode == 1, done.stdout
    out = done.stdout
    assert (
        "--- stdout of landlock (first)\n+++ stdout of landlock (second)\n@@ -1,3 +1,3 @@\n" in out
    )
    assert "\n first\n-" in out and "\n last\n" in out
    assert "'same-size'" in out and out.count("file, 9 bytes, mode 644, sha256 ") == 2
    assert "'d/link'" in out and "link to '" in out
    assert out.count("not there") == 2 and "d/same" not in out


def test_another_wall(landlock: str, beside: dict[str, str]) -> None:
    code, report = compared(landlock, "plain", "--shell", "pwd", env=beside)
    assert code == 1 and report["differences"] == ["stdout"]
    assert [wall["isolation"] for wall in report["walls"]] == ["process", "none"]
    assert report["walls"][0]["stdout"] == "/workspace\n" and not report["files_compared"]
    assert report["walls"][1]["files_note"] == "plain has no files to look at"
    done = diff(landlock, "plain", "--", "echo", "--shell", env=beside)
    assert done.returncode == 0 and "alike, the files not compared" in done.stdout, done.stderr


def test_input_folder_environment_code_and_deadline(landlock: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"in\0\xff")
    (tmp_path / "put" / "sub").mkdir(parents=True)
    (tmp_path / "put" / "sub" / "a").write_text("put there")
    code, report = compared(
        landlock,
        landlock,
        "--stdin",
        str(tmp_path / "in"),
        "--put",
        str(tmp_path / "put"),
        "--env",
        "A=b",
        "--timeout",
        "3",
        "--shell",
        'cat - sub/a; printf %s "$A"; date +%N >&2; sleep 30',
    )
    assert code == 1 and report["differences"] == ["stderr"]
    for wall in report["walls"]:
        assert wall["verdict"] == "timed out" and wall["stdout_total_bytes"] == 14
        assert wall["stdout_base64"] == "aW4A/3B1dCB0aGVyZWI="
    done = diff(landlock, landlock, "--code", "print(6*7)", "--language", "python")
    assert done.returncode == 0, done.stdout


def test_how_it_ended(landlock: str, beside: dict[str, str]) -> None:
    """The same line ends differently, since one of the walls has a process namespace."""
    line = "[ $(pwd) = /workspace ] || kill -TERM $$; exit 7"
    code, report = compared(landlock, "plain", "--shell", line, env=beside)
    ends = [(wall["verdict"], wall["exit_code"], wall["signal"]) for wall in report["walls"]]
    assert code == 1 and report["differences"] == ["exit"]
    assert ends == [("exited", 7, None), ("signalled", 143, "SIGTERM")]


def test_walls_that_fail_are_shown_beside_each_other(landlock: str, beside: dict[str, str]) -> None:
    done = diff("no-such-wall", "plain?memory_mb=64", "--", "true", env=beside)
    assert done.returncode == 2 and "alike" not in done.stdout
    assert "no-such-wall failed: ProviderNotFoundError: no installed" in done.stdout
    assert "plain failed: UnsupportedError: plain cannot hold" in done.stdout
    code, report = compared(landlock, "plain", "--code", "x", "--language", "cobol", env=beside)
    assert code == 2 and not report["alike"]
    assert [wall["error_type"] for wall in report["walls"]] == ["LanguageError"] * 2
    secret = f"{landlock}?env_vars=TOKEN%3Dhunter2"
    done = diff(secret, "no-such-wall?env_vars=TOKEN%3Dhunter2", "--", "true")
    assert done.returncode == 2 and "hunter2" not in done.stdout + done.stderr


def test_many_files_are_reported_and_not_guessed_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "MAX_FILES", 3)
    ours = {name: compare.Found("dir", 0, 0o755) for name in "abc"}
    theirs = {name: compare.Found("dir", 0, 0o700 if name == "b" else 0o755) for name in "bcd"}
    nobody: Any = None
    found = compare.changed_files((nobody, ours), (nobody, theirs))
    assert [difference.path for difference in found] == ["b"]


def test_an_interrupt_leaves_nothing(landlock: str) -> None:
    mark = f"42{os.getpid()}"
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "stockade.cli",
            "diff",
            "-p",
            landlock,
            "--against",
            landlock,
            "--",
            "sleep",
            mark,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 30
    while not _sleeping(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _sleeping(mark)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, b"") and b"interrupted" in err
    while _sleeping(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _sleeping(mark)


def _sleeping(mark: str) -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().split(b"\0")[:2] == [b"sleep", mark.encode()]:
                return True
        except OSError:
            continue
    return False


def test_usage(landlock: str) -> None:
    assert diff(landlock, landlock).returncode == 2
    assert diff(landlock, landlock, "--shell", "x", "--", "true").returncode == 2
    done = diff(landlock, landlock, "--shel", "x")
    assert done.returncode == 2 and "--shell" in done.stderr


def test_a_container(landlock: str) -> None:
    need("docker")
    image = "docker:stockade-test/python"
    code, report = compared(landlock, image, "--code", "print(6*7); open('f', 'w').write('x')")
    assert code == 0, report
    assert report["files_compared"] and [wall["files_count"] for wall in report["walls"]] == [1, 1]
    code, report = compared(landlock, image, "--shell", "ls /.dockerenv")
    assert code == 1 and set(report["differences"]) == {"exit", "stdout", "stderr"}


# -- how texts and bytes are compared --------------------------------------------------


def test_a_text_far_in_keeps_its_line_numbers() -> None:
    ours = [str(number) for number in range(1, 30_001)]
    theirs = [*ours]
    theirs[20_000] = "changed"
    shown = unified("\n".join(ours).encode(), "\n".join(theirs).encode(), LABELS)
    assert shown[:3] == ["--- one", "+++ other", "@@ -19998,7 +19998,7 @@"]
    assert "-20001" in shown and "+changed" in shown
    assert shown[-1].startswith("... from line 21998 on")


def test_a_missing_end_of_line_is_a_difference() -> None:
    shown = unified(b"a\nb\n", b"a\nb", LABELS)
    assert shown[-2:] == ["-b", "+b\\ no newline at the end"]


def test_what_programs_print_does_not_reach_the_terminal_raw() -> None:
    shown = "\n".join(unified(b"\x1b[31mred\x07\r\n", "\x9b2J\u202e\n".encode(), LABELS))
    assert "\x1b" not in shown and "\x07" not in shown and "\\x1b[31mred" in shown
    assert "\x9b" not in shown and "\u202e" not in shown and "\r" not in shown


def test_an_escape_and_its_name_differ() -> None:
    assert unified(b"\x1b\n", b"\\x1b\n", LABELS)[-2:] == ["-\\x1b", "+\\x1b"]


@pytest.mark.parametrize(
    ("one", "other", "at"),
    [(b"abc\0", b"abd\0", 2), (b"\xff", b"", 0), (bytes(40), bytes(41), 40)],
)
def test_bytes_show_their_first_difference(one: bytes, other: bytes, at: int) -> None:
    shown = unified(one, other, LABELS)
    assert shown[2] == f"@@ bytes; the first that differs is number {at} @@"
    assert shown[3].startswith(f"-{at - at % 16:08x}") and shown[4][0] == "+"
