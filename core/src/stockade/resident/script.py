"""From a request to the text that a lane runs."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Callable
from importlib.resources import files

import attrs

from stockade.errors import ConfigError
from stockade.lower import lower
from stockade.wall import ExecRequest, Form

__all__ = ["NEEDS", "Job", "prepare", "supervisor", "supervisor_argv", "supervisor_by_input"]

#: What a sandbox must hold for the supervisor to run.
NEEDS = "sh, cat, dd and grep (mkfifo and rm, too, where sh is bash), and a writable /tmp"
#: Runs the text that its own input begins with, $2 bytes, and leaves the rest to it.
_BY_INPUT = 'eval "$(dd iflag=count_bytes,fullblock bs=65536 count=$2 2>/dev/null)"'
#: Names that a shell can export. What others would need (``env``) shows values to
#: every reader of the process list (B4).
_EXPORTABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
#: Text up to this goes as lines, read byte by byte; longer text is cheaper by `dd`.
_LINE_BYTES = 512
#: Variables that an interpreter reads when it starts, which the zygote did long ago.
_UNDER_PYTHON = ("PYTHON", "LD_", "LANG", "LC_")


@attrs.frozen
class Job:
    """One order to a lane: the operation's letter, its text, the program's input."""

    kind: str  #: "r" for the worker, "p" for the zygote
    text: bytes = attrs.field(repr=False)
    stdin: bytes = attrs.field(repr=False)
    #: The same for a zygote that serves its lane alone; None: no such can run it.
    served: Callable[[], bytes] | None = attrs.field(default=None, repr=False)

    def order(self, token: bytes, *, served: bool = False) -> tuple[bytes, bytes]:
        """What is written to the lane: the head with the text, and the input."""
        kind, text = self.kind, self.text
        if served and self.served is not None:
            kind, text = "p", self.served()
        inline = kind == "r" and len(text) <= _LINE_BYTES
        if inline and not text.endswith(b"\n"):
            text += b"\n"
        length = -text.count(b"\n") if inline else len(text)
        head = b"%s %s %d %d\n" % (kind.encode(), token, length, len(self.stdin))
        return head + text, self.stdin


@functools.cache
def supervisor() -> tuple[str, str]:
    """The supervisor's shell script, and the zygote's code it is given as second argument.

    Started as ``sh -c SCRIPT sh LANE ZYGOTE`` with the channel as its standard streams.
    """
    here = files("stockade.resident")
    script = here.joinpath("supervisor.sh").read_text()
    bare = "\n".join(line for line in script.splitlines() if not line.lstrip().startswith("#"))
    zygote, served, compiled = (
        "".join(here.joinpath(name).read_text() for name in names)
        for names in (("zygote.py",), ("spawning.py", "served.py"), ("compiled.py",))
    )
    return bare, f"ZYGOTE = {zygote!r}\nSERVED = {served!r}\n{compiled}"


def supervisor_argv(number: int, shell: str = "sh") -> list[str]:
    """What a wall starts in its sandbox for lane ``number``, with the channel as its
    standard streams."""
    script, zygote = supervisor()
    return [shell, "-c", script, "sh", str(number), zygote]


def supervisor_by_input(number: int) -> tuple[list[str], bytes]:
    """The same in few words, and what must come over the channel before anything else (see
    ``Lane.hail``): for who keeps the command, as an engine does, and writes it to its disk
    with each change of the container's state."""
    text = _input()
    return ["sh", "-c", _BY_INPUT, "sh", str(number), str(len(text))], text


@functools.cache
def _input() -> bytes:
    script, zygote = supervisor()
    return f'set -- "$1" {shlex.quote(zygote)}\n{script}'.encode()


def prepare(
    request: ExecRequest, *, warm: bool = False, hidden: bool = False, home: str | None = None
) -> Job:
    """The job for a request; ``warm`` has Python code run by the zygote; ``hidden``: what
    is not there looks forbidden (see ``ResidentSandbox.hides_missing``); ``home``: where
    the supervisor was started, if known.

    Raises ConfigError for an environment name that no shell can export, LanguageError.
    """
    if warm and request.form is Form.CODE:
        return _zygote_job(request)
    if request.form is Form.SHELL:
        if "\0" in request.script:
            raise ConfigError("a shell line holds NUL, which no shell takes; remove it.")
        body, stdin = _shell_body(request.script), request.stdin
    else:
        request = lower(request)
        body, stdin = _exec_body(request.argv, hidden), request.stdin
    # Few letters, since the shell reads them one by one; `at` is the supervisor's.
    where = "" if request.working_dir == home else f" {shlex.quote(request.working_dir)}"
    text = f"at{where};{_exports(request)}{body}"
    data = text.encode("utf-8", "surrogateescape")
    return Job("r", data, stdin, functools.partial(_served_text, request))


def can_be_warm(request: ExecRequest) -> bool:
    """Whether the zygote runs it as a new interpreter would."""
    return (
        request.form is Form.CODE
        and request.language == "python"
        and not any(name.startswith(_UNDER_PYTHON) for name in request.env)
    )


def _exports(request: ExecRequest) -> str:
    for name in request.env:
        if not _EXPORTABLE.match(name):
            raise ConfigError(
                f"env name {name!r} is not allowed here: a shell cannot export it; "
                "use letters, digits and _."
            )
    pairs = " ".join(f"{name}={shlex.quote(value)}" for name, value in request.env.items())
    return f"export {pairs};" if pairs else ""


def _exec_body(argv: tuple[str, ...], hidden: bool) -> str:
    words = " ".join(shlex.quote(word) for word in argv)
    if hidden and "/" in argv[0]:
        name = shlex.quote(argv[0])
        missing = f"printf 'sh: %s: not found\\n' {name} >&2;exit 127"
        return f"[ -e {name} ]||{{ {missing}; }};exec {words}"
    # A name that looks like an option of exec's own needs somebody who takes `--`.
    return f"exec env -- {words}" if argv[0].startswith("-") else f"exec {words}"


def _shell_body(line: str) -> str:
    # As a here-document: not an argument (D10), and the program's input stays its own.
    end = "END"
    while end in line:
        end += "_"
    return f"exec sh -c '. /proc/self/fd/9' sh 9<<'{end}'\n{line}\n{end}\n"


def _zygote_job(request: ExecRequest) -> Job:
    return Job("p", _packed("s" if request.state else "f", request, request.script), request.stdin)


def _served_text(request: ExecRequest) -> bytes:
    """An argument vector or a shell's line, for served.py."""
    if request.form is Form.SHELL:
        return _packed("l", request, request.script)
    return _packed("x", request, "\0".join(request.argv))


def _packed(flag: str, request: ExecRequest, body: str) -> bytes:
    env = [f"{name}={value}" for name, value in request.env.items()]
    head = "\0".join([flag, request.working_dir, *env]) + "\0\0"
    return (head + body).encode("utf-8", "surrogateescape")
