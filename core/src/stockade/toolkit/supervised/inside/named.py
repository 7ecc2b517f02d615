"""Named interpreters, which keep their variables between executions, and their parent.

Two processes: the parent, which the supervisor started, has the socket to the supervisor and
hands executions on; the interpreter, its child, has a socket to the parent alone. So no
program can speak to the supervisor, and the parent sees how the interpreter ended.
"""

import _signal  # type: ignore[import-not-found]
import _socket
import os
import sys

from stockade.lowering.inside.program import (
    CODE,
    from_others,
    new_main,
    read_code,
    report,
    text_of,
)
from stockade.toolkit.supervised.inside.boot import BOOT
from stockade.toolkit.supervised.inside.cells import (
    be_notebook,
    own_part,
    report_error,
    run_text,
    show_the_rest,
)
from stockade.toolkit.supervised.inside.children import fork
from stockade.toolkit.supervised.inside.ending import attempt, exit_status, flushed
from stockade.toolkit.supervised.inside.shown import showing
from stockade.toolkit.supervised.inside.surroundings import (
    STREAMS,
    forget_missing,
    make_streams,
    restore_variables,
    set_variables,
)
from stockade.toolkit.supervised.inside.warm import (
    ENDED,
    HOST,
    NOWHERE,
    READY,
    TAKEN,
    Execution,
    WarmInterpreter,
    be_new,
    number,
    say,
    take,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    source: bytes  # the text that this process was started with, by BOOT

#: Where an interpreter has its socket, out of the way of what its programs open.
OWN = 10
#: What the job that runs shows goes here.
SHOWN = 11
#: A job's descriptors.
DESCRIPTORS = 5
#: How often its parent looks whether it has ended with its socket still open elsewhere.
LOOK_SECONDS = 0.2
GONE = 0
#: How many interpreters are tried for one execution, where none begins it.
TRIES = 2
#: Bytes of the executions' texts that are kept for tracebacks.
MOST_TEXT = 8 << 20
#: Variables that are read when an interpreter starts.
AT_START = (b"PYTHON", b"LD_", b"LANG", b"LC_", b"MALLOC_", b"GLIBC_")


# -- the parent -----------------------------------------------------------------


def serve_named(warm: WarmInterpreter, host: "_socket.socket") -> "_socket.socket":
    """Serve for ever; in the interpreter's process, its socket."""
    say(host, READY, os.getpid())
    pid, ours = 0, host
    while True:
        execution = take(host, DESCRIPTORS)
        if pid and os.waitpid(pid, os.WNOHANG)[0]:
            pid = 0  # something ended it between two executions: its variables are gone
        for _ in range(TRIES):
            if not pid:
                ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
                pid = fork(host, True)
                if not pid:
                    return be_interpreter(warm, execution, host, theirs)
                theirs.close()
            hand(ours, execution)
            if relay(host, ours, pid):
                break
            pid = 0
        else:
            os._exit(1)
        for descriptor in execution.descriptors:
            os.close(descriptor)


def be_interpreter(
    warm: WarmInterpreter,
    execution: Execution,
    host: "_socket.socket",
    connection: "_socket.socket",
) -> "_socket.socket":
    """In the child: a start that is as clean as a new one's, or a new one."""
    os.setsid()
    _signal.pthread_sigmask(_signal.SIG_SETMASK, warm.usual)
    warm.show(True)
    for descriptor in execution.descriptors:
        os.close(descriptor)
    environment = dict(os.environb)
    for entry in execution.variables:
        name, _, value = entry.partition(b"=")
        if name == b"HOME" or name.startswith(AT_START):
            environment[name] = value
    home = environment.get(b"HOME", b"")
    same = all(
        os.environb.get(name) == value for name, value in environment.items() if name != b"HOME"
    )
    if sys.executable and (not same or warm.sites.changed(home)):
        os.dup2(connection.fileno(), HOST)
        be_new(BOOT, source, ["kept"], environment)  # noqa: F821
    os.close(host.detach())
    return connection


def hand(connection: "_socket.socket", execution: Execution) -> None:
    """Hand it over; where nobody takes it, ``relay`` finds out why."""
    packed = b"".join(item.to_bytes(4, sys.byteorder) for item in execution.descriptors)
    connection.settimeout(None)
    try:
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)]
        sent = connection.sendmsg([execution.message], rights)
        connection.sendall(execution.message[sent:])
    except OSError:
        pass


