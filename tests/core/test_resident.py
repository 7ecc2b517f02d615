"""The supervisor on this machine's own shells: what every wall that uses it relies on.

Its programs run with no wall at all here, so nothing here may end more than its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockade.errors import ConfigError, WorkingDirectoryError
from stockade.output import BoundedOutput
from stockade.resident import (
    Channel,
    Death,
    Lane,
    PipeChannel,
    ResidentSandbox,
    supervisor,
    supervisor_by_input,
)
from stockade.resident import lanes as resident
from stockade.resident.lane import _Scanner
from stockade.results import Stream
from stockade.wall import ExecRequest, Exit, Form

SHELLS = [("dash",), ("bash",), ("busybox", "sh")]


_REAPER = """
import os, time
print("up", flush=True)
while True:
    try:
        os.wait()
    except ChildProcessError:
        time.sleep(0.02)
"""


class Processes:
    """A process namespace: the supervisor looks at every process that it sees, and here it
    must not see this machine's, whose sandboxes' programs bear the same marks."""

    def __init__(self) -> None:
        root = os.geteuid() == 0
        self._user = [] if root else ["-U", "--preserve-credentials"]
        kind = [] if root else ["--user", "--map-root-user"]
        self._first = subprocess.Popen(
            ["unshare", *kind, "--fork", "--pid", "--mount-proc", "--kill-child",
             sys.executable, "-c", _REAPER],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert self._first.stdout is not None
        with self._first.stdout as said:
            up = said.readline()
        if not up:
            self._first.wait()
            pytest.skip("no process namespace can be made here (unshare)")
        number = self._first.pid
        self._inside = Path(f"/proc/{number}/task/{number}/children").read_text().split()[0]

    def enter(self, folder: Path) -> list[str]:
        """What an argument vector begins with that runs in it."""
        # In a session of its own: nsenter waits outside, and signals to the group are not its.
        line = 'cd "$1"; shift; exec setsid "$@"'
        return ["nsenter", "-t", self._inside, *self._user, "-p", "-m", "--",
                "sh", "-c", line, "sh", str(folder)]  # fmt: skip

    def end(self) -> None:
        self._first.kill()
        self._first.wait()


class LocalSandbox(ResidentSandbox):
    counts_processes = False
    path = "/usr/bin:/bin"

    def __init__(self, shell: tuple[str, ...], folder: Path, processes: Processes) -> None:
        self._shell = shell
        self._folder = folder
        self._processes = processes
        self._started: list[subprocess.Popen[bytes]] = []
        super().__init__(self.open_channel(0))

    def open_channel(self, number: int) -> Channel:
        script, zygote = supervisor()
        process = subprocess.Popen(
            [*self._processes.enter(self._folder), *self._shell, "-c", script, "sh", str(number),
             zygote],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={"PATH": self.path}, start_new_session=True,
        )  # fmt: skip
        self._started.append(process)
        return PipeChannel.over(process)

    def destroy(self) -> None:
        for process in self._started:
            process.wait(20)  # its input has ended

    def post_mortem(self, *, settle: bool) -> Death | None:
        return Death("a shell ended")


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def sandbox(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalSandbox]:
    if shutil.which(request.param[0]) is None:
        pytest.skip(f"no {request.param[0]} here")
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        pytest.skip("no unshare and nsenter here")
    processes = Processes()
    try:
        made = LocalSandbox(request.param, tmp_path, processes)
        yield made
        made.close()
    finally:
        processes.end()


def start(sandbox: LocalSandbox, **request: Any) -> tuple[Any, BoundedOutput]:
    request.setdefault("form", Form.ARGV if "argv" in request else Form.SHELL)
    output = BoundedOutput(1 << 20)
    request.setdefault("working_dir", str(sandbox._folder))
    return sandbox.start(ExecRequest(execution_id="x", **request), output), output


def run(sandbox: LocalSandbox, **request: Any) -> tuple[Exit, bytes, bytes]:
    running, output = start(sandbox, **request)
    ended = running.wait()
    return ended, output.data(Stream.STDOUT), output.data(Stream.STDERR)


def python(sandbox: LocalSandbox, code: str, **more: Any) -> tuple[Exit, bytes, bytes]:
    return run(sandbox, form=Form.CODE, language="python", script=code, **more)


def test_codes_and_signals(sandbox: LocalSandbox) -> None:
    for code in (0, 1, 126, 127, 137, 143, 250, 255):
        assert run(sandbox, argv=("sh", "-c", f"exit {code}"))[0] == Exit(code=code)
    for name, number in (("TERM", 15), ("KILL", 9), ("SEGV", 11)):
        assert run(sandbox, argv=("sh", "-c", f"kill -{name} $$"))[0] == Exit(signal=number)
    assert run(sandbox, argv=("no-such-program-x",))[0] == Exit(code=127)


def test_signals_are_as_they_should_be_at_the_start(sandbox: LocalSandbox) -> None:
    """A program started with `&` would ignore SIGINT and SIGQUIT for good."""
    status = run(sandbox, argv=("cat", "/proc/self/status"))[1].decode()
    ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
    assert not ignored & (1 << 1 | 1 << 2 | 1 << 14), status


def test_text_and_input_are_exact(sandbox: LocalSandbox, tmp_path: Path) -> None:
    words = ("a b", "'q\"", "$x `y`", "new\nline", "*", "\\", "")
    _, out, _ = run(sandbox, argv=("printf", "<%s>", *words))
    assert out.decode() == "".join(f"<{word}>" for word in words)
    data = bytes(range(256)) * 4
    assert run(sandbox, argv=("cat",), stdin=data)[1] == data
    assert run(sandbox, argv=("wc", "-c"), stdin=bytes(5 << 20))[1].strip() == b"5242880"
    assert run(sandbox, argv=("true",), stdin=bytes(5 << 20))[0] == Exit(code=0)
    assert run(sandbox, argv=("cat",))[1] == b""
    assert run(sandbox, script="cat; echo e >&2; exit 3", stdin=b"in") == (
        Exit(code=3),
        b"in",
        b"e\n",
    )
    assert run(sandbox, script=": " + "x" * (1 << 20) + "\necho end")[1] == b"end\n"
    value = "v 'q' \"q\" $x\n=\\"
    assert run(sandbox, script='printf %s "$A"', env={"A": value})[1].decode() == value
    with pytest.raises(ConfigError, match="a-b"):
        run(sandbox, argv=("true",), env={"a-b": "1"})
    with pytest.raises(WorkingDirectoryError):
        run(sandbox, argv=("true",), working_dir=str(tmp_path / "none"))
    assert run(sandbox, argv=("true",))[0] == Exit(code=0)


def _alive(mark: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:1] == [b"sleep"] and mark.encode() in words[1]:
            found.append(path.parent.name)
    return found


def test_a_kill_reaches_the_whole_tree_and_nobody_else(sandbox: LocalSandbox) -> None:
    ours, other = f"3{os.getpid()}.1", f"3{os.getpid()}.2"
    line = (
        f"(setsid sh -c 'sleep {ours} & sleep {ours}' &); env -i setsid sleep {ours} & "
        f"trap '' TERM; sleep {ours}"
    )
    kept, _ = start(sandbox, script=f"setsid sleep {other} & sleep {other}")
    running, _ = start(sandbox, script=line)
    ends: list[Exit] = []
    waits = [threading.Thread(target=lambda r=r: ends.append(r.wait())) for r in (running, kept)]
    for wait in waits:
        wait.start()
    deadline = time.monotonic() + 20
    while (len(_alive(ours)), len(_alive(other))) != (4, 2) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (len(_alive(ours)), len(_alive(other))) == (4, 2)
    running.kill()
    waits[0].join(20)
    deadline = time.monotonic() + 5
    while _alive(ours) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(ours) and len(_alive(other)) == 2
    kept.kill()
    waits[1].join(20)
    assert ends == [Exit(signal=9), Exit(signal=9)]


def test_what_is_left_behind_holds_nothing_up_and_speaks_to_nobody(sandbox: LocalSandbox) -> None:
    line = "(for i in 1 2 3 4 5 6; do sleep 0.1; echo late; done) & echo now"
    assert run(sandbox, script=line)[1].startswith(b"now\n")
    for number in range(6):
        assert run(sandbox, argv=("echo", str(number)))[1] == b"%d\n" % number
        time.sleep(0.1)


def test_programs_left_behind_keep_their_lane_no_longer_than_they_live(
    sandbox: LocalSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resident, "_MAX_LANES", 2)
    monkeypatch.setattr(resident, "_LAST_LOOK_SECONDS", 0.5)
    for number in range(5):
        assert run(sandbox, script=f"sleep 0.2 & echo {number}")[1] == b"%d\n" % number


def test_a_kill_that_comes_at_once(sandbox: LocalSandbox) -> None:
    for pause in (0.0, 0.001, 0.003, 0.01):
        running, _ = start(sandbox, argv=("sleep", "30"))
        time.sleep(pause)
        running.kill()
        assert running.wait() == Exit(signal=9)
        assert run(sandbox, argv=("echo", "next"))[1] == b"next\n"


def test_signals_to_the_supervisor_end_nothing(
    sandbox: LocalSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a program sends them to its group, or a kernel to one whose stopped members were left
    alone. Wherever it waits: not every shell tells by its status that a `read` was broken off."""
    outside = sandbox._started[0].pid
    inside = int(Path(f"/proc/{outside}/task/{outside}/children").read_text())
    first = sandbox._lanes[0]

    def signal_all() -> None:
        os.killpg(inside, signal.SIGHUP)
        time.sleep(0.1)

    signal_all()  # for an order
    assert run(sandbox, argv=("echo", "idle"))[1] == b"idle\n"
    running, output = start(sandbox, script="trap '' HUP; echo begun; sleep 0.5; echo done")
    time.sleep(0.2)
    signal_all()  # for the program's end, and for the host's word
    assert running.wait() == Exit(code=0) and output.data(Stream.STDOUT) == b"begun\ndone\n"
    send = first._send

    def send_late(data: bytes) -> None:
        if data == b"e\n":
            signal_all()  # for the host to have read it all
        send(data)

    monkeypatch.setattr(first, "_send", send_late)
    for _ in range(3):
        assert run(sandbox, argv=("echo", "next")) == (Exit(code=0), b"next\n", b"")
    assert list(sandbox._lanes.values()) == [first] and not first.lost


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_a_supervisor_that_comes_by_its_input(shell: tuple[str, ...], tmp_path: Path) -> None:
    if shutil.which(shell[0]) is None or shutil.which("unshare") is None:
        pytest.skip(f"no {shell[0]} or no unshare here")
    command, text = supervisor_by_input(0)
    assert sum(map(len, command)) < 200 < len(text)
    processes = Processes()
    try:
        with subprocess.Popen(
            [*processes.enter(tmp_path), *shell, *command[1:]], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"PATH": LocalSandbox.path},
        ) as process:  # fmt: skip
            lane = Lane(0, PipeChannel.over(process))
            lane.hail(text)
            hello = lane.greet(20)
            assert hello.python == shutil.which("python3", path=LocalSandbox.path)
            assert lane.count() == 0
            lane.close()
            process.wait(20)
    finally:
        processes.end()


