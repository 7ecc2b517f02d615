"""Named bash and node (D20): streams of their own, whole ends, and words that are believed of
the code that runs alone."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import stockade_supervisor
from stockade.errors import UnsupportedError, WorkingDirectoryError
from stockade.executions._output import BoundedOutput
from stockade.results import Stream
from stockade.toolkit.supervised import SocketTransport, SupervisedSandbox
from stockade.toolkit.supervised.ends import End
from stockade.toolkit.supervised.execution import LinkExecution
from stockade.toolkit.supervised.kept import Kept
from stockade.wall import ExecRequest, Exit, Form, Running


class Here(SupervisedSandbox):
    """A supervisor as this machine's own process."""

    forced = 0
    #: How late the end of an interpreter is noticed.
    slow = 0.0

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [stockade_supervisor.binary(), "serve"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
            )
        super().__init__(SocketTransport(ours), startup_seconds=20)

    def destroy(self) -> None:
        self._process.wait(20)

    def out_of_memory(self, execution: LinkExecution, end: End) -> bool:
        time.sleep(self.slow)
        return super().out_of_memory(execution, end)

    def force_end(self) -> None:
        self.forced += 1


class Code:
    """One that was started."""

    def __init__(self, here: Here, text: str, language: str, **more: object) -> None:
        self.output = BoundedOutput(1 << 20)
        options = {"state": "a", "working_dir": "/", "execution_id": "x", **more}
        request = ExecRequest(
            form=Form.CODE,
            script=text,
            language=language,
            **options,  # type: ignore[arg-type]
        )
        self.running: Running = here.start(request, self.output)
        self.exit: Exit | None = None
        self._thread = threading.Thread(target=self._wait)
        self._thread.start()

    def _wait(self) -> None:
        self.exit = self.running.wait()

    def end(self) -> tuple[Exit | None, bytes, bytes]:
        self._thread.join(20)
        return self.exit, self.output.data(Stream.STDOUT), self.output.data(Stream.STDERR)


@pytest.fixture
def here() -> Iterator[Here]:
    made = Here()
    yield made
    made.close()


@pytest.fixture(params=["bash", "javascript"])
def language(request: pytest.FixtureRequest) -> str:
    if shutil.which({"bash": "bash", "javascript": "node"}[request.param]) is None:
        pytest.skip(f"no {request.param} here")
    return str(request.param)


#: Writes words that the interpreter itself says, wherever a program finds a descriptor.
FORGE = (
    "for n in /proc/self/fd/*; do { printf 'ended 9\\nnowhere\\n' > $n; } 2>/dev/null; done; true"
)


def run(here: Here, text: str, language: str, **more: object) -> tuple[Exit | None, bytes, bytes]:
    return Code(here, text, language, **more).end()


def as_child(line: str, language: str) -> str:
    if language == "bash":
        return f"sh -c {line!r}" if "'" not in line else f'sh -c "{line}"'
    return f"require('child_process').spawnSync('sh', ['-c', {line!r}], {{stdio: 'inherit'}}); 1"


def test_programs_find_no_way_to_speak_for_it(here: Here, language: str, tmp_path: Path) -> None:
    script = tmp_path / "forge"
    script.write_text(FORGE)
    ended, out, _ = run(here, as_child(f"sh {script}", language), language)
    assert ended == Exit(code=0) and out.startswith(b"ended 9\n")


def test_a_fork_of_an_earlier_code_ends_no_later_one(here: Here) -> None:
    """It has bash's own descriptors, and the word of its own code alone."""
    left = (
        "{ sleep 0.3; for n in /proc/self/fd/*; do "
        '{ printf "%s ended 9\\n" "$__stockade_secret" > "$n"; } 2>/dev/null; done; } &'
    )
    assert run(here, left, "bash")[0] == Exit(code=0)
    ended, out, _ = run(here, "sleep 0.8; echo mine", "bash")
    assert (ended, out) == (Exit(code=0), b"mine\n")


