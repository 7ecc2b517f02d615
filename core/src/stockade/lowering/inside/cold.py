"""How a new interpreter runs the code that came with its start.

Runs inside a sandbox, after the text of ``stockade.lowering.inside.program``; see there.
"""

import os
import sys

from stockade.lowering.inside.program import CODE, NAME, execute, from_others, new_main, read_code

#: The name of a text that is no file, where the system has none without a folder.
NAMELESS = "<code>"


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
