"""How text becomes a Python program, started and ended as ``python -c`` starts and ends one.

Runs inside a sandbox, under any Python from 3.6 on and with built-in modules alone. It is
not imported there: ``stockade.inside`` sends its text, which is all of what a cold
interpreter runs first (``start``, ``start_from_input``) and a part of what a warm one does.

The text is a file on descriptor 9 for as long as the program runs. So tracebacks show its
lines, ``inspect`` finds its source, and ``multiprocessing`` finds its functions when it
starts new interpreters.
"""

import os
import sys

CODE = 9
#: What tracebacks name: the text, in this process and in those that it forks.
NAME = "/proc/self/fd/9"
#: The name of a text that is no file, where the system has none without a folder.
NAMELESS = "<code>"


def from_others() -> str:
    """By what other processes of the sandbox find the text, as long as this one lives."""
    return f"/proc/{os.getpid()}/fd/9"


def read_code() -> bytes:
    """All that is on descriptor 9, wherever its position is."""
    parts: list[bytes] = []
    at = 0
    while True:
        part = os.pread(CODE, 1 << 16, at)
        if not part:
            return b"".join(parts)
        parts.append(part)
        at += len(part)


def text_of(data: bytes) -> "str | bytes":
    """As ``-c`` takes it, which looks for no declared encoding; without a byte order mark."""
    if data[:3] == b"\xef\xbb\xbf":
        data = data[3:]
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data  # the compiler shows where it is no text


def new_main(file: "str | None") -> "dict[str, object]":
    """The variables of a new ``__main__``, made like the one that it replaces."""
    old = sys.modules["__main__"]
    module = sys.modules["__main__"] = type(sys)("__main__")
    variables = module.__dict__
    variables["__loader__"] = old.__loader__
    if "__annotations__" in old.__dict__:
        variables["__annotations__"] = {}
    variables["__builtins__"] = sys.modules["builtins"]
    if file:
        variables["__file__"] = file
    return variables


def execute(data: bytes, name: str, variables: "dict[str, object]") -> int:
    """Run the program; what ended it: 0, 1 for an exception, -2 for an interrupt that is a
    signal's. Raises SystemExit where the program does."""
    try:
        exec(compile(text_of(data), name, "exec", 0, True), variables)  # noqa: S102
    except SystemExit:
        raise
    except BaseException:
        return report()
    return 0


def report() -> int:
    """Show the exception that ``execute`` handles as the interpreter shows what nobody caught,
    without the frame that ran the program."""
    kind, error, trace = sys.exc_info()
    assert kind and error and trace
    trace = trace.tb_next
    error.__traceback__ = trace
    sys.last_type, sys.last_value, sys.last_traceback = kind, error, trace
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    try:
        sys.excepthook(kind, error, trace)
    except SystemExit:
        raise
    except BaseException as other:
        sys.stderr.write("Error in sys.excepthook:\n")
        sys.__excepthook__(type(other), other, other.__traceback__)
        sys.stderr.write("\nOriginal exception was:\n")
        sys.__excepthook__(kind, error, trace)
    # An interrupt ends a program by its signal since Python 3.8.
    return -2 if kind is KeyboardInterrupt and sys.version_info >= (3, 8) else 1


def start() -> None:
    """Run what is on descriptor 9, as a cold interpreter."""
    os.set_inheritable(CODE, False)
    finish(execute(read_code(), NAME, new_main(from_others())))


def start_from_input() -> None:
    """Run what standard input begins with, so many bytes as the last argument says; the
    rest is the program's own input."""
    left, parts = int(sys.argv.pop()), []
    while left:
        part = os.read(0, min(left, 1 << 20))
        if not part:
            break
        parts.append(part)
        left -= len(part)
    data = b"".join(parts)
    if keep(data):
        finish(execute(data, NAME, new_main(from_others())))
    else:
        finish(execute(data, NAMELESS, new_main(None)))


def keep(data: bytes) -> bool:
    """Make the text a file on descriptor 9; else its lines are known by name alone."""
    try:
        try:
            file = os.memfd_create("code")
        except (AttributeError, OSError):  # Python before 3.8
            file = os.open("/tmp", os.O_TMPFILE | os.O_RDWR, 0o600)
        left = data
        while left:
            left = left[os.write(file, left) :]
        os.dup2(file, CODE, False)
        if file != CODE:
            os.close(file)
        if os.path.exists(NAME):
            return True
    except (AttributeError, OSError):
        pass
    import linecache

    text = data.decode("utf-8", "replace")
    linecache.cache[NAMELESS] = (len(text), None, text.splitlines(True), NAMELESS)
    return False


def finish(status: int) -> None:
    """End as a program that ended so does."""
    if status > 0:
        sys.exit(status)
    if status < 0:
        sys.excepthook = lambda *_: None  # it is shown already
        raise KeyboardInterrupt
