"""The way of one execution through the middleware of its runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from stockade._proposals import ExecutionProposal, JudgedExecution
from stockade.config import SandboxConfig
from stockade.errors import StockadeError
from stockade.executions._output import BoundedOutput
from stockade.results import Chunk, SandboxResult, Stream

__all__ = ["Passage"]


class Passage:
    """Where an execution is on its way: with middleware, in the wall, with middleware again."""

    def __init__(
        self,
        proposal: ExecutionProposal,
        config: SandboxConfig,
        output: BoundedOutput,
        execute: Callable[[JudgedExecution], SandboxResult],
        *,
        live: bool,
    ) -> None:
        """``config`` is the session's; ``execute`` calls the hook."""
        self._proposal = proposal
        self._config = config
        self._output = output
        self._execute = execute
        self._live = live
        self._held = False
        #: Whether the wall was asked.
        self.begun = False
        #: Whether the wall is at work: core can then ask it to end the program, and must.
        self.in_wall = False

    def through(self, attempt: Callable[[], SandboxResult]) -> SandboxResult:
        """The result that middleware leaves of what ``attempt`` gives. Raises StockadeError."""

        def run() -> SandboxResult:
            if self.begun:
                raise RuntimeError("an execution runs once")
            self.begun = True
            return attempt()

        proposal = self._proposal
        assert proposal.output_limit_bytes is not None  # that is a terminal's alone
        return self._execute(
            JudgedExecution(
                agent_id=proposal.agent_id,
                provider=proposal.provider,
                session_id=proposal.session_id,
                request=proposal.request,
                output_limit_bytes=proposal.output_limit_bytes,
                config=self._config,
                live=self._live,
                run=run,
                hold=self._hold,
            )
        )

    def to_show(self, end: SandboxResult | StockadeError) -> Iterable[Chunk]:
        """What a live reader has not seen of the result's output."""
        if not isinstance(end, SandboxResult) or (self.begun and not self._held):
            return ()
        return (
            Chunk(Stream.STDOUT, end.stdout_bytes),
            Chunk(Stream.STDERR, end.stderr_bytes),
        )

    def _hold(self) -> None:
        if self.begun:
            raise RuntimeError("hold_output comes too late: call it before the execution")
        self._held = True
        self._output.hold()
