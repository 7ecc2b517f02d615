"""A lane that its zygote serves alone, spoken to over its own wire, with no engine.

Programs run with no wall here; the mark they carry is one that nothing else has.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from stockade.resident import supervisor
from stockade.resident.script import Job, prepare
from stockade.wall import ExecRequest, Form

#: Far from any real lane's, so that what carries its mark is this test's.
NUMBER = 900 - 1000 + 313
#: As Python was before 3.8.
OLD = "import os; os.__dict__.pop('posix_spawnp', None)\n"


class Served:
    """The host's end of a lane, and the zygote at the other."""

    def __init__(self, before: str = "") -> None:
        self.pipes = [os.pipe() for _ in range(3)]
        (orders, self.orders), (self.out, out), (self.err, err) = self.pipes
        # As the lane's shell leaves it: the wire at 3, 4 and 5, and the mark.
        start = f"""
import fcntl, os
wire = [fcntl.fcntl(d, fcntl.F_DUPFD, 100) for d in ({orders}, {out}, {err})]
for number, descriptor in enumerate(wire, 3):
    os.dup2(descriptor, number)
for number in (6, 7):
    os.dup2(os.open("/dev/null", os.O_RDWR), number)
os.closerange(8, 200)
open("/proc/self/oom_score_adj", "w").write("{900 - NUMBER}")
"""
        self.process = subprocess.Popen(
            [sys.executable, "-c", start + before + supervisor()[1], "", "", str(NUMBER), ""],
            stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, pass_fds=(orders, out, err),
        )  # fmt: skip
        for descriptor in (orders, out, err):
            os.close(descriptor)
        assert self.process.stdin is not None
        self.process.stdin.write(b"h\n")
        self.process.stdin.close()

    def close(self) -> None:
        os.close(self.orders)
        try:
            assert self.process.wait(10) == 0
        finally:
            self.process.kill()
            os.close(self.out)
            os.close(self.err)

    def send(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.orders, data) :]

    def answer(self, token: bytes, seconds: float = 20.0) -> tuple[bytes, bytes, list[bytes]]:
        """What came before the token on both streams, and the words after it."""
        said = {self.out: b"", self.err: b""}
        until = time.monotonic() + seconds
        while token not in said[self.err] or b"\n" not in said[self.out].partition(token)[2]:
            ready, _, _ = select.select(list(said), [], [], max(0, until - time.monotonic()))
            assert ready, said
            for descriptor in ready:
                part = os.read(descriptor, 65536)
                assert part, said
                said[descriptor] += part
        out, _, words = said[self.out].partition(token)
        return out, said[self.err].partition(token)[0], words.split()

    def run(self, job: Job) -> tuple[int, bytes, bytes]:
        head, stdin = job.order(b"TOKEN", served=True)
        self.send(head + stdin)
        out, err, words = self.answer(b"TOKEN")
        self.send(b"e\n")
        status = int(words[0])
        return (-(status - 128) if words[1] == b"1" else status), out, err


