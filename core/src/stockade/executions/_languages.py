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
    from stockade.sessions._registry import SessionRecord
    from stockade.sessions._runtime import Runtime

__all__ = ["has_language", "languages_of"]

_LOOK_SECONDS = 20.0


def has_language(runtime: Runtime, record: SessionRecord, language: Language) -> bool:
    """Whether code in it can run; one that the sandbox knows of costs no look for the others."""
    name, sandbox = language.name, record.sandbox
    if name in record.interpreters:
        return True
    if sandbox is not None and language not in KNOWN:  # the sandbox cannot know of it
        what = "the look for interpreters"
        look = functools.partial(_look, runtime, record, sandbox, (language,))
        record.interpreters.update(_found(record, _said(runtime, record, what, look)))
        return name in record.interpreters
    if record.languages is None and sandbox is not None:
        what = f"interpreter({name!r})"
        told = _said(runtime, record, what, functools.partial(sandbox.interpreter, name))
        if isinstance(told, str):
            record.interpreters[name] = told
        elif told is not None:
            raise _nonsense(record, what, told, "a program")
    return name in record.interpreters or name in languages_of(runtime, record)


def languages_of(runtime: Runtime, record: SessionRecord) -> tuple[str, ...]:
    """The languages; asked of the sandbox, else looked for with one small execution."""
    if record.languages is None:
        sandbox = record.sandbox
        if sandbox is None:
            return ()
        record.languages = _ask(runtime, record, sandbox)
    return tuple(dict.fromkeys((*record.languages, *record.interpreters)))


def _ask(runtime: Runtime, record: SessionRecord, sandbox: Sandbox) -> tuple[str, ...]:
    """What the sandbox says, or what it has. Raises WallError where it hangs or says nonsense."""
    what = "languages()"
    told = _said(runtime, record, what, sandbox.languages)
    if told is None:
        what = "the look for interpreters"
        look = functools.partial(_look, runtime, record, sandbox, KNOWN)
        found = _found(record, _said(runtime, record, what, look, 2 * _LOOK_SECONDS))
        record.interpreters.update(found)
        told = tuple(found)
    if isinstance(told, (list, tuple)) and all(isinstance(word, str) for word in told):
        return tuple(told)
    raise _nonsense(record, what, told, "names")


def _said(
    runtime: Runtime,
    record: SessionRecord,
    what: str,
    work: Callable[[], object],
    seconds: float | None = None,
) -> object:
    try:
        return bounded(runtime.workers, work, seconds or _LOOK_SECONDS)
    except StockadeError:
        raise
    except Exception as error:
        raise WallError(
            f"{what} of {record.provider} failed: {named(error)}; report it to its author."
        ) from error


def _nonsense(record: SessionRecord, what: str, told: object, instead_of: str) -> WallError:
    return WallError(
        f"{what} of {record.provider} returned {told!r:.200}, not {instead_of}; "
        "report it to its author."
    )


def _found(record: SessionRecord, found: object) -> dict[str, str]:
    if isinstance(found, dict):
        return found
    raise _nonsense(record, "the look for interpreters", found, "programs")


def _look(
    runtime: Runtime,
    record: SessionRecord,
    sandbox: Sandbox,
    languages: Sequence[Language],
) -> dict[str, str]:
    """Of these languages those that the sandbox has, each with its program."""
    output = BoundedOutput(MIB)
    request = ExecRequest(
        execution_id=new_execution_id(),
        form=Form.ARGV,
        argv=find_programs(program for language in languages for program in language.programs),
        working_dir=record.config.working_dir,
        timeout_seconds=_LOOK_SECONDS,
    )
    running = sandbox.start(request, output)
    try:
        bounded(runtime.workers, running.wait, _LOOK_SECONDS)
    finally:
        running.kill()
    programs = output.data(Stream.STDOUT).decode().split()
    found = {}
    for language in languages:
        present = [program for program in language.programs if program in programs]
        if present:
            found[language.name] = present[0]
    return found
