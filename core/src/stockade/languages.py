"""Which languages a sandbox runs, found once a session (D1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockade.config import MIB
from stockade.errors import StockadeError, WallError
from stockade.ids import new_execution_id
from stockade.lower import INTERPRETERS, find_interpreters
from stockade.output import BoundedOutput
from stockade.results import Stream
from stockade.wall import ExecRequest, Form, Sandbox
from stockade.workers import bounded

if TYPE_CHECKING:
    from stockade.registry import SessionRecord
    from stockade.runtime import Runtime

__all__ = ["languages_of"]

_LOOK_SECONDS = 20.0


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
    try:
        told: object = bounded(runtime.workers, sandbox.languages, _LOOK_SECONDS)
        if told is None:
            return bounded(
                runtime.workers, lambda: _look(runtime, record, sandbox), 2 * _LOOK_SECONDS
            )
    except StockadeError:
        raise
    except Exception as error:
        raise WallError(
            f"{record.provider} failed at saying which languages it runs: "
            f"{type(error).__name__}: {error}; report it to its author."
        ) from error
    if isinstance(told, (list, tuple)) and all(isinstance(word, str) for word in told):
        return tuple(told)
    raise WallError(
        f"languages() of {record.provider} returned {told!r:.200}, not names; "
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
