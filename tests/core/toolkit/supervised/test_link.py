"""Executions over a link to a real supervisor: exact ends, streams, trees, terminals."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from stockade.executions._output import BoundedOutput
from stockade.results import Stream
from stockade.toolkit.supervised import Link, LinkLost, StartRequest
from stockade.toolkit.supervised.ends import End, FailedToStart, Failure
from stockade.toolkit.supervised.execution import LinkExecution
from stockade.toolkit.supervised.frames import Decoder, Encoder, FrameError, Kind
from stockade.toolkit.supervised.request import Flag
from stockade_supervisor import UnknownMachineError, binary

MIB = 1 << 20


def run(
    link: Link,
    request: StartRequest,
    stdin: bytes = b"",
    limit: int = MIB,
    kill_after: float | None = None,
) -> tuple[End | FailedToStart, BoundedOutput]:
    output = BoundedOutput(limit)
    execution = link.start(request, output, stdin)
    if kill_after is not None:
        threading.Timer(kill_after, execution.kill).start()
    end = execution.wait(lambda: None)
    link.forget(execution)
    return end, output


def status(end: End | FailedToStart) -> int:
    assert isinstance(end, End), end
    return os.waitstatus_to_exitcode(end.status)


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 143"], 143),
        (["sh", "-c", "kill -9 $$"], -signal.SIGKILL),
        (["sh", "-c", "kill -INT $$"], -signal.SIGINT),
        (["sh", "-c", "kill -PIPE $$"], -signal.SIGPIPE),
        (["no such program"], 127),
        (["/etc/passwd"], 126),
    ],
)
def test_ends_arrive_exact(link: Link, argv: list[str], code: int) -> None:
    """D2"""
    assert status(run(link, StartRequest(argv=argv))[0]) == code


def test_input_of_any_size_arrives_and_an_unread_one_holds_nobody_back(link: Link) -> None:
    """D8"""
    data = os.urandom(MIB) * 10
    end, output = run(link, StartRequest(argv=["cat"]), data, limit=20 * MIB)
    assert status(end) == 0 and output.data(Stream.STDOUT) == data
    assert status(run(link, StartRequest(argv=["true"]), data)[0]) == 0


def test_both_streams_are_apart_bounded_and_counted(link: Link) -> None:
    """D4, D5"""
    line = "head -c 5000000 /dev/zero; printf 'a\\0\\377' >&2"
    end, output = run(link, StartRequest(argv=["sh", "-c", line]), limit=1000)
    assert status(end) == 0
    assert output.total(Stream.STDOUT) == 5_000_000 and len(output.data(Stream.STDOUT)) == 1000
    assert output.data(Stream.STDERR) == b"a\0\xff"


def test_a_text_is_on_descriptor_9_and_the_input_stays_the_programs_own(link: Link) -> None:
    """D10"""
    blob = b"#" * MIB + b"\ncat; exit 7\n"
    request = StartRequest(argv=["sh", "-c", ". /proc/self/fd/9", "sh"], blob=blob)
    end, output = run(link, request, b"input")
    assert status(end) == 7 and output.data(Stream.STDOUT) == b"input"


def test_environment_and_folder(link: Link) -> None:
    """D9"""
    request = StartRequest(
        argv=["env"],
        cwd="/usr",
        env={"A": "x y", "a-b": "any name"},
    )
    found = run(link, request)[1].data(Stream.STDOUT)
    assert b"A=x y\n" in found and b"a-b=any name\n" in found
    assert run(link, StartRequest(argv=["pwd"], cwd="/usr"))[1].data(Stream.STDOUT) == b"/usr\n"
    end, _ = run(link, StartRequest(argv=["true"], cwd="/no/such"))
    assert isinstance(end, FailedToStart) and end.why == Failure.NO_FOLDER


def test_the_whole_tree_ends(link: Link) -> None:
    """D6"""
    mark = f"32{os.getpid()}"
    line = (
        f"sleep {mark} & setsid sleep {mark} & "
        f"(setsid sh -c 'sleep {mark} & exec sleep {mark}' &) ; "
        f"(trap '' TERM; sleep {mark}) & sleep {mark}"
    )
    began = time.monotonic()
    end, _ = run(link, StartRequest(argv=["sh", "-c", line]), kill_after=0.3)
    assert status(end) == -signal.SIGKILL and time.monotonic() - began < 1.3
    found = subprocess.run(["pgrep", "-f", f"sleep {mark}"], capture_output=True, check=False)
    assert found.stdout == b""


def test_a_child_that_holds_the_output_holds_nobody_back(link: Link) -> None:
    """D7"""
    began = time.monotonic()
    end, output = run(link, StartRequest(argv=["sh", "-c", "sleep 2 & echo done"]))
    assert status(end) == 0 and output.data(Stream.STDOUT) == b"done\n"
    assert time.monotonic() - began < 1.5


def test_a_slow_reader_holds_back_its_own_program_alone(link: Link) -> None:
    """D13"""
    slow = BoundedOutput(1000, live=True)
    execution = link.start(StartRequest(argv=["head", "-c", "30000000", "/dev/zero"]), slow)
    waiting = threading.Thread(target=execution.wait, args=(lambda: None,))
    waiting.start()
    assert status(run(link, StartRequest(argv=["true"]))[0]) == 0
    assert not execution.over
    execution.kill()
    slow.release()
    waiting.join(5)
    assert execution.over


def test_input_stays_open(link: Link) -> None:
    """D17"""
    output = BoundedOutput(MIB)
    line = "echo up; while read x; do echo got $x; done; echo end"
    execution = link.start(StartRequest(argv=["sh", "-c", line]), output, None)
    execution.write(b"one\n")
    _until(lambda: b"got one" in output.data(Stream.STDOUT))
    execution.write(b"two\n")
    _until(lambda: b"got two" in output.data(Stream.STDOUT))
    execution.feed(b"", end=True)
    assert status(execution.wait(lambda: None)) == 0
    assert output.data(Stream.STDOUT) == b"up\ngot one\ngot two\nend\n"


def test_signals_arrive(link: Link) -> None:
    """D18: also one that is sent before the program has started."""
    output = BoundedOutput(MIB)
    line = "trap 'echo heard; exit 7' USR1; echo up; while :; do sleep 0.02; done"
    execution = link.start(StartRequest(argv=["sh", "-c", line]), output)
    _until(lambda: b"up" in output.data(Stream.STDOUT))
    execution.signal(signal.SIGUSR1)
    assert status(execution.wait(lambda: None)) == 7
    assert output.data(Stream.STDOUT) == b"up\nheard\n"
    early = link.start(StartRequest(argv=["sleep", "60"]), output)
    early.signal(signal.SIGTERM, group=True)
    assert status(early.wait(lambda: None)) == -signal.SIGTERM


def test_a_terminal(link: Link) -> None:
    """D19"""
    output = BoundedOutput(MIB)
    line = "tty; stty size; read x; stty size; kill -s TSTP 0; echo $x"
    request = StartRequest(argv=["sh", "-c", line], flags=Flag.PTY, rows=33, columns=101)
    execution = link.start(request, output, None)
    _until(lambda: b"33 101" in output.data(Stream.STDOUT))
    execution.resize(40, 90)
    execution.write(b"hello\n")
    _until(lambda: b"40 90" in output.data(Stream.STDOUT))
    execution.kill()
    execution.wait(lambda: None)
    assert b"/dev/pts/" in output.data(Stream.STDOUT)


def test_many_at_once_never_mix(link: Link) -> None:
    """D11"""
    results: dict[int, bytes] = {}

    def one(number: int) -> None:
        request = StartRequest(
            argv=["sh", "-c", f"for i in 1 2 3 4 5; do echo {number}; done; cat"]
        )
        results[number] = run(link, request, b"%d" % number)[1].data(Stream.STDOUT)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == {n: b"%d\n" % n * 5 + b"%d" % n for n in range(40)}


def test_a_command_of_its_own(link: Link) -> None:
    found = bytearray()
    code, _ = link.builtin(["which", "sh", "no-such"], receive=found.extend, timeout=5)
    assert (code, bytes(found)) == (0, b"sh\n")


def test_who_waits_hears_of_the_links_end(link: Link) -> None:
    """D14"""
    output = BoundedOutput(MIB)
    execution: LinkExecution = link.start(StartRequest(argv=["sleep", "60"]), output)
    link.close()
    with pytest.raises(LinkLost):
        execution.wait(lambda: None)
    with pytest.raises(LinkLost):
        link.start(StartRequest(argv=["true"]), output)


def test_an_architecture_that_is_not_shipped_is_named() -> None:
    assert binary("amd64") == binary("x86_64")
    with pytest.raises(UnknownMachineError, match="sparc64.*build one"):
        binary("sparc64")


class TestFrames:
    """D16: what is not the supervisor's is noticed."""

    def frames(self) -> bytes:
        encoder = Encoder()
        return encoder.frame(Kind.OUTPUT, 1, b"one") + encoder.frame(Kind.OUTPUT, 1, b"two")

    def test_whole_and_in_pieces(self) -> None:
        data = self.frames()
        decoder = Decoder(0)
        found = [frame for byte in data for frame in decoder.feed(bytes([byte]))]
        assert [frame.body for frame in found] == [b"one", b"two"]

    def test_another_secret(self) -> None:
        with pytest.raises(FrameError, match="not the supervisor's"):
            list(Decoder(7).feed(self.frames()))

    def test_a_frame_that_somebody_took_away(self) -> None:
        data = self.frames()
        with pytest.raises(FrameError):
            list(Decoder(0).feed(data[len(data) // 2 :]))

    def test_a_length_that_no_frame_has(self) -> None:
        with pytest.raises(FrameError, match="the most"):
            list(Decoder(0).feed(b"\xff\xff\xff\xff" + self.frames()[4:]))


def _until(true: object) -> None:
    assert callable(true)
    until = time.monotonic() + 10
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_E4_programs_leave_room_for_the_next_one(link: Link) -> None:
    """At the process limit the supervisor still has two more than they."""
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
    # Earlier tests may have left children of their own; the newest supervisor is this link's.
    serving = [pid for pid in children if b"\0serve\0" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    limit = "Max processes"
    resource.prlimit(int(serving[-1]), resource.RLIMIT_NPROC, (5000, 5000))
    run(link, StartRequest(argv=["true"]))  # by the keeper that was waiting when there was no limit
    time.sleep(0.1)
    end, output = run(link, StartRequest(argv=["grep", limit, "/proc/self/limits"]))
    assert status(end) == 0
    assert output.data(Stream.STDOUT).split()[2:4] == [b"4998", b"4998"]
