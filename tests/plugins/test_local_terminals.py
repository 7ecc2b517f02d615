"""Terminals of the local walls, as a person at a terminal of this machine has them (D19)."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import stockade
from stockade import TerminalExecution

STOCKADE = [sys.executable, "-m", "stockade.cli"]
#: A program that says each size that it is notified of.
WATCH = """
import os, signal, time
def resized(*_):
    size = os.get_terminal_size()
    os.write(1, b"now %d %d\\n" % (size.lines, size.columns))
signal.signal(signal.SIGWINCH, resized)
signal.signal(signal.SIGINT, signal.SIG_DFL)
print("watching", flush=True)
while True: time.sleep(0.02)
"""
#: One that runs for long, and says when it does: a key before that is the shell's own.
LONG = "sh -c 'echo begun; exec sleep 1000'"
#: A shell without what readline adds to a line, and files of the shell's own.
BASH = ["bash", "--noprofile", "--norc", "--noediting", "-i"]


class Person:
    """Who sits at a terminal of this machine, in which a program runs."""

    def __init__(self, *argv: str, rows: int = 24, columns: int = 80) -> None:
        self.shown = b""
        self.pid, self._control = pty.fork()
        if self.pid == 0:
            os.execv(argv[0], argv)
        self.resize(rows, columns)

    def resize(self, rows: int, columns: int) -> None:
        size = struct.pack("4H", rows, columns, 0, 0)
        fcntl.ioctl(self._control, termios.TIOCSWINSZ, size)

    def types(self, keys: str) -> None:
        os.write(self._control, keys.encode())

    def pastes(self, data: bytes) -> None:
        """Type all of it, as fast as it is taken, and look at what is shown meanwhile."""
        left = memoryview(data)
        os.set_blocking(self._control, False)
        while left:
            ready = select.select([self._control], [self._control], [], 30)
            assert ready[0] or ready[1], f"{len(left)} bytes of the paste are not taken"
            if ready[0]:
                self.shown = (self.shown + os.read(self._control, 65536))[-4096:]
            if ready[1]:
                left = left[os.write(self._control, left[:4096]) :]
        os.set_blocking(self._control, True)

    def sees(self, words: str, seconds: float = 30) -> bytes:
        """What was shown up to these words, which are what is awaited; they are seen once."""
        deadline = time.monotonic() + seconds
        while words.encode() not in self.shown:
            left = deadline - time.monotonic()
            assert left > 0, f"{words!r} was not shown, but {self.shown!r}"
            if select.select([self._control], [], [], left)[0]:
                with contextlib.suppress(OSError):  # it has hung up
                    piece = os.read(self._control, 65536)
                    self.shown += piece
                    if piece:
                        continue
                assert words.encode() in self.shown, f"it ended, having shown {self.shown!r}"
        before, _, self.shown = self.shown.partition(words.encode())
        return before

    def settings(self) -> list[object]:
        return termios.tcgetattr(self._control)

    def ends(self, seconds: float = 30) -> int:
        """The program's exit code; what it still shows is read."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if select.select([self._control], [], [], 0.02)[0]:
                with contextlib.suppress(OSError):
                    self.shown += os.read(self._control, 65536)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
        raise AssertionError(f"it does not end, having shown {self.shown!r}")

    def leave(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._control)


@contextlib.contextmanager
def at_a_shell(wall: str, *more: str, rows: int = 24, columns: int = 80) -> Iterator[Person]:
    argv = [*STOCKADE, "shell", "-p", wall, "--env", "PS1=ready> ", *more, "--", *BASH]
    person = Person(*argv, rows=rows, columns=columns)
    try:
        person.sees("ready> ")
        yield person
    finally:
        person.leave()


def test_it_is_a_terminal_of_its_own_size(wall: str) -> None:
    with at_a_shell(wall, rows=31, columns=97) as person:
        person.types("test -t 0 && test -t 1 && test -t 2 && tty && stty size\n")
        shown = person.sees("31 97\r\n")
        assert b"/dev/pts/" in shown
        # It follows this one's, and the program in it is notified.
        person.types(f"python3 -c '{WATCH}'\n")
        person.sees("watching\r\n")
        person.resize(40, 132)
        person.sees("now 40 132")
        person.resize(50, 140)
        person.sees("now 50 140")
        person.types("\x03")
        person.sees("ready> ")
        person.types("exit 9\n")
        assert person.ends() == 9


def test_interrupt_quit_and_job_control(wall: str) -> None:
    with at_a_shell(wall) as person:
        person.types(f"{LONG}\n")
        person.sees("begun\r\n")
        person.types("\x03")
        person.sees("ready> ")
        person.types("echo after $?\n")
        person.sees("after 130\r\n")
        person.types(f"{LONG}\n")
        person.sees("begun\r\n")
        person.types("\x1c")
        person.sees("Quit")
        person.types(f"{LONG}\n")
        person.sees("begun\r\n")
        person.types("\x1a")
        person.sees("Stopped")
        person.types("bg; kill -9 %1; wait; jobs; echo none\n")
        person.sees("exec sleep 1000' &\r\n")
        person.sees("none\r\n")
        person.types("cat\n")
        person.types("a line\n")
        person.sees("a line\r\n")
        person.sees("a line\r\n")
        person.types("\x1a")
        person.sees("Stopped")
        person.types("fg\n")
        person.types("another\n")
        # Only who is in the foreground reads it and says it again.
        person.sees("another\r\n")
        person.sees("another\r\n")
        person.types("\x03")
        person.sees("ready> ")
        person.types("echo of fg $?; jobs; echo none\n")
        person.sees("of fg 130\r\nnone\r\n")
        # The end of input ends the shell.
        person.types("\x04")
        assert person.ends() == 0