def test_executions_at_the_same_time(sandbox: LocalSandbox) -> None:
    seen: dict[int, bytes] = {}

    def work(number: int) -> None:
        line = f"for i in 1 2 3; do echo {number}; sleep 0.05; done"
        seen[number] = run(sandbox, script=line)[1]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seen == {number: b"%d\n" % number * 3 for number in range(5)}


def test_warm_python(sandbox: LocalSandbox, tmp_path: Path) -> None:
    if sandbox.hello.python is None:
        pytest.skip("no Python on the system's path")
    assert python(sandbox, "x = 6\nprint(x * 7, __name__)")[1] == b"42 __main__\n"
    ended, _, err = python(sandbox, "def f():\n    print(x)\nf()")
    assert ended == Exit(code=1) and b"NameError" in err
    assert err.count(b"File ") == 2 and b"zygote" not in err
    assert python(sandbox, "raise SystemExit(5)")[0] == Exit(code=5)
    assert python(sandbox, "import os; os.kill(os.getpid(), 15)")[0] == Exit(signal=15)
    python(sandbox, "f = open('kept', 'w'); f.write('written')")
    assert (tmp_path / "kept").read_text() == "written"
    assert python(sandbox, "import sys; print(sys.stdin.read())", stdin=b"in")[1] == b"in\n"


