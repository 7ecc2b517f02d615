"""Which languages a sandbox runs, found once a session (D1)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from stockade.config import MIB
from stockade.errors import StockadeError, WallError
from stockade.executions._output import BoundedOutput
from stockade.lowering.argv import INTERPRETERS, find_interpreters
from stockade.results import Stream
from stockade.system.threads import bounded
from stockade.values.ids import new_execution_id
from stockade.values.shown import named
from stockade.wall import ExecRequest, Form, Sandbox

if TYPE_CHECKING:
    from stockade.sessions._registry import SessionRecord
    from stockade.sessions._runtime import Runtime

__all__ = ["has_language", "languages_of"]

_LOOK_SECONDS = 20.0


def has_language(runtime: Runtime, record: SessionRecord, name: str) -> bool:
    """Whether code in it can run; one that the sandbox knows of costs no look for the others."""
    sandbox = record.sandbox
    if record.languages is None and name not in record.interpreters and sandbox is not None:
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
    return record.languages


def _ask(runtime: Runtime, record: SessionRecord, sandbox: Sandbox) -> tuple[str, ...]:
    """What the sandbox says, or what it has. Raises WallError where it hangs or says nonsense."""
    what = "languages()"
    told = _said(runtime, record, what, sandbox.languages)
    if told is None:
        what = "the look for interpreters"
        look = functools.partial(_look, runtime, record, sandbox)
        told = _said(runtime, record, what, look, 2 * _LOOK_SECONDS)
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


def _look(runtime: Runtime, record: SessionRecord, sandbox: Sandbox) -> tuple[str, ...]:
    output = BoundedOutput(MIB)
    request = ExecRequest(
        execution_id=new_execution_id(),
        form=Form.ARGV,
        argv=find_interpreters(),
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
    for language, candidates in INTERPRETERS.items():
        present = [program for program in candidates if program in programs]
        if present:
            found[language] = present[0]
    record.interpreters = found
    return tuple(found)
