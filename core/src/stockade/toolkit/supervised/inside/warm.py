"""A warm interpreter: it waits for executions on a socket, and runs each as a new one would.

The supervisor starts it with the socket on descriptor 3 and this text on descriptor 4, as
one of these:

- ``fresh`` forks a child ahead. The child itself takes the next execution from the socket and
  is the program; nothing of an earlier one is in it.
- ``named`` forks an interpreter that keeps its variables (named.py), and hands executions on.
- ``kept`` is that interpreter, where it has to be started and cannot be forked.

An execution arrives as a head (three numbers: the length of what follows, how many arguments,
how many variables) and NUL-ended texts: the working folder, the arguments, ``NAME=value``.
With its first bytes come four descriptors: the three standard streams and the code; a named
interpreter gets a fifth, for what its code shows. Each answer is a kind and a value.
"""

import _signal  # type: ignore[import-not-found]
import _socket
import gc
import os
import sys
import time

from stockade.lowering.inside.program import CODE, NAME, execute, from_others, new_main, read_code
from stockade.toolkit.supervised.inside.boot import BOOT_COLD
from stockade.toolkit.supervised.inside.children import Children
from stockade.toolkit.supervised.inside.ending import KNOWN, attempt, exit_status, leave
from stockade.toolkit.supervised.inside.surroundings import (
    RULESET,
    Sites,
    apart,
    dumpable,
    forget_missing,
    make_streams,
    make_streams_ahead,
    set_variables,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    NAMED: str  # named.py, which is compiled where it is used

    def run_named(mode: str, host: _socket.socket, warm: "WarmInterpreter") -> int: ...  # in NAMED

    COLD: str  # what a new interpreter runs code with

HOST, SOURCE = 3, 4
READY, TAKEN, ENDED, NOWHERE = 1, 2, 3, 4
HEAD_BYTES, MOST_BYTES = 12, 64 << 20
#: Except three that C libraries keep for their own use.
SIGNALS = frozenset(range(1, 32)) | frozenset(range(35, 65))
#: A program that uses a little of everything that compiles and runs one.
SAMPLE = """
import sys
class C:
    def f(self, *a): return [b for b in a if b]
for _ in (1, 2):
    try:
        "%s" % C().f(1, 0).missing
    except (AttributeError, KeyError) as error:
        str(error)
"""
#: Seconds. An execution that comes so soon after the one before is one of a row: the next
#: child is forked while it runs. Else nobody waits for that, and a program finds one process
#: less in use.
ROW_SECONDS = 0.1


class Execution:
    """What is to be run, and its descriptors: standard input, output, error, the code, and of a
    named interpreter's what it shows."""

    def __init__(self, message: bytes, descriptors: "list[int]") -> None:
        self.message = message
        parts = message[HEAD_BYTES:].split(b"\0")
        counts = number(message, 4), number(message, 8)
        if len(parts) != sum(counts) + 2 or parts[-1]:
            os._exit(2)
        self.folder = parts[0]
        #: A cold start's: the interpreter, ``-c``, its text, and what the program gets.
        self.arguments = [os.fsdecode(part) for part in parts[1 : counts[0] + 1]]
        self.variables = parts[counts[0] + 1 : -1]
        self.descriptors = descriptors

    def enter(self, connection: "_socket.socket") -> bool:
        """Go to the working folder, and report if that is impossible."""
        try:
            os.chdir(self.folder)
        except OSError as error:
            say(connection, NOWHERE, error.errno or 0)
            return False
        return True

    def settle(self) -> None:
        """Put the descriptors where programs have them; the code is no program's."""
        for number in (0, 1, 2):
            os.dup2(self.descriptors[number], number)
        if self.descriptors[3] != CODE:
            os.dup2(self.descriptors[3], CODE, False)


def say(connection: "_socket.socket", kind: int, value: int) -> None:
    connection.sendall(kind.to_bytes(4, "little") + value.to_bytes(4, "little"))


def number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def take(connection: "_socket.socket", count: int = 4) -> Execution:
    """The next execution, with so many descriptors. Ends this process at the end of input, and
    at malformed input."""
    data, extra, flags, _ = connection.recvmsg(
        1 << 16, _socket.CMSG_SPACE(4 * count), _socket.MSG_CMSG_CLOEXEC
    )
    parts = [data]
    while data and len(data) < HEAD_BYTES:
        data += received(connection, HEAD_BYTES - len(data))
        parts = [data]
    if not data:
        os._exit(0)
    left = HEAD_BYTES + number(data, 0) - len(data)
    descriptors = [
        int.from_bytes(packed[at : at + 4], sys.byteorder)
        for level, kind, packed in extra
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS)
        for at in range(0, len(packed) - 3, 4)
    ]
    if not 0 <= left <= MOST_BYTES or len(descriptors) != count or flags & _socket.MSG_CTRUNC:
        os._exit(2)
    while left:
        parts.append(received(connection, min(left, 1 << 20)))
        left -= len(parts[-1])
    return Execution(b"".join(parts), descriptors)


