"""How text becomes a Python program, run as ``python -c`` runs one.

Runs inside a sandbox, under any Python from 3.6 on and with built-in modules alone. It is
not imported there: ``stockade.lowering.text`` sends its text, as a part of what a cold interpreter
(``stockade.lowering.inside.cold``) and a warm one begin with.

The text is a file on descriptor 9 for as long as the program runs. So tracebacks show its
lines, ``inspect`` finds its source, and ``multiprocessing`` finds its functions when it
starts new interpreters.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

CODE = 9
#: What tracebacks name: the text, in this process and in those that it forks.
NAME = "/proc/self/fd/9"


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


def report(own_part: "Callable[[TracebackType], TracebackType | None] | None" = None) -> int:
    """Show the exception that is being handled as the interpreter shows what nobody caught,
    without the frame that ran the program, or with ``own_part`` of its traceback alone."""
    kind, error, tb = sys.exc_info()
    assert kind and error and tb
    tb = own_part(tb) if own_part else tb.tb_next
    error.__traceback__ = tb
    sys.last_type, sys.last_value, sys.last_traceback = kind, error, tb
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    try:
        sys.excepthook(kind, error, tb)
    except SystemExit:
        raise
    except BaseException as other:
        sys.stderr.write("Error in sys.excepthook:\n")
        sys.__excepthook__(type(other), other, other.__traceback__)
        sys.stderr.write("\nOriginal exception was:\n")
        sys.__excepthook__(kind, error, tb)
    # An interrupt ends a program by its signal since Python 3.8.
    return -2 if kind is KeyboardInterrupt and sys.version_info >= (3, 8) else 1
