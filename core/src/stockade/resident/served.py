"""A lane that its zygote serves alone: it reads the orders, starts programs, ends their trees.

supervisor.sh hands a lane over by the order `h` and ends. From then on one process does
what three did, each order is read at once instead of by letters, and programs start
without a copy of the shell: under gVisor, where a fork and every system call are dear, an
execution takes half of the time. The wire is the same, but for the text of a job, which is
the zygote's. Only for lanes whose mark is the OOM adjustment (see supervisor.sh).

Part of the zygote's own module, with spawning.py, where a lane may be served; never imported.
"""

PIPE_BYTES = 60000  # of what an empty pipe takes
IDLE_SECONDS = 0.005  # after so long without an order none is kept waiting by a fork
SPARES = 3  # interpreters that wait for code in the first lane; the others come and go, with one


class Child:
    """A clean interpreter, forked with its job or ahead of it."""

    def __init__(self, pid, jobs, sink, moved):
        self.pid, self.jobs, self.sink, self.moved = pid, jobs, sink, moved

    def hand(self, job, has_input):
        """Give a job to one that waits; False when it is dead."""
        message = b"%12d%d" % (len(job), has_input) + job
        try:
            while message:
                message = message[os.write(self.jobs, message) :]
        except OSError:
            return False
        self.close("jobs")
        return True

    def descriptors(self):
        return self.jobs, self.sink, self.moved

    def close(self, *names):
        for name in names:
            close(getattr(self, name))
            setattr(self, name, None)

    def bury(self):
        self.close("jobs", "sink", "moved")
        os.kill(self.pid, signal.SIGKILL)  # some program may have stopped it
        os.waitpid(self.pid, 0)


def run_in_child(job, jobs, stdin, move, nothing, unneeded):
    """In the child: what the program finds around it, as much of it as can be ahead of a
    job that is still to come; raises Born."""
    os.setsid()
    handle_signals(False)
    os.dup2(OUT, 1)
    os.dup2(ERR, 2)
    close(*unneeded)
    has_input = stdin is not None
    if job is None:
        head = exactly(jobs, 13)
        job, has_input = exactly(jobs, int(head[:12])), head[12:] == b"1"
    _, cwd, env, code = parse(job)
    if not enter(cwd, env, stdin if has_input else nothing):
        os.write(move, b"N")
        os._exit(126)
    close(jobs, stdin, move, nothing)
    raise Born(code)


def close(*descriptors):
    for descriptor in descriptors:
        if descriptor is not None:
            os.close(descriptor)