def relay(host: "_socket.socket", connection: "_socket.socket", pid: int) -> bool:
    """Pass on what the interpreter reports of an execution, as far as it can be true, until the
    execution is over. Ends this process when the interpreter has ended; False where it ended
    before it had begun."""
    taken = False
    while True:
        kind, value = hear(connection, pid)
        if kind == GONE:
            if not taken:
                return False
            say(host, ENDED, value)
            os._exit(0)
        elif kind == TAKEN and not taken:
            taken = True
            say(host, TAKEN, pid)
        elif kind == NOWHERE and not taken:
            say(host, NOWHERE, value)
            return True
        elif kind == ENDED and taken:
            say(host, ENDED, value & 0xFF7F)
            return True
        else:
            os.kill(pid, _signal.SIGKILL)


def hear(connection: "_socket.socket", pid: int) -> "tuple[int, int]":
    """Its next word, or GONE and how it ended."""
    connection.settimeout(LOOK_SECONDS)
    said = b""
    while len(said) < 8:
        part, wait = b"", 0
        try:
            part = connection.recv(8 - len(said))
        except _socket.timeout:
            wait = os.WNOHANG
        except OSError:  # it ended with something unread
            pass
        if not part:
            ended, status = os.waitpid(pid, wait)
            if ended:
                return GONE, status
        said += part
    return number(said, 0), number(said, 4)


# -- the interpreter --------------------------------------------------------------


class Texts:
    """The executions' texts under their names, where tracebacks and ``inspect`` look for lines."""

    def __init__(self) -> None:
        import linecache

        self.cache = linecache.cache
        self.names: list[tuple[str, int]] = []
        self.size = self.count = 0

    def add(self, data: bytes) -> str:
        """The name for it."""
        self.count += 1
        name = f"<code {self.count}>"
        text = text_of(data)
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        self.cache[name] = (len(text), None, text.splitlines(True), name)
        self.names.append((name, len(text)))
        self.size += len(text)
        while self.size > MOST_TEXT and len(self.names) > 1:
            old, length = self.names.pop(0)
            self.size -= length
            self.cache.pop(old, None)
        return name


def show_lines(
    kind: "type[BaseException]", error: BaseException, tb: "TracebackType | None"
) -> None:
    """The usual ``sys.excepthook`` finds the lines of files alone before Python 3.13."""
    import traceback

    traceback.print_exception(kind, error, tb)


def keep(connection: "_socket.socket") -> int:
    """Run one execution after another with the same variables, until one ends the program;
    its exit status."""
    if connection.fileno() != OWN:
        os.dup2(connection.fileno(), OWN, False)
        connection.close()
    else:
        connection.detach()
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, OWN)
    close_shown()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: attempt(connection.close))
        os.register_at_fork(after_in_child=close_shown)
    if sys.version_info < (3, 13):
        sys.excepthook = sys.__excepthook__ = show_lines
    handler: object = _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    pid = os.getpid()
    variables = new_main(from_others())
    texts = Texts()
    be_notebook()
    sys.argv[1:] = []
    while True:
        execution = take(connection, DESCRIPTORS)
        entered = execution.enter(connection)
        mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, [_signal.SIGINT])
        if entered:
            # From here on an interrupt is this execution's: it waits until there is something
            # to be interrupted.
            say(connection, TAKEN, pid)
            flush_all()  # what threads wrote since the last execution is not this one's (D16)
            execution.settle()
            show_to(execution.descriptors[4])
        for descriptor in execution.descriptors:
            if descriptor != CODE:
                os.close(descriptor)
        if not entered:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
            continue
        data = read_code()
        around = Surroundings(execution)
        name = texts.add(data)
        status, ended, handler = run_cell(data, name, variables, handler, mask)
        if ended or os.getpid() != pid:
            return status
        around.leave()
        say(connection, ENDED, -status if status < 0 else status << 8)


