"""From a caller's arguments to a checked request, started: the trait's and the sessions' way."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Literal

from stockade.capabilities import Feature
from stockade.config import MIB, OutputKeep, OutputPolicy, SandboxConfig, check_env, check_path
from stockade.errors import ConfigError, LanguageError
from stockade.executions._execution import Execution
from stockade.executions._executor import Executor
from stockade.executions._home import Home
from stockade.executions._languages import has_language, languages_of
from stockade.executions._reaching import as_bytes
from stockade.lowering.argv import KNOWN
from stockade.values.ids import new_execution_id
from stockade.values.pipe import PIPE, Pipe
from stockade.wall import ExecRequest, Form, Language, Wall

__all__ = [
    "MAX_STDIN_BYTES",
    "check_argv",
    "check_form",
    "check_state",
    "deadline",
    "environment",
    "start",
    "working_folder",
]


class _Left(Enum):
    """What stands for an argument that was not given, where None says something else."""

    OUT = "left out"


_LeftOut = Literal[_Left.OUT]

#: Standard input is handed over as bytes, so it is bounded like a file is.
MAX_STDIN_BYTES = 256 * MIB
_INSTEAD = {
    Form.ARGV: "use session.shell or session.code.",
    Form.SHELL: "use session.run or session.code.",
    Form.CODE: "use session.run or session.shell.",
}


def check_form(name: str, wall: Wall, form: Form) -> None:
    """Raise UnsupportedError if the wall lacks one of the three forms (D1)."""
    wall.capabilities.require(Feature(form.value), name, _INSTEAD[form])


def check_argv(argv: object) -> tuple[str, ...]:
    """A non-empty sequence of text without NUL, as a tuple; else ConfigError."""
    if isinstance(argv, (str, bytes)) or not isinstance(argv, Sequence):
        raise ConfigError(
            f"argv={argv!r:.80} is not allowed: give a list of texts, such as ['echo', 'hi']; "
            "a line for the shell goes to session.shell."
        )
    for item in argv:
        if not isinstance(item, str) or "\0" in item:
            raise ConfigError(f"argv holds {item!r:.80}: each item is text without NUL.")
    if not argv or not argv[0]:
        raise ConfigError("argv is empty or names no program: give at least the program.")
    return tuple(argv)


def start(
    executor: Executor,
    wall: Wall,
    home: Home,
    form: Form,
    *,
    argv: Sequence[str] = (),
    script: str = "",
    language: str | None = None,
    state: str | None = None,
    stdin: bytes | str | Pipe = b"",
    env: Mapping[str, str] | None = None,
    working_dir: str | None = None,
    user: str | None = None,
    timeout: float | _LeftOut | None = _Left.OUT,
    output_limit_bytes: int | None = None,
    output_policy: OutputPolicy | str | None = None,
    output_keep: OutputKeep | str | None = None,
    merge: bool = False,
    live: bool = False,
    joinable: bool = True,
) -> Execution:
    """Check everything, then start the request. Raises ConfigError, UnsupportedError,
    LanguageError, PolicyRefusedError, SessionStateError.

    A ``timeout`` of None is no deadline, one that is left out the session's; a relative
    ``working_dir`` starts at the session's (D15).
    """
    home.here()
    check_form(home.provider, wall, form)
    if form is Form.ARGV:
        argv = check_argv(argv)
    elif not isinstance(script, str):
        raise ConfigError(f"the {form} to run is text, not {type(script).__name__}.")
    config = _execution_config(
        home.config,
        timeout,
        output_limit_bytes=output_limit_bytes,
        output_policy=output_policy,
        output_keep=output_keep,
        user=user,
    )
    for feature, asked, instead in (
        (Feature.LIVE_INPUT, stdin is PIPE, "give stdin as bytes."),
        (Feature.MERGED_OUTPUT, merge, "read both streams."),
        (Feature.EXECUTION_USER, user is not None, "open the session with user=…."),
    ):
        if asked:
            wall.capabilities.require(feature, home.provider, instead)
    if stdin is PIPE and not joinable:
        raise ConfigError("stdin=PIPE is for start and stream: here nobody could write to it.")
    seconds = None if timeout is None else config.timeout_seconds
    info = None
    if form is Form.CODE:
        language, info = _language(executor, home, language or "")
    if state is not None:
        check_state(home, wall, state, language)
    request = ExecRequest(
        execution_id=new_execution_id(),
        form=form,
        argv=tuple(argv),
        script=script,
        language=language,
        interpreter=home.interpreters.get(language or ""),
        language_info=info,
        state=state,
        stdin=b"" if isinstance(stdin, Pipe) else _stdin(stdin),
        live_input=stdin is PIPE,
        merge=bool(merge),
        user=user,
        working_dir=working_folder(home.config, working_dir),
        env=environment(home.config, env),
        timeout_seconds=seconds,
    )
    return executor.execute(
        home,
        request,
        have=wall.capabilities,
        limits=config,
        live=live,
        joinable=joinable,
    )


def _execution_config(
    config: SandboxConfig,
    timeout: float | _LeftOut | None,
    **own: Any,
) -> SandboxConfig:
    """The session's limits with the execution's own, checked by the same rules (B2)."""
    own["timeout_seconds"] = None if timeout is _Left.OUT else timeout
    changes = {name: value for name, value in own.items() if value is not None}
    if isinstance(timeout, float) and math.isinf(timeout):
        raise ConfigError("timeout=inf is not allowed: give seconds, or None for no deadline.")
    return config.with_(**changes) if changes else config


def deadline(config: SandboxConfig, timeout: float | None) -> float | None:
    """A deadline of an execution's own, checked as the session's is. Raises ConfigError."""
    if timeout is None:
        return None
    return _execution_config(config, timeout).timeout_seconds


def _language(executor: Executor, home: Home, language: str) -> tuple[str, Language | None]:
    """The language's name for a name or an alias; with how it runs, where a plug-in brought it.

    A word that nothing here knows may be one that the sandbox knows.
    """
    if not isinstance(language, str) or not language:
        raise ConfigError("language is missing: name it, such as language='python'.")
    word = language.lower()
    known = executor.languages.get(word)
    if known is None:
        there = word in languages_of(executor.workers, home)
    else:
        word, there = known.name, has_language(executor.workers, home, known)
    if not there:
        raise LanguageError(language, languages_of(executor.workers, home))
    return word, None if known in KNOWN else known


def check_state(home: Home, wall: Wall, state: object, language: str | None) -> None:
    """Raise UnsupportedError, ConfigError for what can be no named interpreter (D20)."""
    wall.capabilities.require(
        Feature.STATEFUL, home.provider, "keep state in a file of the session."
    )
    kept = home.sandbox.stateful_languages if home.sandbox is not None else ()
    if language not in kept:
        raise ConfigError(
            f"state={state!r:.80} is for code in {', '.join(kept)}, not {language!r:.80}."
        )
    if not isinstance(state, str) or not 1 <= len(state) <= 64 or not state.isprintable():
        raise ConfigError(f"state={state!r:.80} is not allowed: 1 to 64 printable characters.")


def _stdin(stdin: object) -> bytes:
    data = as_bytes("stdin", stdin)
    if len(data) > MAX_STDIN_BYTES:
        raise ConfigError(
            f"stdin of {len(data)} bytes is not allowed: {MAX_STDIN_BYTES} at most; "
            "write a file with session.files instead."
        )
    return data


def working_folder(config: SandboxConfig, working_dir: str | None) -> str:
    """The folder that an execution starts in; a relative one is below the session's (D15)."""
    if working_dir is None:
        return config.working_dir
    if isinstance(working_dir, str) and working_dir and not working_dir.startswith("/"):
        if ".." in working_dir.split("/"):
            # Where a link leads is known inside alone: as text it would be a guess.
            raise ConfigError(
                f"working_dir={working_dir!r} is not allowed: a relative folder is one below the "
                f"session's ({config.working_dir}); write the absolute path of any other."
            )
        working_dir = posixpath.normpath(posixpath.join(config.working_dir, working_dir))
    check_path("working_dir", working_dir)
    return working_dir


def environment(config: SandboxConfig, env: Mapping[str, str] | None) -> Mapping[str, str]:
    """The session's variables with the execution's own on top (D9). Raises ConfigError."""
    if not env:
        return config.env_vars
    if not isinstance(env, Mapping):
        raise ConfigError(f"env is a mapping from text to text, not {type(env).__name__}.")
    check_env("env", env)
    return {**config.env_vars, **env}
