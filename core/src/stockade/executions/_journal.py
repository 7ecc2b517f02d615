"""What is reported of executions: to observers, and of durable sessions to the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from stockade.errors import PolicyRefusedError, StockadeError
from stockade.events import Event, EventKind
from stockade.results import SandboxResult

if TYPE_CHECKING:
    from stockade._proposals import ExecutionProposal
    from stockade.executions._home import Home
    from stockade.policies._hooks import Hooks
    from stockade.wall import ExecRequest

__all__ = ["ExecutionNotes", "Journal"]


class ExecutionNotes(Protocol):
    """Where it is written what ran in durable sessions; a ledger is one."""

    def note_execution(self, session_id: str, execution_id: str, **what: Any) -> None: ...


class Journal:
    """Asks policies before an execution, and reports its beginning and its end."""

    def __init__(self, hooks: Hooks, notes: ExecutionNotes | None) -> None:
        self._hooks = hooks
        self._notes = notes

    def judged(self, proposal: ExecutionProposal) -> ExecutionProposal:
        """What the policies leave of a request. Raises what they refuse it with, and reports
        that."""
        try:
            return self._hooks.judge_execution(proposal)
        except StockadeError as error:
            # A policy's own words; of other errors the type, since a message may hold anything.
            reason = str(error) if isinstance(error, PolicyRefusedError) else type(error).__name__
            self._hooks.notify(
                Event(
                    kind=EventKind.EXECUTION_REFUSED,
                    provider=proposal.provider,
                    agent_id=proposal.agent_id,
                    session_id=proposal.session_id,
                    execution_id=proposal.request.execution_id,
                    form="terminal" if proposal.terminal else None,
                    reason=reason,
                )
            )
            raise

    def begun(self, home: Home, request: ExecRequest, form: str | None = None) -> None:
        """An execution starts; ``form`` is what it is called where it is none of the three."""
        form = form or str(request.form)
        self._report(EventKind.EXECUTION_STARTED, home, request, form)
        self._note(home, request, form=form, started_at=time.time())

    def ended(
        self, home: Home, request: ExecRequest, form: str | None = None
    ) -> Callable[[SandboxResult | StockadeError], None]:
        """What reports the end of an execution; ``form`` as above."""

        def report(end: SandboxResult | StockadeError) -> None:
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
            self._note(home, request, ended_at=time.time(), **plain)
            if not isinstance(end, StockadeError):
                about["duration_seconds"] = end.duration_seconds
            self._report(kind, home, request, form or str(request.form), **about)

        return report

    def _report(
        self, kind: EventKind, home: Home, request: ExecRequest, form: str, **about: Any
    ) -> None:
        self._hooks.notify(
            Event(
                kind=kind,
                provider=home.provider,
                agent_id=home.agent_id,
                session_id=home.session_id,
                execution_id=request.execution_id,
                form=form,
                **about,
            )
        )

    def _note(self, home: Home, request: ExecRequest, **what: Any) -> None:
        if home.config.durable and self._notes is not None:
            self._notes.note_execution(home.session_id, request.execution_id, **what)
