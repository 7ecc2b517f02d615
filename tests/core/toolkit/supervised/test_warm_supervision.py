"""What serves executions withstands their programs, and reports nothing that is untrue."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import time

import pytest

from core.toolkit.supervised.double import ENDED, GONE, TAKEN, Double, message_of
from core.toolkit.supervised.programs import SOURCE
from stockade.toolkit.supervised.warm import BOOT, FRESH, NAMED

MODES = (FRESH, NAMED)
PYTHON = sys.executable
#: Nobody's, and no other run's of these tests.
USER = 41000 + os.getpid() % 20000
BECOMES = f"os.setgroups([]); u = {USER}; os.setresgid(u, u, u); os.setresuid(u, u, u)\n"


def made(mode: str = FRESH) -> Double:
    return Double(PYTHON, BOOT, SOURCE, mode)


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


def wait_for_children(pid: int) -> list[int]:
    until = time.monotonic() + 10
    while not (found := children(pid)):
        assert time.monotonic() < until
        time.sleep(0.005)
    return found


@pytest.mark.parametrize("mode", MODES)
def test_it_leaves_when_nobody_needs_it(mode: str) -> None:
    double = made(mode)
    double.run("x = 1")
    assert os.WIFEXITED(double.close())


@pytest.mark.parametrize("mode", MODES)
def test_a_running_program_is_left_alone_by_that(mode: str) -> None:
    """It is its keeper's, as is whatever it has started."""
    double = made(mode)
    started = double.start(b"import sys, time; print(1, flush=True); time.sleep(300)")
    kind, pid = double.hear()
    assert kind == TAKEN
    assert os.read(started.out, 2) == b"1\n"
    double.socket.close()
    time.sleep(0.2)
    os.kill(pid, 0)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(double.pid, 0)


def test_one_that_waits_may_be_ended() -> None:
    """Then the interpreter ends and reports nothing: no execution was lost."""
    double = made()
    (child,) = wait_for_children(double.pid)
    os.kill(child, signal.SIGKILL)
    assert double.hear() == (GONE, 0)
    double.close()


def test_signals_of_programs_do_not_end_it() -> None:
    names = ["HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "ALRM", "VTALRM", "PROF", "PIPE", "IO"]
    names += ["TSTP", "TTIN", "TTOU", "ABRT"]
    text = "import os, signal\n" + "".join(
        f"os.kill(os.getppid(), signal.SIG{name})\n" for name in names
    )
    for mode in MODES:
        with made(mode) as double:
            assert double.run(text).status == 0
            assert double.run("print(1)").out == b"1\n"


def test_its_programs_have_the_usual_signals() -> None:
    with made() as double:
        text = "import os, time; os.kill(os.getpid(), {}); time.sleep(9)"
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM, signal.SIGRTMIN + 3):
            assert double.run(text.format(int(number))).status == -number


@pytest.mark.parametrize("mode", MODES)
def test_one_that_is_killed_is_said_to_be(mode: str) -> None:
    with made(mode) as double:
        started = double.start(b"import time; time.sleep(300)")
        kind, pid = double.hear()
        assert kind == TAKEN
        os.kill(pid, signal.SIGSTOP)  # a stop is no end
        time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
        assert started.end().said == [(ENDED, signal.SIGKILL)]


@pytest.mark.parametrize("mode", MODES)
def test_a_job_may_come_in_any_pieces(mode: str) -> None:
    with made(mode) as double:
        streams = [os.pipe(), os.pipe(), os.pipe()]
        code = os.memfd_create("code")
        os.write(code, b"import os; print(os.environ['A'])")
        message = message_of("/", (), {"A": "b" * 5000})
        theirs = [streams[0][0], streams[1][1], streams[2][1], code]
        shown = socket.socketpair()
        if mode == NAMED:
            theirs.append(shown[1].fileno())
        double.send(message[:5], theirs)
        for piece in (message[5:12], message[12:13], message[13:4000], message[4000:]):
            time.sleep(0.01)
            double.socket.sendall(piece)
        assert double.hear()[0] == TAKEN
        assert double.hear() == (ENDED, 0)
        assert os.read(streams[1][0], 9999) == b"b" * 5000 + b"\n"
        for descriptor in (code, *(end for both in streams for end in both)):
            os.close(descriptor)
        for end in shown:
            end.close()


BROKEN = {
    "no descriptors": (message_of("/", (), {}), 0),
    "three descriptors": (message_of("/", (), {}), 3),
    "one descriptor more": (message_of("/", (), {}), 5),
    "more than it says": (message_of("/", (), {}) + b"x", 4),
    "no number of texts": (struct.pack("<III", 2, 1, 0) + b"/\0", 4),
    "no end of a text": (struct.pack("<III", 1, 0, 0) + b"/", 4),
    "too long": (struct.pack("<III", 0xFFFFFFFF, 0, 0) + b"/\0", 4),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_job_ends_it(name: str, mode: str) -> None:
    message, count = BROKEN[name]
    double = made(mode)
    nothing = os.open(os.devnull, os.O_RDWR)
    # A named interpreter's has one more, by which it shows values.
    double.send(message, [nothing] * (count + (mode == NAMED and count >= 4)))
    assert double.hear() == (GONE, 0)
    os.close(nothing)
    double.close()


def test_a_process_limit_is_waited_for() -> None:
    """A failed fork is tried again once an execution waits, and ends nothing before that."""
    if os.getuid():
        pytest.skip("to be another user takes root")
    other = (
        "import os, resource, _socket, gc, time\n"  # which another user may not read
        + BECOMES
    )
    limit = "resource.setrlimit(resource.RLIMIT_NPROC, ({0}, {0}))\n"
    with subprocess.Popen(["sleep", "300"], user=USER, cwd="/") as another:
        with Double(PYTHON, other + limit.format(2) + BOOT, SOURCE, FRESH) as double:
            assert not children(double.pid)
            started = double.start(b"print(1)")
            time.sleep(0.3)
            another.kill()
            another.wait()
            assert started.end().out == b"1\n"
    double = Double(PYTHON, other + limit.format(1) + BOOT, SOURCE, FRESH)
    began = time.monotonic()
    assert double.start(b"print(1)").end().said == [(GONE, 0)]
    assert 0.5 < time.monotonic() - began < 5
    double.close()


def test_its_text_fits_into_a_pipe() -> None:
    """By which it starts another interpreter where the system has no file without a folder;
    a pipe holds 64 KiB."""
    assert len(SOURCE) < 56 << 10


@pytest.mark.parametrize("mode", MODES)
def test_it_hides_from_its_programs_and_they_do_not(mode: str) -> None:
    """D16, as far as the Python can make the call; the owner in /proc shows it."""
    if os.getuid():
        pytest.skip("to be another user takes root")
    other = (
        # What another user may not read.
        "import __future__, os, _socket, gc, linecache, time, traceback, _ctypes as c\n"
        + BECOMES
        + "c.call_function(c.dlsym(c.dlopen(None, 0), 'prctl'), (4, 1, 0, 0, 0))\n"  # as it starts
    )
    with Double(PYTHON, other + BOOT, SOURCE, mode) as double:
        started = double.start(b"import time; print(1, flush=True); time.sleep(300)")
        kind, pid = double.hear()
        assert kind == TAKEN and os.read(started.out, 2) == b"1\n"
        owners = [os.stat(f"/proc/{number}/fd").st_uid for number in (double.pid, pid)]
        assert owners == [0, USER]
        os.kill(pid, signal.SIGKILL)
        started.end()
