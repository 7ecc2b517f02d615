"""Programs of this machine, started and ended whole (D2, D6, D7, D8)."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from stockade.executions._output import BoundedOutput
from stockade.results import Stream
from stockade.toolkit.processes.pump import LocalRunning, own_folder
from stockade.wall import Exit

ENV = {"PATH": os.defpath}


def start(
    *argv: str, stdin: bytes = b"", folder: str = "/", **env: str
) -> tuple[LocalRunning, BoundedOutput]:
    output = BoundedOutput(1 << 20)
    env = {**ENV, **env}
    return LocalRunning.start(argv, stdin, output, working_dir=folder, env=env), output


def run(*argv: str, **more: Any) -> tuple[Exit, bytes, bytes]:
    running, output = start(*argv, **more)
    ended = running.wait()
    return ended, output.data(Stream.STDOUT), output.data(Stream.STDERR)


def alive(seconds: str) -> int:
    count = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            count += path.read_bytes().split(b"\0")[:2] == [b"sleep", seconds.encode()]
        except OSError:
            continue
    return count


def until(wanted: int, seconds: str) -> bool:
    deadline = time.monotonic() + 20
    while alive(seconds) != wanted and time.monotonic() < deadline:
        time.sleep(0.02)
    return alive(seconds) == wanted


def test_how_programs_end() -> None:
    for code in (0, 1, 126, 127, 137, 255):
        assert run("sh", "-c", f"exit {code}")[0] == Exit(code=code)
    assert run("sh", "-c", "kill -SEGV $$")[0] == Exit(signal=11)
    assert run("no-such-program-x")[0] == run("/no/such")[0] == Exit(code=127)
    assert run("/etc/passwd")[0] == Exit(code=126)
    assert run("-n")[0] == Exit(code=127)


def test_words_environment_and_input_arrive_exactly(tmp_path: Path) -> None:
    words = ("a b", "'q\"", "$x `y`", "new\nline", "*", "", "--")
    assert run("printf", "<%s>", *words)[1].decode() == "".join(f"<{word}>" for word in words)
    data = bytes(range(256)) * 4096
    assert run("cat", stdin=data)[1] == data
    assert run("sh", "-c", 'printf %s "$A"; pwd >&2', A="v\n'", folder=str(tmp_path)) == (
        Exit(code=0),
        b"v\n'",
        f"{tmp_path}\n".encode(),
    )
    os.environ["STOCKADE_TEST_SECRET"] = "hunter2"
    try:
        assert b"hunter2" not in run("env")[1]
    finally:
        del os.environ["STOCKADE_TEST_SECRET"]
    with pytest.raises(FileNotFoundError):
        start("true", folder=str(tmp_path / "none"))


def test_a_kill_takes_the_whole_tree_and_nobody_else() -> None:
    ours, other = f"3{os.getpid()}.5", f"3{os.getpid()}.6"
    line = (
        f"(setsid sh -c 'sleep {ours} & sleep {ours}' &); env -i setsid sleep {ours} & "
        f"trap '' TERM; sleep {ours}; :"
    )
    kept, _ = start("sh", "-c", f"setsid sleep {other} & sleep {other}; :")
    running, _ = start("sh", "-c", line)
    assert until(4, ours) and until(2, other)
    ends: list[Exit] = []
    waiting = threading.Thread(target=lambda: ends.append(running.wait()))
    waiting.start()
    running.kill()
    running.kill()
    waiting.join(20)
    assert ends == [Exit(signal=9)] and until(0, ours)
    assert alive(other) == 2
    running.kill()
    kept.kill()
    assert kept.wait() == Exit(signal=9) and until(0, other)


def test_what_it_leaves_behind_ends_with_it() -> None:
    mark = f"3{os.getpid()}.7"
    began = time.monotonic()
    ended, out, _ = run("sh", "-c", f"setsid sleep {mark} & (sleep {mark} &) ; echo done")
    assert (ended, out) == (Exit(code=0), b"done\n") and time.monotonic() - began < 10
    assert until(0, mark)


_OWNER = """
import os, sys, time
from stockade.executions._output import BoundedOutput
from stockade.toolkit.processes.pump import LocalRunning, own_folder
for _ in range(2):
    open(own_folder(sys.argv[2]) + "/file", "w").close()
line = f"setsid sleep {sys.argv[1]} & env -i setsid sleep {sys.argv[1]} & sleep {sys.argv[1]}; :"
running = LocalRunning.start(
    ["sh", "-c", line], b"", BoundedOutput(1), working_dir="/", env={"PATH": "/usr/bin:/bin"}
)
if os.fork() == 0:  # a child that lives on is no reason to wait
    sys.stdout.close()
    time.sleep(20)
    os._exit(0)
print("up", flush=True)
time.sleep(60)
"""


def test_nothing_outlives_a_process_that_is_killed(tmp_path: Path) -> None:
    """SIGKILL gives no time to clean up: a guard does it (C9)."""
    ours, other = f"3{os.getpid()}.8", f"3{os.getpid()}.9"
    kept, _ = start("sh", "-c", f"sleep {other}; :")
    folder = tmp_path / "of its own *"
    command = [sys.executable, "-c", _OWNER, ours, str(folder)]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert owner.stdout is not None and owner.stdout.readline() == b"up\n"
    assert until(3, ours) and until(1, other)
    assert folder.stat().st_mode & 0o777 == 0o700 and (folder / "file").exists()
    owner.kill()
    owner.wait()
    owner.stdout.close()
    assert until(0, ours) and alive(other) == 1
    deadline = time.monotonic() + 20
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists() and tmp_path.exists()
    with pytest.raises(FileExistsError):
        own_folder(str(tmp_path))
    kept.kill()
    kept.wait()
