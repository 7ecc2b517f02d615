"""Shell lines and code as an argument vector whose standard input carries the text.

A wall that can run an argument vector with standard input gets the other two
forms from here. The text travels ahead of the caller's own input, never as an
argument: so it may be 1 MiB long (D10) and no user of the host can read it in
the process list. A small reader takes exactly the text's bytes and leaves the
rest of the input to the program.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from stockade.errors import ConfigError, LanguageError
from stockade.lowering.text import inside_text
from stockade.wall import ExecRequest, Form, Language

__all__ = [
    "COLD",
    "INTERPRETERS",
    "KNOWN",
    "LANGUAGES",
    "find_programs",
    "language_of",
    "lower",
    "script_bytes",
]

# This dd reads no byte too many from a pipe, in GNU coreutils, busybox and toybox
# alike; busybox's `head -c` does. The `set --` hides the count from the line's own
# "$1"; its exit status is the last command's.
_SHELL = 'eval "set --\n$(dd iflag=count_bytes,fullblock bs=65536 count="$1" 2>/dev/null)"'

# In a block, since the code may use the same names.
_NODE = """\
{
  const fs = require("fs"), n = parseInt(process.argv[1], 10), b = Buffer.alloc(n);
  let at = 0;
  while (at < n) { try { const r = fs.readSync(0, b, at, n - at, null); if (!r) break; at += r; }
    catch (e) { if (e.code !== "EAGAIN") throw e; } }
  process.argv.splice(1, 1);
  (0, eval)(b.toString("utf8", 0, at).replace(/^\\uFEFF/, "") + "\\n//# sourceURL=<code>");
}
"""

_PERL = (
    "my $n = shift; my $c = ''; "
    "while (length($c) < $n) { sysread(STDIN, $c, $n - length($c), length($c)) or last } "
    'eval "package main;\\n#line 1 \\"<code>\\"\\n$c"; if ($@) { print STDERR $@; exit 255 }'
)

_RUBY = (
    "n = ARGV.shift.to_i; c = String.new; "
    "c << STDIN.sysread(n - c.bytesize) while c.bytesize < n; "
    "eval(c.force_encoding('UTF-8'), TOPLEVEL_BINDING, '<code>')"
)

#: What a new Python is given to run code with, as modules of ``inside_text``.
COLD = ("stockade.lowering.inside.program", "stockade.lowering.inside.cold")

#: Core's own languages. Python's reader is made when it is needed (``_reader``).
KNOWN = (
    Language(name="python", programs=("python3", "python"), aliases=("py", "python3")),
    Language(name="sh", programs=("sh",), aliases=("shell",), reader=("-c", _SHELL, "sh")),
    Language(name="bash", programs=("bash",), reader=("-c", _SHELL, "bash")),
    Language(
        name="javascript",
        programs=("node", "nodejs"),
        aliases=("js", "node"),
        reader=("-e", _NODE),
    ),
    Language(name="perl", programs=("perl",), reader=("-e", _PERL)),
    Language(name="ruby", programs=("ruby",), reader=("-e", _RUBY)),
)
#: Of these, the programs that run each, in order of preference.
INTERPRETERS: dict[str, tuple[str, ...]] = {one.name: one.programs for one in KNOWN}
LANGUAGES = tuple(INTERPRETERS)
_READERS = {one.name: one.reader for one in KNOWN}


def lower(request: ExecRequest) -> ExecRequest:
    """The same execution in the argv form; an argv request comes back unchanged.

    Code runs with the interpreter that core found, else the language's first.
    Called by walls at the top of ``Sandbox.start``. Raises LanguageError for a
    language without a reader, ConfigError as ``script_bytes`` does.
    """
    if request.form is Form.ARGV:
        return request
    language = language_of(request)
    text = script_bytes(request, language)
    info = request.language_info
    reader = _reader(language) if info is None else info.reader
    if not reader:
        raise LanguageError(language, LANGUAGES)
    program = request.interpreter or (info.programs if info else INTERPRETERS[language])[0]
    argv = (program, *reader, str(len(text)))
    return attrs.evolve(
        request,
        form=Form.ARGV,
        argv=argv,
        script="",
        language=None,
        stdin=text + request.stdin,
    )


def language_of(request: ExecRequest) -> str:
    """The known language that a shell line or code is in. Raises LanguageError."""
    language = "sh" if request.form is Form.SHELL else request.language or ""
    if language not in INTERPRETERS and request.language_info is None:
        raise LanguageError(language, LANGUAGES)
    return language


def script_bytes(request: ExecRequest, language: str) -> bytes:
    """The line or the code as its interpreter reads it: UTF-8, escaped bytes as they were.

    Raises ConfigError for what cannot arrive unchanged: a NUL in a shell's text, which
    shells drop or take for the end, and a surrogate that stands for no byte.
    """
    what = "a shell line" if request.form is Form.SHELL else f"code in {language}"
    if "\0" in request.script and language in ("sh", "bash"):
        raise ConfigError(f"{what} holds NUL, which no shell takes; remove it.")
    try:
        return request.script.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{what} holds a lone surrogate at character {error.start}, which is no text; "
            "remove it."
        ) from None


def _reader(language: str) -> tuple[str, ...]:
    if language == "python":
        return ("-c", inside_text(*COLD) + "\nstart_from_input()")
    return _READERS[language]


def find_programs(programs: Iterable[str]) -> tuple[str, ...]:
    """An argument vector that prints which of these programs the sandbox has, one a line."""
    return (
        "sh",
        "-c",
        'for p do command -v "$p" >/dev/null && echo "$p"; done; :',
        "sh",
        *programs,
    )
