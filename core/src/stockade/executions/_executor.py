"""Starting what one runtime executes: policies first, then the execution in a thread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from stockade._proposals import ExecutionProposal
from stockade.config import OutputPolicy
from stockade.errors import SessionStateError
from stockade.executions._execution import Execution
from stockade.executions._journal import ExecutionNotes, Journal
from stockade.executions._output import BoundedOutput
from stockade.executions._passage import Passage
from stockade.results import Verdict

if TYPE_CHECKING:
    from stockade.executions._home import Home
    from stockade.policies._hooks import Hooks
    from stockade.system.threads import Clock, Workers
    from stockade.wall import ExecRequest, Language

__all__ = ["Executor"]


class Executor:
    """What executions of one runtime share: its threads, its clock, its policies."""

    def __init__(
        self, workers: Workers, clock: Clock, hooks: Hooks, notes: ExecutionNotes | None
    ) -> None:
        """``notes``: where executions of durable sessions are written; None is nowhere."""
        self.workers = workers
        self.clock = clock
        self.journal = Journal(hooks, notes)
        self._hooks = hooks

    @property
    def languages(self) -> Mapping[str, Language]:
        """The languages there are, by name and alias: core's, and those that plug-ins bring."""
        return self._hooks.languages

    def execute(
        self,
        home: Home,
        request: ExecRequest,
        *,
        output_limit: int,
        output_policy: OutputPolicy,
        live: bool = False,
    ) -> Execution:
        """Ask the policies, then start the request; returns at once."""
        home.here()
        if home.paused:
            raise SessionStateError(
                f"session {home.session_id} is paused; resume it before it executes."
            )
        proposal = self.journal.judged(
            ExecutionProposal(
                agent_id=home.agent_id,
                provider=home.provider,
                session_id=home.session_id,
                request=request,
                output_limit_bytes=output_limit,
            )
        )
        execution: Execution

        def excess() -> None:
            execution.stop(Verdict.OUTPUT_LIMIT)

        output = BoundedOutput(
            proposal.output_limit_bytes or output_limit,
            live=live,
            on_excess=excess if output_policy is OutputPolicy.END else None,
        )
        execution = Execution(
            home,
            proposal.request,
            output,
            clock=self.clock,
            workers=self.workers,
            on_end=self.journal.ended(home, request),
            passage=self._passage(home, proposal, output, live),
        )
        home.add(execution)
        try:
            self.journal.begun(home, request)
            execution.begin()
        except BaseException as error:
            execution.abort(error)
            raise
        return execution

    def _passage(
        self, home: Home, proposal: ExecutionProposal, output: BoundedOutput, live: bool
    ) -> Passage | None:
        """Through the middleware, where there is any."""
        if not self._hooks.has_middleware:
            return None
        return Passage(proposal, home.config, output, self._hooks.execute, live=live)