def test_an_interpreter_that_does_not_work_is_told(
    sandbox: LocalSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "bin" / "python3"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nsleep 0.2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(LocalSandbox, "path", f"{broken.parent}:/usr/bin:/bin")
    other = LocalSandbox(sandbox._shell, tmp_path, sandbox._processes)
    try:
        for stdin in (b"", b"x" * 100_000):
            ended, out, err = python(other, "print(1)", stdin=stdin)
            assert (ended.code, out) == (126, b"") and b"does not work here" in err
            assert run(other, argv=("cat",), stdin=stdin) == (Exit(code=0), stdin, b"")
    finally:
        other.close()


def test_named_interpreters(sandbox: LocalSandbox) -> None:
    if sandbox.hello.python is None:
        pytest.skip("no Python on the system's path")
    python(sandbox, "x = 41", state="a")
    assert python(sandbox, "x += 1; print(x)", state="a")[1] == b"42\n"
    assert b"NameError" in python(sandbox, "x", state="b")[2]
    assert python(sandbox, "import os; os._exit(3)", state="a")[0] == Exit(code=3)
    assert python(sandbox, "print('x' in dir())", state="a")[1] == b"False\n"


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_token_is_found_however_it_is_cut(cut: int) -> None:
    token = b"\x1dtoken"
    data = b"a\x1dtok\x1d\x1dtoke" + token + b"rest"
    scanner = _Scanner(token)
    pieces = [data[at : at + cut] for at in range(0, len(data), cut)]
    assert b"".join(scanner.feed(piece) for piece in pieces) == b"a\x1dtok\x1d\x1dtoke"
    assert scanner.rest == b"rest"


def test_output_that_is_no_token_is_not_held_back() -> None:
    scanner = _Scanner(b"\x1dtoken")
    assert scanner.feed(b"word") == b"word"
    assert scanner.feed(b"\x1dto") == b"" and scanner.feed(b"x") == b"\x1dtox"


def test_closing_a_channel_wakes_its_reader() -> None:
    theirs_in, ours_in = os.pipe()
    ours_out, theirs_out = os.pipe()
    ours_err, theirs_err = os.pipe()
    channel = PipeChannel(ours_in, ours_out, ours_err)
    with pytest.raises(TimeoutError):
        channel.receive(0.01)
    seen: list[object] = []
    reader = threading.Thread(target=lambda: seen.append(channel.receive()))
    reader.start()
    time.sleep(0.1)
    channel.close()
    channel.close()
    reader.join(10)
    assert seen == [[]]
    for descriptor in (theirs_in, theirs_out, theirs_err):
        os.close(descriptor)
