"""The zygote of a lane: forks Python programs that start clean from a warm interpreter.

Runs inside the sandbox, under any Python 3 with nothing but built-in modules, started by
compiled.py; it shares the lane's streams with supervisor.sh, which wakes it and hands it
jobs, and may hand it the whole lane (served.py, part of this module with spawning.py then).
"""

import atexit
import errno
import gc
import io
import linecache
import os
import select
import signal
import sys
import time
import types

__file__ = sys._getframe().f_code.co_filename
NOWHERE = 256  # no exit status: the working folder could not be entered
JOBS, HOST, OUT, ERR, CONTROL, DONE = 0, 3, 4, 5, 6, 7


def pieces(descriptor, count):
    while count:
        part = os.read(descriptor, min(count, 1 << 20))
        if not part:
            os._exit(0)
        count -= len(part)
        yield part


def exactly(descriptor, count):
    return b"".join(pieces(descriptor, count))


def kills():
    if not events:
        return 0
    with open(events) as file:
        found = [line.split()[1] for line in file if line.startswith("oom_kill ")]
    return int(found[0]) if found else 0


def settle(cwd, env, stdin):
    """In the child: what the program finds around it."""
    hardy(False)
    os.dup2(OUT, 1)
    os.dup2(ERR, 2)
    return enter(cwd, env, stdin)


def enter(cwd, env, stdin):
    os.dup2(stdin, 0)
    for name, _, value in (entry.partition(b"=") for entry in env):
        os.environb[name] = value
    try:
        os.chdir(cwd)
    except OSError:
        return False
    return True


def feed(descriptor, parts):
    """The host's bytes into the program's input, or to nowhere once it reads no more."""
    for part in parts:
        while part and descriptor is not None:
            try:
                part = part[os.write(descriptor, part) :]
            except OSError:
                os.close(descriptor)
                descriptor = None
    if descriptor is not None:
        os.close(descriptor)


class Notebook:
    """A child that keeps its variables from job to job."""

    def __init__(self):
        self.pid = self.jobs = self.answers = None
        self.unneeded = (HOST, CONTROL, DONE)

    def descriptors(self):
        return [self.jobs, self.answers] if self.pid else []

    def run(self, job, data, ready):
        """The status (as waitpid's) of one job; the child starts with its first. `ready`
        says, after a while at the most, whether a descriptor can be read."""
        if self.pid is None:
            self.start()
        message = b"%d %d\n" % (len(job), len(data)) + job + data
        try:
            while message:
                message = message[os.write(self.jobs, message) :]
        except OSError:
            pass
        return self.status(ready)

    def start(self):
        theirs, self.jobs = os.pipe()
        self.answers, answer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.jobs)
            os.close(self.answers)
            os.setsid()
            for descriptor in self.unneeded:
                os.close(descriptor)
            notebook_loop(theirs, answer)
            os._exit(0)
        os.close(theirs)
        os.close(answer)

    def status(self, ready):
        while True:
            said = ready(self.answers)
            line = os.read(self.answers, 64) if said else b""
            if line:
                return int(line) << 8
            pid, status = os.waitpid(self.pid, 0 if said else os.WNOHANG)
            if pid:
                os.close(self.jobs)
                os.close(self.answers)
                self.pid = None
                return status


def notebook_loop(jobs, answer):
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    out, err = os.dup(OUT), os.dup(ERR)
    while True:
        head = b""
        while not head.endswith(b"\n"):
            head += exactly(jobs, 1)
        size, count = map(int, head.split())
        _, cwd, env, code = parse(exactly(jobs, size))
        data = exactly(jobs, count)
        path = b"/tmp/.stockade-in-%d" % os.getpid()
        stdin = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.unlink(path)
        while data:
            data = data[os.write(stdin, data) :]
        os.lseek(stdin, 0, 0)
        os.dup2(out, OUT)
        os.dup2(err, ERR)
        found = settle(cwd, env, stdin)
        os.close(stdin)
        sys.stdin = open(0, closefd=False)
        status = run_cell(code, module.__dict__) if found else NOWHERE
        os.write(answer, b"%d\n" % (status if status == NOWHERE else status & 255))


def run_cell(code, variables):
    """Run code as an interpreter would its main module; the exit status."""
    try:
        exec(prepared(code), variables)
        status = 0
    except SystemExit as stop:
        status = exit_status(stop.code)
    except BaseException:
        kind, error, trace = sys.exc_info()
        # Without the zygote's own frames: none of them where the text does not compile.
        while trace and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        sys.excepthook(kind, error.with_traceback(trace), trace)
        status = -signal.SIGINT if kind is KeyboardInterrupt else 1
    flush(sys.stdout, sys.stderr)
    return status


def exit_status(code):
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 255
    sys.stderr.write("%s\n" % (code,))
    return 1


def flush(*files):
    for file in files:
        try:
            file.flush()
        except Exception:
            pass


def leave(status, variables):
    """End this process as the interpreter's own end would, in a third of its time.

    Threads are awaited, exit handlers run, and files that the program left open
    are written; what is skipped is the taking down of modules.
    """
    try:
        if "threading" in sys.modules:
            sys.modules["threading"]._shutdown()
        atexit._run_exitfuncs()
        variables.clear()
        gc.collect()
        for kind in (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom):
            flush(*[item for item in gc.get_objects() if isinstance(item, kind)])
        flush(sys.stdout, sys.stderr)
    finally:
        if status < 0:
            signal.signal(-status, signal.SIG_DFL)
            os.kill(os.getpid(), -status)
        os._exit(status)


