"""What is told of executions: to observers, and of durable sessions to the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stockade._proposals import ExecutionProposal
from stockade.errors import PolicyRefusedError, StockadeError
from stockade.events import Event, EventKind
from stockade.results import SandboxResult
from stockade.sessions._registry import SessionRecord
from stockade.wall import ExecRequest

if TYPE_CHECKING:
    from stockade.sessions._runtime import Runtime

__all__ = ["begun", "ended", "judged"]


def judged(runtime: Runtime, proposal: ExecutionProposal) -> ExecutionProposal:
    """What the policies leave of a request. Raises what they refuse it with, and reports that."""
    try:
        return runtime.hooks.judge_execution(proposal)
    except StockadeError as error:
        # A policy's own words; of other errors the type, since a message may hold anything.
        told = str(error) if isinstance(error, PolicyRefusedError) else type(error).__name__
        runtime.hooks.tell(
            Event(
                kind=EventKind.EXECUTION_REFUSED,
                provider=proposal.provider,
                agent_id=proposal.agent_id,
                session_id=proposal.session_id,
                execution_id=proposal.request.execution_id,
                form="terminal" if proposal.terminal else None,
                reason=told,
            )
        )
        raise


def begun(
    runtime: Runtime, record: SessionRecord, request: ExecRequest, form: str | None = None
) -> None:
    """An execution starts; ``form`` is what it is called where it is none of the three."""
    form = form or str(request.form)
    runtime.tell(
        EventKind.EXECUTION_STARTED, record.provider, record.agent_id, record,
        execution_id=request.execution_id, form=form,
    )  # fmt: skip
    _note(runtime, record, request, form=form, started_at=time.time())


def ended(
    runtime: Runtime, record: SessionRecord, request: ExecRequest, form: str | None = None
) -> Callable[[SandboxResult | StockadeError], None]:
    """What tells of the end of an execution; ``form`` as above."""

    def tell(end: SandboxResult | StockadeError) -> None:
        about: dict[str, Any] = {}
        kind = EventKind.EXECUTION_FINISHED
        if isinstance(end, StockadeError):
            kind = EventKind.EXECUTION_FAILED
            about["reason"] = type(end).__name__
        else:
            about.update(
                verdict=end.verdict,
                exit_code=end.exit_code,
                stdout_bytes=end.stdout_total_bytes,
                stderr_bytes=end.stderr_total_bytes,
            )
        plain = {**about, "verdict": about["verdict"].value} if "verdict" in about else about
        _note(runtime, record, request, ended_at=time.time(), **plain)
        if not isinstance(end, StockadeError):
            about["duration_seconds"] = end.duration_seconds
        runtime.tell(
            kind, record.provider, record.agent_id, record,
            execution_id=request.execution_id, form=form or str(request.form), **about,
        )  # fmt: skip

    return tell


def _note(runtime: Runtime, record: SessionRecord, request: ExecRequest, **what: Any) -> None:
    if record.config.durable and runtime.ledger is not None:
        runtime.ledger.note_execution(record.session_id, request.execution_id, **what)