class Lane:
    """Serves the orders of a lane; `mark` is its programs' OOM adjustment."""

    def __init__(self, mark, parent, nothing, notebook):
        self.mark, self.parent, self.nothing, self.notebook = mark, parent, nothing, notebook
        self.held = b""  # of the host's, read ahead
        self.running = False
        self.spares = []
        self.usual = SPARES if lane == "0" else 1
        self.wanted = self.usual  # 0: none until there was code again
        self.writers = []  # children that write what a pipe does not take at once
        self.environment = environment()
        self.bell, bell = os.pipe()  # rings when a child ends
        os.set_blocking(bell, False)
        signal.set_wakeup_fd(bell)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.own = [self.bell, bell]  # what no program gets
        notebook.unneeded += (self.bell, bell)
        for descriptor in range(3, 10):
            if descriptor not in (nothing, self.bell, bell):
                try:
                    os.set_inheritable(descriptor, False)
                except OSError:
                    os.dup2(nothing, descriptor, False)
                self.own.append(descriptor)

    # -- the host's orders ------------------------------------------------------

    def serve(self):
        while True:
            while b"\n" not in self.held:
                self.await_order()
                self.read_ahead()
            words = self.next_words()
            if words[0] == b"p":
                self.run(words[1], int(words[2]), int(words[3]))
            else:
                self.obey(words)

    def await_order(self):
        """Until it comes, or so long that what can be made ahead delays none."""
        while len(self.spares) < self.wanted:
            if select.select([HOST], [], [], IDLE_SECONDS)[0]:
                break
            self.fork_ahead()

    def read_ahead(self):
        part = os.read(HOST, 1 << 16)
        if not part:  # the host is gone, and so is the reason to run
            if self.running:  # what ended programs left behind may live on, in a durable session
                end_tree(self.mark, self.spared())
            os._exit(0)
        self.held += part

    def next_words(self):
        line, _, self.held = self.held.partition(b"\n")
        return line.split() or [b""]

    def input(self, count):
        """The host's next bytes, in pieces."""
        while count:
            if not self.held:
                self.read_ahead()
            part, self.held = self.held[:count], self.held[count:]
            count -= len(part)
            yield part

    def obey(self, words):
        """An order that is no job; unknown ones, and what comes too late, are let go."""
        op = words[0]
        if op == b"k":
            self.drop_spares()  # who is past its deadline may have done something to them
            end_tree(self.mark, self.spared())
        elif op == b"K":
            end_tree(900 - int(words[1]), (int(words[2]),))
        elif op == b"n":
            self.wanted = 0
            self.drop_spares()
        elif op == b"d":
            keep_time(self.parent, int(words[1]))
        elif op == b"c":
            count = len(living(self.mark, self.spared()))
            self.answer(words[1], b"%d" % count)
        elif op == b"y":
            self.answer(words[1], b"%d %d - - %s" % (self.processes(), os.getpid(), version()))

    def answer(self, token, said):
        os.write(ERR, token)
        os.write(OUT, token + said + b"\n")

    def spared(self):
        return (os.getpid(), *[spare.pid for spare in self.spares])

    def processes(self):
        self.writers = [pid for pid in self.writers if not os.waitpid(pid, os.WNOHANG)[0]]
        return processes() - len(self.spares)

    def look(self, *descriptors):
        """Wait until something may have happened; orders that came are obeyed, those that
        were read with the job among them. Which of the descriptors can be read."""
        while b"\n" in self.held:
            self.obey(self.next_words())
        ready, _, _ = select.select([HOST, self.bell, *descriptors], [], [])
        if self.bell in ready:
            os.read(self.bell, 4096)
        if HOST in ready:
            self.read_ahead()
        return [descriptor for descriptor in descriptors if descriptor in ready]

    def until_end(self, pid):
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return status
            self.look()

    # -- jobs ---------------------------------------------------------------------

    def run(self, token, size, count):
        self.running = True
        job = b"".join(self.input(size))
        before = kills()
        flag = job[:1]
        if flag == b"s":
            if self.notebook.pid is None:
                self.drop_spares()  # it would hold their descriptors
            status = self.notebook.run(job, b"".join(self.input(count)), self.look)
            nowhere = status == NOWHERE << 8
        elif flag == b"f":
            status, nowhere = self.fork(job, count)
        else:
            status, nowhere = self.start(job, count)
        self.running = False
        tell(token, status, before, nowhere, self.processes())

    def fork(self, job, count):
        """A clean interpreter's run: by the child that was forked ahead, if it lives."""
        self.wanted, child, waited = self.usual, None, False
        while self.spares and not waited:
            child = self.spares.pop(0)
            waited = child.hand(job, bool(count))
            if not waited:
                child.bury()
        if not waited:
            child = attempt(lambda: self.fork_child(job, count))
        if child is None:
            feed(None, self.input(count))
            return no_fork(), False
        if count:
            feed(child.sink, self.input(count))
            child.sink = None
        child.close("sink")
        while waited and not self.look(child.moved):
            pass
        nowhere = os.read(child.moved, 1) == b"N"
        child.close("moved")
        return self.until_end(child.pid), nowhere

    def fork_child(self, job=None, count=1):
        theirs, jobs = (None, None) if job else os.pipe()
        stdin, sink = os.pipe() if count else (None, None)
        moved, move = os.pipe()
        pid = None
        try:
            pid = os.fork()
        finally:
            close(*[] if pid == 0 else [theirs, stdin, move])
            close(*[] if pid else [jobs, sink, moved])
        if pid == 0:
            others = [*self.spares, self.notebook]
            held = [descriptor for other in others for descriptor in other.descriptors()]
            run_in_child(job, theirs, stdin, move, self.nothing, self.own + held)
        return Child(pid, jobs, sink, moved)

    def fork_ahead(self):
        """While nothing is to be done: a fork is the dearest part of a run."""
        try:
            self.spares.append(self.fork_child())
        except OSError:
            self.wanted = 0

    def drop_spares(self):
        while self.spares:
            self.spares.pop().bury()

    def start(self, job, count):
        """A program (x) or a shell's line (l)."""
        flag, cwd, env, body = parse(job)
        try:
            os.chdir(cwd)
        except OSError:
            feed(None, self.input(count))
            return 126 << 8, True
        variables = dict(self.environment)
        variables[b"OLDPWD"] = variables.get(b"PWD", cwd)
        variables[b"PWD"] = cwd
        variables.update(entry.split(b"=", 1) for entry in env)
        if flag == b"l":
            argv, script = [b"sh", b"-c", b". /proc/self/fd/9", b"sh"], self.script(body)
        else:
            argv, script = body.split(b"\0"), None
        stdin, sink = os.pipe() if count else (None, None)
        files = [stdin if count else self.nothing, OUT, ERR]
        if flag == b"l" and script is None:
            pid, status = 0, no_fork()
        else:
            pid, status = launch(argv, variables, files, script)
        close(stdin, script)
        feed(sink, self.input(count))
        return (self.until_end(pid) if pid else status), False

    def script(self, text):
        """Where a shell reads its line from: no argument, which others could read. None
        when that takes a process, and there is none to be had."""
        ours, theirs = os.pipe()
        if len(text) <= PIPE_BYTES:
            os.write(theirs, text)
        else:
            pid = attempt(os.fork)
            if pid == 0:
                try:
                    handle_signals(False)
                    os.closerange(3, theirs)
                    os.closerange(theirs + 1, 64)
                    feed(theirs, [text])
                finally:
                    os._exit(0)
            if pid is None:
                os.close(ours)
                ours = None
            else:
                self.writers.append(pid)
        os.close(theirs)
        return ours
