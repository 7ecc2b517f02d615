"""What a session's programs ask of hosts: judged by policies, reported to observers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockade._proposals import RequestProposal
from stockade.events import EventKind
from stockade.policies._hooks import Hooks
from stockade.sessions._reporter import Reporter
from stockade.wall import OutgoingRequest, RequestEnd, RequestWatch

if TYPE_CHECKING:
    from stockade.sessions._registry import SessionRecord

__all__ = ["Requests"]


class Requests(RequestWatch):
    """Of one session, for its present agent: a pool hands sessions out."""

    def __init__(self, record: SessionRecord, hooks: Hooks, reporter: Reporter) -> None:
        self._record = record
        self._hooks = hooks
        self._reporter = reporter

    def judge(self, request: OutgoingRequest) -> None:
        """Raises PolicyRefusedError, PolicyError."""
        self._hooks.judge_request(
            RequestProposal(
                agent_id=self._record.agent_id,
                provider=self._record.provider,
                session_id=self._record.session_id,
                host=request.host,
                port=request.port,
                method=request.method,
                path=request.path,
                secrets=request.secrets,
            )
        )

    def ended(self, request: OutgoingRequest, end: RequestEnd) -> None:
        self._reporter.report(
            EventKind.REQUEST_ENDED,
            self._record.provider,
            self._record.agent_id,
            self._record,
            host=request.host,
            method=request.method,
            outcome=end.outcome.value,
            status=end.status,
            secrets=request.secrets,
            duration_seconds=end.seconds,
            reason=end.reason,
        )
