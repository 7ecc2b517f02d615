"""Small programs in each language that a wall may have: what checks run where it need not be sh."""

from __future__ import annotations

import json
import secrets
import shlex

import attrs

__all__ = ["Program", "beat", "chatter", "hog", "leave", "say", "sleep", "unique"]


@attrs.frozen(kw_only=True)
class Program:
    """One program, written for ``sh``, Python and JavaScript; empty if it cannot be."""

    name: str
    sh: str
    python: str = ""
    javascript: str = ""


def say(out: str, err: str = "") -> Program:
    """Print text on both streams, without a line's end."""
    sh = f"printf %s {shlex.quote(out)}" + (f"; printf %s {shlex.quote(err)} >&2" if err else "")
    python = f"import sys; sys.stdout.write({out!r}); sys.stderr.write({err!r})"
    # console.log is all that small engines have, and it ends the line.
    javascript = f"console.log({json.dumps(out[:-1])})" if out.endswith("\n") and not err else ""
    return Program(name="say", sh=sh, python=python, javascript=javascript)


def sleep(seconds: float, after: str = "") -> Program:
    """Print a line if one is given, then do nothing for so long."""
    line = f"printf '%s\\n' {shlex.quote(after)}; " if after else ""
    printed = f"print({after!r}, flush=True); " if after else ""
    logged = f"console.log({json.dumps(after)}); " if after else ""
    return Program(
        name="sleep",
        sh=f"{line}sleep {seconds:g}",
        python=f"import time; {printed}time.sleep({seconds:g})",
        javascript=f"{logged}const t = Date.now() + {seconds * 1000:g}; while (Date.now() < t);",
    )


def leave(code: int) -> Program:
    """Exit with a code."""
    return Program(name="exit", sh=f"exit {code}", python=f"import sys; sys.exit({code})")


def chatter() -> Program:
    """Print without end."""
    return Program(
        name="yes",
        sh="exec yes",
        python="while True: print('y' * 1000)",
        javascript="while (true) console.log('y'.repeat(1000))",
    )


def hog() -> Program:
    """Take half a gibibyte of memory, then exit with 3: it harms nobody where no limit holds."""
    return Program(
        name="hog",
        sh="a=0123456789abcdef; i=0; while [ $i -lt 25 ]; do a=$a$a; i=$((i+1)); done; exit 3",
        python="import sys\nx = [b'x' * (1 << 23) for _ in range(64)]\nsys.exit(3)",
        javascript="const x = []; for (let i = 0; i < 64; i++) x.push('x'.repeat(1 << 23) + i);",
    )


def beat(path: str) -> str:
    """A shell loop that gives a sign of life in a file ten times a second.

    It exits in the end, since a wall under test may fail to end it.
    """
    return f"i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo x >> {path}; sleep 0.1; done"


def unique(word: str = "f") -> str:
    """A file's name that no other check uses."""
    return f"{word}-{secrets.token_hex(6)}"
