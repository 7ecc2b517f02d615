"""Which languages a sandbox runs, found once a session (D1)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from stockade.config import MIB
from stockade.errors import StockadeError, WallError
from stockade.executions._output import BoundedOutput
from stockade.lowering.argv import KNOWN, find_programs
from stockade.results import Stream
from stockade.system.threads import bounded
from stockade.values.ids import new_execution_id
from stockade.values.shown import named
from stockade.wall import ExecRequest, Form, Language, Sandbox

if TYPE_CHECKING:
    from stockade.executions._home import Home
    from stockade.system.threads import Workers

__all__ = ["has_language", "languages_of"]

_LOOK_SECONDS = 20.0


def has_language(workers: Workers, home: Home, language: Language) -> bool:
    """Whether code in it can run; one that the sandbox knows of costs no look for the others."""
    name, sandbox = language.name, home.sandbox
    if name in home.interpreters:
        return True
    if sandbox is not None and language not in KNOWN:  # the sandbox cannot know of it
        what = "the look for interpreters"
        look = functools.partial(_look, workers, home, sandbox, (language,))
        home.interpreters.update(_found(home, _said(workers, home, what, look)))
        return name in home.interpreters
    if home.languages is None and sandbox is not None:
        what = f"interpreter({name!r})"
        answer = _said(workers, home, what, functools.partial(sandbox.interpreter, name))
        if isinstance(answer, str):
            home.interpreters[name] = answer
        elif answer is not None:
            raise _of_another_type(home, what, answer, "a program")
    return name in home.interpreters or name in languages_of(workers, home)


def languages_of(workers: Workers, home: Home) -> tuple[str, ...]:
    """The languages; asked of the sandbox, else looked for with one small execution."""
    if home.languages is None:
        sandbox = home.sandbox
        if sandbox is None:
            return ()
        home.languages = _ask(workers, home, sandbox)
    return tuple(dict.fromkeys((*home.languages, *home.interpreters)))


def _ask(workers: Workers, home: Home, sandbox: Sandbox) -> tuple[str, ...]:
    """What the sandbox says, or what it has. Raises WallError if it hangs, and where what it
    says is of another type."""
    what = "languages()"
    answer = _said(workers, home, what, sandbox.languages)
    if answer is None:
        what = "the look for interpreters"
        look = functools.partial(_look, workers, home, sandbox, KNOWN)
        found = _found(home, _said(workers, home, what, look, 2 * _LOOK_SECONDS))
        home.interpreters.update(found)
        answer = tuple(found)
    if isinstance(answer, (list, tuple)) and all(isinstance(word, str) for word in answer):
        return tuple(answer)
    raise _of_another_type(home, what, answer, "names")


def _said(
    workers: Workers,
    home: Home,
    what: str,
    work: Callable[[], object],
    seconds: float | None = None,
) -> object:
    try:
        return bounded(workers, work, seconds or _LOOK_SECONDS)
    except StockadeError:
        raise
    except Exception as error:
        raise WallError(
            f"{what} of {home.provider} failed: {named(error)}; report it to its author."
        ) from error


def _of_another_type(home: Home, what: str, answer: object, instead_of: str) -> WallError:
    return WallError(
        f"{what} of {home.provider} returned {answer!r:.200}, not {instead_of}; "
        "report it to its author."
    )


def _found(home: Home, found: object) -> dict[str, str]:
    if isinstance(found, dict):
        return found
    raise _of_another_type(home, "the look for interpreters", found, "programs")


def _look(
    workers: Workers,
    home: Home,
    sandbox: Sandbox,
    languages: Sequence[Language],
) -> dict[str, str]:
    """Those of these languages that the sandbox has, each with its program."""
    output = BoundedOutput(MIB)
    request = ExecRequest(
        execution_id=new_execution_id(),
        form=Form.ARGV,
        argv=find_programs(program for language in languages for program in language.programs),
        working_dir=home.config.working_dir,
        timeout_seconds=_LOOK_SECONDS,
    )
    running = sandbox.start(request, output)
    try:
        bounded(workers, running.wait, _LOOK_SECONDS)
    finally:
        running.kill()
    programs = output.data(Stream.STDOUT).decode().split()
    found = {}
    for language in languages:
        present = [program for program in language.programs if program in programs]
        if present:
            found[language.name] = present[0]
    return found
