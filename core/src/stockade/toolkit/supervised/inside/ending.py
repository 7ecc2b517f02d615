"""How a program in a warm interpreter ends: as one in its own does, except the modules.

What a program can see of its interpreter's end is done here in the interpreter's order, and
then the process is left. The rest, the taking down of every module, is memory that the kernel
frees in no time; under gVisor it takes longer than all that a short program does.
"""

import sys

#: What a new interpreter has; looked at before anything else is imported.
KNOWN = frozenset(sys.modules)

import _signal  # type: ignore[import-not-found] # noqa: E402
import gc  # noqa: E402
import io  # noqa: E402
import os  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

BUFFERS = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom, io.BufferedRWPair)


def exit_status(code: object) -> int:
    """What the argument of ``exit`` means; it is written where it is no number."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 255 if -(1 << 63) <= code < 1 << 63 else 255
    if sys.stderr is not None:
        attempt(lambda: sys.stderr.write(f"{code}\n"))
    return 1


def leave(status: int) -> None:
    """End this process; a negative status is a signal's. No frame below holds the program's
    variables any more."""
    if "threading" in sys.modules:
        attempt(sys.modules["threading"]._shutdown, shown=True)
    if "atexit" in sys.modules:
        attempt(sys.modules["atexit"]._run_exitfuncs)
    kept = flushed(sys.stdout, sys.stderr)
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        sys.__dict__.pop(name, None)
    forget_modules()
    attempt(gc.collect)
    for item in gc.get_objects():
        if issubclass(type(item), BUFFERS):
            attempt(item.flush)
    if not (flushed(sys.__stdout__, sys.__stderr__) and kept):
        status = 120
    if status < 0:
        _signal.signal(-status, _signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def attempt(call: "Callable[[], object]", shown: bool = False) -> bool:
    """Whether it went well; ``shown``: what it raises is, as the interpreter's end does."""
    try:
        call()
    except BaseException:
        if shown and sys.stderr is not None:
            found: Any = sys.exc_info()
            attempt(lambda: sys.stderr.write(f"Exception ignored in: {call!r}\n"))
            attempt(lambda: sys.__excepthook__(*found))
        return False
    return True


def flushed(out: "Any", err: "Any") -> bool:
    """Whether all that was written to standard output and error has gone there."""
    kept = True
    for stream in (out, err):
        if stream is not None and not getattr(stream, "closed", False):
            kept = attempt(stream.flush, shown=stream is out) and kept
    return kept


def forget_modules() -> None:
    """Let go of the program, and of its own modules, so that their objects end while their
    globals are there. What is installed lives as long as the process."""
    installed = (sys.prefix, sys.exec_prefix, os.path.dirname(os.__file__))
    for name in [name for name in sys.modules if name not in KNOWN]:
        file = getattr(sys.modules[name], "__file__", None)
        if isinstance(file, str) and not file.startswith(installed):
            del sys.modules[name]
    sys.modules.pop("__main__", None)