def test_this_terminal_is_as_it_was_afterwards(wall: str) -> None:
    control = Person(
        "/bin/sh", "-c", f"stty -g; {' '.join(STOCKADE)} shell -p {wall} -- true; stty -g"
    )
    try:
        assert control.ends() == 0
        first, last = control.shown.split()[:1], control.shown.split()[-1:]
        assert first == last, control.shown
    finally:
        control.leave()


#: One that prints for long before it reads, on a terminal that takes every byte as it is.
PRINTS_FIRST = """
import os, sys, tty
tty.setraw(0)
print("pasted", flush=True)
os.read(0, 1)
for _ in range(64): os.write(1, b"x" * 65536)
left = int(sys.argv[1])
while left: left -= len(os.read(0, min(left, 65536)))
os.write(1, b"all of it")
"""


def test_a_paste_waits_for_no_program_that_prints(wall: str) -> None:
    """More on both ways than all that lies between: neither may hold the other up."""
    length = 3 << 20
    argv = [*STOCKADE, "shell", "-p", wall, "--", "python3", "-c", PRINTS_FIRST, str(length)]
    person = Person(*argv)
    try:
        person.sees("pasted")
        person.pastes(b"y" * (length + 1))
        person.sees("all of it")
        assert person.ends() == 0
    finally:
        person.leave()


def test_sigterm_leaves_this_terminal_as_it_was(wall: str) -> None:
    with at_a_shell(wall) as person:
        raw = person.settings()
        os.kill(person.pid, signal.SIGTERM)
        assert person.ends() == 143
        assert person.settings() != raw


def test_typing_passes_whole(wall: str) -> None:
    """A paste, longer than what a terminal takes at once, into a program that reads slowly."""
    text = "".join(f"line {number}\n" for number in range(3000))
    code = (
        "import sys, time\ntime.sleep(0.5)\nlines = sum(1 for line in sys.stdin)\n"
        "print('lines', lines)\n"
    )
    with stockade.open(wall) as session:
        terminal = session.terminal(["python3", "-c", code])
        terminal.write(text.encode())
        terminal.write(b"\x04")
        assert b"lines 3000" in everything(terminal)
        assert terminal.exit_code() == 0
        terminal.close()


def everything(terminal: TerminalExecution) -> bytes:
    shown = b""
    while piece := terminal.read():
        shown += piece
    return shown


def shows(terminal: TerminalExecution, words: bytes) -> bytes:
    shown = b""
    while words not in shown:
        piece = terminal.read()
        assert piece, shown
        shown += piece
    return shown


def test_a_program_has_one(wall: str) -> None:
    with stockade.open(wall) as session:
        terminal = session.terminal(BASH, rows=10, columns=20, env={"PS1": "ready> "})
        shows(terminal, b"ready> ")
        terminal.write(b"stty size\n")
        shows(terminal, b"10 20\r\n")
        terminal.write(f"python3 -c '{WATCH}'\n".encode())
        shows(terminal, b"watching\r\n")
        terminal.resize(11, 21)
        shows(terminal, b"now 11 21")
        terminal.write(b"\x03")
        shows(terminal, b"ready> ")
        terminal.write(f"{LONG}\n".encode())
        shows(terminal, b"begun\r\n")
        terminal.write(b"\x1a")
        shows(terminal, b"Stopped")
        terminal.write(b"kill %1; fg; echo code $?\n")
        shows(terminal, b"code 143")
        # Two at the same time, and an execution beside them.
        other = session.terminal(["sh", "-c", "read x; echo got $x"])
        other.write(b"word\n")
        assert b"got word" in everything(other)
        assert session.run(["echo", "hi"]).stdout == "hi\n"
        other.close()
        terminal.close()
        assert session.run(["pgrep", "-x", "bash"]).stdout == "", "it ends with its terminal"


def test_a_program_has_one_awaited(wall: str) -> None:
    async def work() -> None:
        async with stockade.aio.open(wall) as session:
            terminal = await session.terminal(["sh", "-c", "stty size; read x; stty size; exit 4"])
            shown = await terminal.read()
            await terminal.resize(33, 44)
            await terminal.write(b"x\n")
            while piece := await terminal.read():
                shown += piece
            assert b"24 80" in shown and b"33 44" in shown
            assert await terminal.exit_code() == 4
            await terminal.close()

    asyncio.run(work())


def test_without_a_terminal_it_is_refused_at_once(wall: str) -> None:
    done = subprocess.run(
        [*STOCKADE, "shell", "-p", wall, "--", "touch", "/workspace/x"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert "no terminal" in done.stderr and "stockade run" in done.stderr