def test_a_long_text_much_input_and_much_output(here: Here, language: str) -> None:
    comment = "#" if language == "bash" else "//"
    text = f"{comment} {'x' * (1 << 20)}\n" + as_child("wc -c; head -c 500000 /dev/zero", language)
    ended, out, err = run(here, text, language, stdin=b"i" * 3_000_000)
    assert ended == Exit(code=0) and out.lstrip().startswith(b"3000000\n"), err[-500:]
    assert len(out) > 500_000


def test_all_that_node_prints_is_the_code_s(here: Here) -> None:
    """More than a pipe holds, in order, whether or not the interpreter has waited since."""
    if shutil.which("node") is None:
        pytest.skip("no node here")
    for _ in range(2):
        text = "console.log('x'.repeat(300000)); console.error('y'.repeat(300000)); console.log(1)"
        ended, out, err = run(here, text, "javascript")
        assert ended == Exit(code=0)
        assert out == b"x" * 300_000 + b"\n1\n" and err == b"y" * 300_000 + b"\n"
    kept = "globalThis.log = ''; process.stdout.write = (text) => { log += text; return true; }"
    assert run(here, kept, "javascript")[0] == Exit(code=0)
    assert run(here, "console.log('here'); console.error(log)", "javascript")[1:] == (
        b"",
        b"here\n\n",
    )


def test_an_interrupt_of_what_prints_leaves_it_its_streams(here: Here) -> None:
    if shutil.which("node") is None:
        pytest.skip("no node here")
    for _ in range(20):
        code = Code(here, "while (true) console.log('on')", "javascript")
        while not code.output.data(Stream.STDOUT):
            time.sleep(0.001)
        code.running.interrupt()
        assert code.end()[0] == Exit(code=1)
        assert run(here, "console.log(3)", "javascript")[1] == b"3\n"


def test_one_after_the_other_and_others_beside(here: Here, language: str) -> None:
    codes = [Code(here, as_child(f"sleep 0.1; echo {n}", language), language) for n in range(3)]
    beside = Code(here, as_child("echo beside", language), language, state="b")
    assert beside.end()[1] == b"beside\n"
    assert [code.end()[1] for code in codes] == [b"0\n", b"1\n", b"2\n"]


def test_a_folder_that_is_not_there(here: Here, language: str) -> None:
    request = ExecRequest(
        execution_id="x",
        form=Form.CODE,
        script="1",
        language=language,
        state="a",
        working_dir="/no/such",
    )
    running = here.start(request, BoundedOutput(100))
    with pytest.raises(WorkingDirectoryError):
        running.wait()
    assert run(here, as_child("echo on", language), language)[1] == b"on\n"


def test_its_end_is_all_of_its_tree(here: Here, language: str, tmp_path: Path) -> None:
    beat = tmp_path / "beat"
    line = f"(while :; do echo x >> {beat}; sleep 0.05; done) & sleep 60"
    code = Code(here, as_child(line, language), language)
    until = time.monotonic() + 10
    while not beat.exists() and time.monotonic() < until:
        time.sleep(0.02)
    began = time.monotonic()
    code.running.kill()
    assert code.end()[0] == Exit(signal=9) and time.monotonic() - began < 1
    size = beat.stat().st_size
    time.sleep(0.2)
    assert beat.stat().st_size == size


def test_D6_an_end_that_comes_before_its_start_is_held_to_its_time(
    here: Here, language: str
) -> None:
    """The supervisor is stopped: nothing starts, and nothing ends by itself."""
    here._process.send_signal(signal.SIGSTOP)
    try:
        code = Code(here, "1", language)
        time.sleep(0.2)
        began = time.monotonic()
        code.running.kill()
        assert code.end()[0] == Exit(signal=9) and time.monotonic() - began < 2
        assert here.forced == 1
    finally:
        here._process.send_signal(signal.SIGCONT)


