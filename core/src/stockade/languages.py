"""Which languages a sandbox runs, found once a session (D1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockade.config import MIB
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
        told = sandbox.languages()
        record.languages = tuple(told) if told is not None else _look(runtime, record, sandbox)
    return record.languages


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
