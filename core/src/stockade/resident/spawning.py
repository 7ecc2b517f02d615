"""What a served lane (served.py) needs of the system: programs started, trees found and ended.

Part of the zygote's own module, as served.py is; never imported.
"""

SHELL = b"/bin/sh"
DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment():
    """As the lane's shell had it: the interpreter may have added a locale, and got its text."""
    try:
        with open("/proc/self/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return dict(os.environb)
    found = dict(entry.split(b"=", 1) for entry in entries if b"=" in entry)
    found.pop(b"STOCKADE_ZYGOTE", None)
    return found


def version():
    with open("/proc/version", "rb") as file:
        return file.readline().strip()


def attempt(make):
    """What needs a process to be free, tried for a while; None when none was."""
    for _ in range(5):
        try:
            return make()
        except OSError:
            time.sleep(0.02)
    return None


def no_fork():
    os.write(ERR, b"sh: cannot fork: the process limit is reached\n")
    return 126 << 8


def launch(argv, variables, files, script):
    """The process, or 0 and the status that a shell would give where none starts."""
    files = [*enumerate(files), *([] if script is None else [(9, script)])]
    usual = os.environb.get(b"PATH", DEFAULT_PATH)
    os.environb[b"PATH"] = variables.get(b"PATH", DEFAULT_PATH)  # where programs are looked for
    try:
        for _ in range(5):
            try:
                return spawn(argv, variables, files), 0
            except OSError as failed:
                error = failed
            if error.errno == errno.ENOEXEC:  # a script that names no shell
                argv = [SHELL, found(argv[0], variables), *argv[1:]]
            elif error.errno in (errno.EAGAIN, errno.ENOMEM):
                time.sleep(0.02)
            else:
                return 0, not_started(argv[0], error)
        return 0, no_fork()
    finally:
        os.environb[b"PATH"] = usual


def spawn(argv, variables, files):
    try:
        return os.posix_spawnp(
            argv[0],
            argv,
            variables,
            file_actions=[(os.POSIX_SPAWN_DUP2, ours, theirs) for theirs, ours in files],
            setsid=True,
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
        )
    except (AttributeError, NotImplementedError):  # Python before 3.8, or an old C library
        return fork_and_execute(argv, variables, files)


def fork_and_execute(argv, variables, files):
    told, tell_error = os.pipe()  # closed by the exec
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            handle_signals(False)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            for theirs, ours in files:
                os.dup2(ours, theirs)
            os.execvpe(argv[0], argv, variables)
        except OSError as error:
            os.write(tell_error, b"%d" % error.errno)
        finally:
            os._exit(127)
    os.close(tell_error)
    code = os.read(told, 16)
    os.close(told)
    if code:
        os.waitpid(pid, 0)
        raise OSError(int(code), os.strerror(int(code)))
    return pid


def not_started(name, error):
    missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
    why = b"not found" if missing else os.strerror(error.errno).encode()
    os.write(ERR, b"sh: 1: exec: %s: %s\n" % (name, why))
    none = missing or error.errno in (errno.ELOOP, errno.ENAMETOOLONG)
    return (127 if none else 126) << 8


def found(name, variables):
    if b"/" in name:
        return name
    folders = variables.get(b"PATH", DEFAULT_PATH).split(b":")
    paths = [os.path.join(folder or b".", name) for folder in folders]
    return next((path for path in paths if os.access(path, os.X_OK)), name)


def marked(mark):
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                descriptor = os.open("/proc/%s/oom_score_adj" % name, os.O_RDONLY)
            except OSError:
                continue
            try:
                if int(os.read(descriptor, 16)) == mark:
                    yield int(name)
            except (OSError, ValueError):
                pass
            os.close(descriptor)


def living(mark, spared):
    """Of the processes with a mark, those that are neither spared nor dead already."""
    alive = []
    for pid in marked(mark):
        try:
            with open("/proc/%d/stat" % pid, "rb") as file:
                state = file.read().rpartition(b")")[2].split()[0]
        except (OSError, IndexError):
            continue
        if pid not in spared and state not in (b"Z", b"X"):
            alive.append(pid)
    return alive


def end_tree(mark, spared):
    """As supervisor.sh does. Stop first: what is stopped cannot fork away."""
    before = None
    for turn in range(60):
        alive = living(mark, spared)
        if not alive:
            return
        stop = alive != before and turn < 20
        for pid in alive:
            try:
                os.kill(pid, signal.SIGSTOP if stop else signal.SIGKILL)
            except OSError:
                pass
        before = alive if stop else None