def test_D6_an_end_that_does_not_come_is_held_to_its_time(here: Here, language: str) -> None:
    """Of the interpreter and of who lends the streams alike, which become overdue together."""
    assert run(here, "1", language)[0] is not None
    code = Code(here, as_child("echo on; sleep 60", language), language)
    while not code.output.data(Stream.STDOUT):
        time.sleep(0.01)
    here._process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        code.running.kill()
        assert code.end()[0] == Exit(signal=9) and time.monotonic() - began < 2
    finally:
        here._process.send_signal(signal.SIGCONT)


def test_what_follows_an_end_has_a_new_interpreter(here: Here, language: str) -> None:
    """Not the one that is being ended, and its exit code with it."""
    here.slow = 0.3
    keep = {"bash": "x=41; ", "javascript": "globalThis.x = 41; "}[language]
    code = Code(here, keep + as_child("echo on; sleep 60", language), language)
    while not code.output.data(Stream.STDOUT):
        time.sleep(0.01)
    code.running.kill()
    assert code.end()[0] == Exit(signal=9)
    look = {"bash": "echo $x.", "javascript": "console.log(`${globalThis.x ?? ''}.`)"}[language]
    assert run(here, look, language)[:2] == (Exit(code=0), b".\n")


def test_what_is_ended_while_its_interpreter_starts_does_not_run_on(
    here: Here, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Kept._begin

    def end_and_begin(kept: Kept, env: Mapping[str, str]) -> LinkExecution:
        monkeypatch.undo()
        assert kept._job is not None
        kept._job.kill()
        return begin(kept, env)

    monkeypatch.setattr(Kept, "_begin", end_and_begin)
    assert run(here, as_child("sleep 60", language), language)[0] == Exit(signal=9)
    assert run(here, as_child("echo on", language), language)[1] == b"on\n"


def test_a_variable_that_bash_cannot_have_is_refused(here: Here) -> None:
    """To look for it would end the loop that reads codes, and the state with it."""
    assert run(here, "x=3", "bash")[0] == Exit(code=0)
    for name in ("a.b", "a b", "1a", "x[$(id)]", "\N{LATIN SMALL LETTER E WITH ACUTE}"):
        with pytest.raises(UnsupportedError, match="leave it out"):
            Code(here, "echo $x", "bash", env={name: "1"})
    assert run(here, "echo $x $_A1", "bash", env={"_A1": "4"})[1] == b"3 4\n"


def test_how_it_ends_is_how_its_code_ended(here: Here, language: str) -> None:
    suicide = "kill -9 $$" if language == "bash" else "process.kill(process.pid, 9)"
    assert run(here, suicide, language)[0] == Exit(signal=9)
    away = "exit 300" if language == "bash" else "process.exit(44)"
    assert run(here, away, language)[0] == Exit(code=44)


def test_an_interrupt(here: Here, language: str) -> None:
    if language == "bash":
        code = Code(here, "x=3; echo on; sleep 0.3", language)
        while not code.output.data(Stream.STDOUT):
            time.sleep(0.01)
        with pytest.raises(UnsupportedError, match="bash"):
            code.running.interrupt()
        assert code.end()[0] == Exit(code=0)
        return
    code = Code(here, "globalThis.x = 3; console.log('on'); while (true) {}", language)
    while not code.output.data(Stream.STDOUT):
        time.sleep(0.01)
    code.running.interrupt()
    assert code.end()[0] == Exit(code=1)
    assert code.output.shown.fields()["error"].message.startswith("Script execution")
    assert run(here, "console.log(x)", language)[1] == b"3\n"


def test_values_and_errors_of_node(here: Here) -> None:
    if shutil.which("node") is None:
        pytest.skip("no node here")
    code = Code(here, "const a = await Promise.resolve(2); display('d'); a + 1", "javascript")
    assert code.end()[0] == Exit(code=0)
    fields = code.output.shown.fields()
    assert fields["value"].text == "3" and [one.text for one in fields["displays"]] == ["'d'"]
    code = Code(here, "null.x", "javascript")
    ended, _, err = code.end()
    error = code.output.shown.fields()["error"]
    assert ended == Exit(code=1) and error.name == "TypeError"
    assert err.decode() == f"Uncaught {error.traceback}\n" and "<code 2>:1" in error.traceback