def is_there(connection: "_socket.socket") -> bool:
    """Whether an execution, or the end of input, is there already."""
    try:
        connection.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    return True


def received(connection: "_socket.socket", most: int) -> bytes:
    return connection.recv(most) or os._exit(2)


class WarmInterpreter:
    """This process, made ready to be forked."""

    def __init__(self, hidden: bool) -> None:
        # Signals that programs send find their sender's own, never who serves the next.
        self.usual = _signal.pthread_sigmask(_signal.SIG_BLOCK, SIGNALS)
        make_streams_ahead()
        self.sites = Sites()
        self.show = dumpable()
        self.part = apart()
        if hidden:
            self.show(False)
        forget_imports()
        # What is here is nothing that a program's collections must look at, and copy.
        gc.collect()
        getattr(gc, "freeze", int)()  # not before Python 3.7

    def fresh(self, host: "_socket.socket") -> Execution:
        """Serve for ever; returns in a child alone, the execution that it is to be."""
        say(host, READY, os.getpid())
        children, over = Children(host), 0.0
        while True:
            link = None if children.waiting else children.add()
            said = None
            while link is None and said is None:
                said = children.hear()
                if said is None:
                    link = children.add(once=True)
            if link is not None:
                return self.be_program(host, link)
            if not said:
                os._exit(1)  # it was ended before it had an execution, or while it took one
            program = children.take(last=said == b"s")
            if said == b"t" and children.quick() and time.monotonic() - over < ROW_SECONDS:
                link = children.add(once=True)
                if link is not None:
                    return self.be_program(host, link)
            status = os.waitpid(program, 0)[1]
            over = time.monotonic()
            if said != b"n":
                say(host, ENDED, status)
            if said == b"s":
                os._exit(0)

    def be_program(self, host: "_socket.socket", link: "_socket.socket") -> Execution:
        """In a child: wait for the turn, then for an execution."""
        os.setsid()
        _signal.pthread_sigmask(_signal.SIG_SETMASK, self.usual)
        if not is_there(host):
            self.rehearse()
        if not link.recv(1):
            os._exit(0)  # the parent has ended
        execution = take(host)
        if not execution.enter(host):
            link.send(b"n")
            os._exit(126)
        if not self.part():
            os._exit(126)
        set_variables(execution.variables)
        stale = self.sites.changed(os.environb.get(b"HOME", b""))
        link.send(b"s" if stale else b"t")
        link.close()
        say(host, TAKEN, os.getpid())
        execution.settle()
        host.detach()
        os.closerange(HOST, CODE)
        for descriptor in execution.descriptors:
            if descriptor > CODE:
                os.close(descriptor)
        self.show(True)
        if stale and sys.executable:
            os.set_inheritable(CODE, True)
            environment = dict(os.environb)
            be_new(BOOT_COLD, COLD.encode(), execution.arguments[3:], environment)  # noqa: F821
        return execution

    def rehearse(self) -> None:
        """Touch ahead of the execution what every program needs: forked memory is copied, and
        under gVisor even mapped, when it is first touched, which takes longer than to run it."""
        exec(compile(SAMPLE, NAME, "exec", 0, True), {})  # noqa: S102
        self.sites.changed(self.sites.home)
        gc.collect()


def be_new(
    boot: str, text: bytes, arguments: "list[str]", environment: "dict[bytes, bytes]"
) -> "NoReturn":
    """Be a new interpreter, which finds a text where this one found its own."""
    try:
        file = os.memfd_create("text")
        os.write(file, text)
        os.lseek(file, 0, os.SEEK_SET)
    except (AttributeError, OSError):  # Python before 3.8
        file, into = os.pipe()
        os.write(into, text)  # less than a pipe holds, while its user has few
    os.dup2(file, SOURCE)
    os.set_inheritable(SOURCE, True)  # also where it is there already
    os.execve(sys.executable, [sys.executable, "-c", boot, *arguments], environment)


def forget_imports() -> None:
    for name in set(sys.modules) - KNOWN:
        del sys.modules[name]


def run_once(execution: Execution) -> int:
    """Run the program of a fresh interpreter; its exit status, negative for a signal."""
    forget_missing()
    sys.argv[1:] = execution.arguments[3:]
    if os.isatty(1):
        make_streams(0, 1, 2)
    try:
        return execute(read_code(), NAME, new_main(from_others()))
    except SystemExit as stop:
        return exit_status(stop.code)


def run() -> None:
    """What BOOT calls: serve, and in a process that is to be a program be that."""
    mode = sys.argv.pop()
    host = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, HOST)
    warm = WarmInterpreter(hidden=mode != "kept")
    if mode == "fresh":
        leave(run_once(warm.fresh(host)))
    attempt(lambda: os.close(RULESET))  # a named one has a domain of its own
    exec(NAMED, globals())  # noqa: F821, S102
    leave(run_named(mode, host, warm))
