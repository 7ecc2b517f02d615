"""From a request to what the supervisor starts: an argument vector, and the text that it runs.

The text (a shell line, code) is a file on the program's descriptor 9. So standard input is
the program's own from its first byte on, a text may be 1 MiB long and more (D10), and nothing
of it stands in an argument list (B4).
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from stockade.lowering.argv import COLD, INTERPRETERS, language_of, script_bytes
from stockade.lowering.text import inside_text
from stockade.wall import ExecRequest, Form

__all__ = ["LoweredRequest", "lower_request"]

#: The text as a file, for the program itself. A shell closes the descriptor by the text's
#: own first words, since what a shell starts would inherit it.
_TEXT = "/proc/self/fd/9"
_CLOSED = b"exec 9<&-; "
_SOURCED = f". {_TEXT}"

#: As ``-e`` runs its argument: ``require`` finds modules from the working folder, ``import()``
#: works, and nothing of the reader is in the code's scope.
_NODE = f"""\
{{
  const fs = require("fs"), text = fs.readFileSync("{_TEXT}", "utf8");
  fs.closeSync(9);
  (0, eval)(text.replace(/^\\uFEFF/, "") + "\\n//# sourceURL=<code>");
}}
"""

#: Variables that an interpreter reads when it starts; a warm one did that long ago.
_READ_AT_START = ("PYTHON", "LD_", "LANG", "LC_", "MALLOC_", "GLIBC_")


@attrs.frozen(kw_only=True)
class LoweredRequest:
    """What the supervisor is to start, whole: nothing of it is interpreted on the way."""

    argv: tuple[str, ...]
    #: On top of the sandbox's own environment (D9).
    env: Mapping[str, str] = attrs.field(repr=lambda env: f"<{len(env)} names>")
    cwd: str
    #: What the program finds on descriptor 9, from offset 0, or None for no such descriptor.
    blob: bytes | None = attrs.field(default=None, repr=False)
    #: None: it stays open (D17).
    stdin: bytes | None = attrs.field(default=b"", repr=False)
    merge: bool = False  #: one stream for both outputs (D5)
    user: tuple[int, int] | None = None  #: uid and gid, where they are not the sandbox's own
    #: Whether a warm interpreter may run it with the same result: then the blob is the code,
    #: and ``argv`` the cold start that does the same.
    warm: bool = False
    #: The name of the interpreter that keeps its variables; only a warm one can (D20).
    state: str | None = None
    #: The program that warm interpreters for it are made of; empty if none is.
    interpreter: str = ""


def lower_request(request: ExecRequest) -> LoweredRequest:
    """What starts this request. Called by a supervised sandbox for each execution.

    Raises LanguageError for a language that nothing here starts, ConfigError for a text that
    cannot arrive unchanged (NUL in a shell's, a lone surrogate).
    """
    if request.form is Form.ARGV:
        return _lowered(request, request.argv, None)
    language = language_of(request)
    text = script_bytes(request, language)
    info = request.language_info
    program = request.interpreter or (info.programs if info else INTERPRETERS[language])[0]
    if info is not None:
        return _lowered(request, (program, *info.file_arguments, _TEXT), text)
    if language == "python":
        return _python(request, program, text)
    if language in ("sh", "bash"):
        return _lowered(request, (program, "-c", _SOURCED, language), _CLOSED + text + b"\n")
    if language == "javascript":
        return _lowered(request, (program, "-e", _NODE), text)
    return _lowered(request, (program, _TEXT), text)


def _python(request: ExecRequest, program: str, text: bytes) -> LoweredRequest:
    argv = (program, "-c", inside_text(*COLD) + "\nstart()")
    as_at_start = not any(name.startswith(_READ_AT_START) for name in request.env)
    lowered = _lowered(request, argv, text)
    return attrs.evolve(
        lowered,
        warm=(as_at_start and request.user is None) or request.state is not None,
        state=request.state,
        interpreter=program,
    )


def _lowered(request: ExecRequest, argv: tuple[str, ...], blob: bytes | None) -> LoweredRequest:
    return LoweredRequest(
        argv=argv,
        env=request.env,
        cwd=request.working_dir,
        blob=blob,
        stdin=None if request.live_input else request.stdin,
        merge=request.merge,
        user=_user(request.user),
    )


def _user(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    uid, _, gid = text.partition(":")
    return int(uid), int(gid or uid)