def prepared(code):
    text = code.decode("utf-8", "surrogateescape")
    linecache.cache["<code>"] = (len(text), None, text.splitlines(True), "<code>")
    return compile(text, "<code>", "exec", dont_inherit=True)


def parse(job):
    head, _, code = job.partition(b"\0\0")
    flag, cwd, *env = head.split(b"\0")
    return flag, cwd, env, code


def processes():
    return 0 if seen else sum(name.isdigit() for name in os.listdir("/proc"))


def tell(token, status, before, nowhere, count):
    """As supervisor.sh reports: status, signal, kills before and after, processes."""
    signalled = int(os.WIFSIGNALED(status))
    code = 128 + os.WTERMSIG(status) if signalled else os.WEXITSTATUS(status)
    after = kills() if code == 137 else before
    word = "N" if nowhere else signalled
    line = (
        "%d %s %d %d %d\n" % (code, word, before, after, count) if not nowhere else "126 N 0 0 0\n"
    )
    os.write(ERR, token)
    os.write(OUT, token + line.encode())


def weigh(light):
    """Where programs weigh 500 (supervisor.sh): the zygote 0, lest it is ended for one."""
    old, new = (b"500", b"0") if light else (b"0", b"500")
    try:
        descriptor = os.open("/proc/self/oom_score_adj", os.O_RDWR)
    except OSError:
        return
    try:
        if os.read(descriptor, 16).strip() == old:
            os.write(descriptor, new)
    except OSError:
        pass
    os.close(descriptor)


def hardy(yes):
    """Whether common signals leave this process alone, as they do the supervisor, and the
    memory limit while there is a program to end."""
    weigh(yes)
    handle_signals(yes)


def handle_signals(yes):
    if not yes:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGALRM"):
        usual = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
        signal.signal(getattr(signal, name), (lambda *_: None) if yes else usual)


def keep_time(parent, seconds):
    """End the lane, and with the first one the sandbox, in so many seconds; 0: never."""

    def over(*_):
        # Not a signal that a program sent. Some time may be left on a timer just firing.
        if signal.getitimer(signal.ITIMER_REAL)[0] < 0.5:
            os.kill(parent, signal.SIGKILL)

    # A child has no timer, and its handlers are its own.
    signal.signal(signal.SIGALRM, over if seconds else lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def soon(descriptor):
    return select.select([descriptor], [], [], 0.05)[0]


def serve():
    """Serve jobs for ever; in a child it returns the code to run."""
    parent = os.getppid()
    os.setsid()
    hardy(True)
    notebook = Notebook()
    orders = b""
    nothing = os.open(os.devnull, os.O_RDONLY)
    while True:
        while b"\n" not in orders:
            orders += os.read(JOBS, 1 << 17) or os._exit(0)
        line, _, orders = orders.partition(b"\n")
        if not line.strip():  # the shell waited until this is up
            continue
        if line == b"h":
            return Lane(900 - int(lane), parent, nothing, notebook).serve()
        if line.startswith(b"d "):
            keep_time(parent, int(line.split()[1]))
            continue
        token, size, count = line.split()
        job, count = exactly(HOST, int(size)), int(count)
        flag, cwd, env, code = parse(job)
        before = kills()
        if flag == b"s":
            data = exactly(HOST, count)
            os.write(CONTROL, b"g\n")
            status = notebook.run(job, data, soon)
            tell(token, status, before, status == NOWHERE << 8, processes())
            os.write(DONE, b"d\n")
            continue
        stdin, sink = os.pipe() if count else (os.dup(nothing), None)
        if not count:
            os.write(CONTROL, b"g\n")
        moved, move = os.pipe()
        pid = os.fork()
        if pid == 0:
            if not seen:  # else the lane is in a session of its own as a whole
                os.setsid()
            found = settle(cwd, env, stdin)
            for descriptor in (
                HOST,
                OUT,
                ERR,
                CONTROL,
                DONE,
                stdin,
                nothing,
                moved,
                *([sink] if count else []),
                *notebook.descriptors(),
            ):
                os.close(descriptor)
            if not found:
                os.write(move, b"N")
                os._exit(126)
            os.close(move)
            return code
        os.close(stdin)
        os.close(move)
        if count:
            feed(sink, pieces(HOST, count))
            os.write(CONTROL, b"g\n")
        nowhere = os.read(moved, 1) == b"N"
        os.close(moved)
        _, status = os.waitpid(pid, 0)
        tell(token, status, before, nowhere, processes())
        os.write(DONE, b"d\n")


class Born(BaseException):
    """Raised in a forked child, up to main(), with the code to run."""

    def __init__(self, code):
        self.code = code


def main():
    # What the zygote itself is made of is nothing that a collection must look at.
    gc.collect()
    getattr(gc, "freeze", int)()  # not before Python 3.7
    try:
        code = serve()
    except Born as born:
        code = born.code
    module = types.ModuleType("__main__")
    module.__builtins__ = __builtins__
    sys.modules["__main__"] = module
    sys.argv[1:] = []
    leave(run_cell(code, module.__dict__), module.__dict__)


events, seen, lane, mark = sys.argv[1:5]