@pytest.fixture(params=["", OLD], ids=["spawned", "forked"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    lane = Served(request.param)
    yield lane
    lane.close()


def job(form: Form = Form.ARGV, **more: Any) -> Job:
    """As for a wall whose interpreter is warm."""
    more = {"working_dir": "/tmp", **more}
    if form is Form.CODE:
        more["language"] = "python"
    request = ExecRequest(execution_id="e", form=form, **more)
    return prepare(request, warm=form is Form.CODE)


def test_programs_and_lines(served: Served) -> None:
    assert served.run(job(argv=("echo", "a b", ""))) == (0, b"a b \n", b"")
    assert served.run(job(Form.SHELL, script="pwd; exit 3")) == (3, b"/tmp\n", b"")
    assert served.run(job(argv=("sh", "-c", "kill -9 $$")))[0] == -9
    assert served.run(job(argv=("sh", "-c", "kill -2 $$")))[0] == -2
    assert served.run(job(argv=("sh", "-c", "exit 137")))[0] == 137
    assert served.run(job(argv=("nope",))) == (127, b"", b"sh: 1: exec: nope: not found\n")
    status, _, err = served.run(job(argv=("/tmp",)))
    assert (status, err) == (126, b"sh: 1: exec: /tmp: Permission denied\n")
    text = b"x" * 300_000
    assert served.run(job(argv=("cat",), stdin=text)) == (0, text, b"")
    assert served.run(job(argv=("true",), stdin=text))[0] == 0
    line = f"x={'y' * 200_000}; echo ${{#x}}; cat"
    assert served.run(job(Form.SHELL, script=line, stdin=b"in")) == (0, b"200000\nin", b"")


def test_a_script_without_a_shebang(served: Served, tmp_path: Any) -> None:
    script = tmp_path / "plain"
    script.write_text("echo $0 $*\n")
    script.chmod(0o755)
    env = {"PATH": f"/nope:{tmp_path}:/usr/bin:/bin"}
    assert served.run(job(argv=("plain", "a"), env=env))[1] == f"{script} a\n".encode()
    script.write_text("#!/nope\n")
    assert served.run(job(argv=(str(script),)))[0] == 127


def test_programs_start_as_from_a_shell(served: Served) -> None:
    look = "cat /proc/self/status | grep -E '^Sig(Blk|Ign|Cgt)'; ls /proc/self/fd"
    _, out, _ = served.run(job(argv=("sh", "-c", look)))
    lines = out.decode().split("\n")
    masks = {line.split()[0]: int(line.split()[1], 16) for line in lines[:3]}
    masks["SigIgn:"] &= ~(3 << 31)  # glibc ignores its own two in what it spawns
    assert masks == {"SigBlk:": 0, "SigIgn:": 0, "SigCgt:": 0}
    assert lines[3:] == ["0", "1", "2", "3", ""]  # the last is ls's own
    _, out, _ = served.run(job(argv=("env",), env={"A": "1"}))
    names = {line.partition(b"=")[0] for line in out.splitlines()}
    assert {b"A", b"PWD", b"OLDPWD"} <= names
    assert ("LC_CTYPE" in os.environ) == (b"LC_CTYPE" in names)


def test_code(served: Served) -> None:
    for pause in (0.0, 0.1, 0.1):  # forked when it is asked for, and ahead
        time.sleep(pause)
        text = "import os, sys; print(os.getcwd(), os.environ.get('A'), sys.stdin.read())"
        code = job(Form.CODE, script=text, env={"A": "1"}, stdin=b"in")
        assert served.run(code) == (0, b"/tmp 1 in\n", b"")
        time.sleep(pause)
        assert served.run(job(Form.CODE, script=text)) == (0, b"/tmp None \n", b"")
        time.sleep(pause)
        look = "import os; print(sorted(os.listdir('/proc/self/fd')), os.getsid(0) == os.getpid())"
        assert served.run(job(Form.CODE, script=look))[1] == b"['0', '1', '2', '3'] True\n"
    assert served.run(job(Form.CODE, script="raise SystemExit(5)"))[0] == 5
    assert served.run(job(Form.CODE, script="import os; os.kill(os.getpid(), 9)"))[0] == -9


LOOK = "import os, sys; print(sorted(os.listdir('/proc/self/fd')), sys.stdin.read())"
FOUND = (0, b"['0', '1', '2', '3'] in\n", b"")


def test_in_a_pause_the_next_is_forked_ahead(served: Served) -> None:
    for _ in range(2):
        served.run(job(Form.CODE, script="1"))
        assert reaches(2)
    for _ in range(5):  # each with nothing of the others
        assert served.run(job(Form.CODE, script=LOOK, stdin=b"in")) == FOUND
    assert reaches(2)
    for pid in _marked():
        if pid != served.process.pid:
            os.kill(pid, 9)
    assert reaches(1)
    assert served.run(job(Form.CODE, script=LOOK, stdin=b"in")) == FOUND
    assert reaches(2)
    head, stdin = job(Form.CODE, script="import time; time.sleep(616)").order(b"L", served=True)
    served.send(head + stdin)
    time.sleep(0.3)
    served.send(b"k\n")
    assert served.answer(b"L")[2][:2] == [b"137", b"1"]
    served.send(b"e\n")
    assert served.run(job(Form.CODE, script=LOOK, stdin=b"in")) == FOUND


def test_a_named_interpreter(served: Served) -> None:
    cell: dict[str, Any] = {"form": Form.CODE, "state": "a"}
    assert served.run(job(**cell, script="n = 1"))[0] == 0
    time.sleep(0.1)
    assert served.run(job(**cell, script="print(n, input())", stdin=b"in\n"))[1] == b"1 in\n"
    assert served.run(job(Form.CODE, script="print('n' in globals())"))[1] == b"False\n"
    for pause in (0.0, 0.1):  # whoever runs code has none of its descriptors
        time.sleep(pause)
        assert served.run(job(Form.CODE, script=LOOK, stdin=b"in")) == FOUND
    look = "import signal; print(signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL)"
    assert served.run(job(**cell, script=look))[1] == b"True\n"
    assert served.run(job(**cell, script="import os; os.kill(os.getpid(), 9)"))[0] == -9
    assert served.run(job(**cell, script="print('n' in globals())"))[1] == b"False\n"


def test_a_tree_is_ended_while_it_runs(served: Served) -> None:
    for one in (
        job(Form.SHELL, script="setsid sh -c 'setsid sleep 613 & sleep 613' & sleep 613"),
        job(Form.CODE, script="import time; time.sleep(613)"),
        job(Form.CODE, script="import time; time.sleep(613)", state="a"),
        job(argv=("sleep", "613"), stdin=b"x" * 1000),
    ):
        for pause in (0.3, 0.0):  # the order is read with the job, too
            head, stdin = one.order(b"TOKEN", served=True)
            served.send(head + stdin + (b"" if pause else b"k\n"))
            if pause:
                time.sleep(pause)
                served.send(b"k\n")
            assert served.answer(b"TOKEN")[2][:2] == [b"137", b"1"]
            served.send(b"e\nc COUNT 0 0\n")
            assert served.answer(b"COUNT")[2] == [b"0"]
    assert served.run(job(argv=("echo", "on")))[1] == b"on\n"


def test_what_is_left_behind_is_counted_and_lives_on_when_the_host_goes() -> None:
    lane = Served()
    try:
        lane.run(job(Form.SHELL, script="sleep 614 >/dev/null 2>&1 & echo $!"))
        lane.send(b"c COUNT 0 0\n")
        assert lane.answer(b"COUNT")[2] == [b"1"]
    finally:
        lane.close()
    (left,) = _marked()
    os.kill(left, 9)


def test_what_runs_ends_when_the_host_goes() -> None:
    lane = Served()
    head, stdin = job(argv=("sleep", "615")).order(b"TOKEN", served=True)
    lane.send(head + stdin)
    time.sleep(0.3)
    lane.close()
    end = time.monotonic() + 5
    while time.monotonic() < end and _marked():
        time.sleep(0.05)
    assert not _marked()


def test_nothing_is_ready_ahead_when_told_so(served: Served) -> None:
    served.run(job(Form.CODE, script="1"))
    assert reaches(2)  # the zygote, and who waits for code
    served.send(b"n - 0 0\ny HAIL 0 0\n")
    assert len(served.answer(b"HAIL")[2]) > 4
    assert _marked() == [served.process.pid]
    assert served.run(job(Form.CODE, script="print(1)"))[1] == b"1\n"


def reaches(count: int) -> bool:
    """Whether there come to be so many processes of the lane."""
    end = time.monotonic() + 10
    while len(_marked()) != count and time.monotonic() < end:
        time.sleep(0.02)
    return len(_marked()) == count


def _marked() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _is_ours(int(name))]


def _is_ours(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/oom_score_adj") as file:
            marked = int(file.read()) == 900 - NUMBER
        with open(f"/proc/{pid}/stat") as file:
            return marked and file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