def show_to(descriptor: int) -> None:
    os.dup2(descriptor, SHOWN, False)
    showing.pid = os.getpid()
    showing.channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, SHOWN)


def close_shown() -> None:
    """Nothing is shown from now on; the number stays taken."""
    if showing.channel is not None:
        showing.channel.detach()
        showing.channel = None
    nothing = os.open(os.devnull, os.O_RDWR)
    for at in (CODE, SHOWN):
        if at == SHOWN or not is_open(at):
            os.dup2(nothing, at, False)
    os.close(nothing)


def is_open(descriptor: int) -> bool:
    return attempt(lambda: os.fstat(descriptor))


def flush_all() -> None:
    flushed(sys.stdout, sys.stderr)
    flushed(sys.__stdout__, sys.__stderr__)


def run_cell(
    data: bytes,
    name: str,
    variables: "dict[str, object]",
    handler: "object",
    mask: "set[_signal.Signals]",
) -> "tuple[int, bool, object]":
    """Run one execution's code: its status, whether it ends the program, and what handles an
    interrupt from now on. Between executions nothing does."""
    ended = False

    def begin() -> None:
        _signal.signal(_signal.SIGINT, handler)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)

    try:
        status = run_to_end(data, name, variables, begin)
    except SystemExit as stop:
        status, ended = exit_status(stop.code), True
    except KeyboardInterrupt:
        status = -2
    while True:
        try:
            return status, ended, _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
        except KeyboardInterrupt:
            pass


def run_to_end(
    data: bytes, name: str, variables: "dict[str, object]", begin: "Callable[[], object]"
) -> int:
    """The status of a text; an error is shown. Raises SystemExit where the program does."""
    status = 0
    try:
        begin()  # an interrupt that came before is the text's own
        run_text(data, name, variables)
    except SystemExit:
        raise
    except BaseException:
        report_error()
        status = report(own_part)
    show_the_rest()
    return status


class Surroundings:
    """What an execution brings for itself alone: variables, paths of modules, standard streams."""

    def __init__(self, execution: Execution) -> None:
        self.before = set_variables(execution.variables)
        self.paths: list[str] = []
        if b"PYTHONPATH" in self.before:
            self.add_paths(os.environ["PYTHONPATH"].split(os.pathsep))
        forget_missing()
        lost = [at for at, name in enumerate(STREAMS) if getattr(sys, f"__{name}__").closed]
        make_streams(*(range(3) if os.isatty(1) else {0, *lost}))

    def add_paths(self, wanted: "list[str]") -> None:
        paths = [os.path.abspath(path) for path in wanted if path]
        self.paths = [path for path in paths if path not in sys.path]
        at = 1 if sys.path[:1] == [""] else 0
        sys.path[at:at] = self.paths

    def leave(self) -> None:
        """What was written is written, and who waits for the streams' end waits no more."""
        flush_all()
        close_shown()
        nothing = os.open(os.devnull, os.O_RDWR)
        for at in range(3):
            if at != nothing:
                os.dup2(nothing, at)
        if nothing > 2:
            os.close(nothing)
        restore_variables(self.before)
        for path in self.paths:
            if path in sys.path:
                sys.path.remove(path)


def run_named(mode: str, host: "_socket.socket", warm: WarmInterpreter) -> int:
    """Serve a name; returns in the interpreter alone, its exit status once it has ended."""
    if mode == "named":
        host = serve_named(warm, host)
    else:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, warm.usual)
    return keep(host)
