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
    from stockade.capabilities import Capabilities
    from stockade.config import SandboxConfig
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
        have: Capabilities,
        limits: SandboxConfig,
        live: bool = False,
        joinable: bool = True,
    ) -> Execution:
        """Ask the policies, then start the request; returns at once.

        ``have``: what the wall can do. ``limits``: the session's, with the request's own
        output limit, policy and choice of what is kept. ``joinable``: callers are given the
        execution before its end, so that they may read its output whenever they like.
        """
        proposal = self.judged(
            home,
            ExecutionProposal(
                agent_id=home.agent_id,
                provider=home.provider,
                session_id=home.session_id,
                request=request,
                output_limit_bytes=limits.output_limit_bytes,
            ),
        )
        execution: Execution

        def excess() -> None:
            execution.stop(Verdict.OUTPUT_LIMIT)

        output = BoundedOutput(
            proposal.output_limit_bytes or limits.output_limit_bytes,
            keep=limits.output_keep,
            live=live,
            joinable=joinable,
            on_excess=excess if limits.output_policy is OutputPolicy.END else None,
        )
        execution = Execution(
            home,
            proposal.request,
            output,
            clock=self.clock,
            workers=self.workers,
            on_end=self.journal.ended(home, request),
            have=have,
            passage=self._passage(home, proposal, output, live),
        )
        self.begin(home, execution, request)
        return execution

    def judged(self, home: Home, proposal: ExecutionProposal) -> ExecutionProposal:
        """As ``Journal.judged``; raises SessionStateError if the session may not execute."""
        home.here()
        if home.paused:
            raise SessionStateError(
                f"session {home.session_id} is paused; resume it before it executes."
            )
        return self.journal.judged(proposal)

    def begin(
        self, home: Home, execution: Execution, request: ExecRequest, form: str | None = None
    ) -> None:
        """Count it, report its beginning and start it; what fails at that ends it.

        ``form`` is what it is called where it is none of the three.
        """
        home.add(execution)
        try:
            self.journal.begun(home, request, form)
            execution.begin()
        except BaseException as error:
            execution.abort(error)
            raise

    def _passage(
        self, home: Home, proposal: ExecutionProposal, output: BoundedOutput, live: bool
    ) -> Passage | None:
        """Through the middleware, where there is any."""
        if not self._hooks.has_middleware:
            return None
        return Passage(proposal, home.config, output, self._hooks.execute, live=live)
